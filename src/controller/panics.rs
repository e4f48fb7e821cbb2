//! A panic in the work on one resource: it ends that work, and concerns no other resource.

use super::object::{Context, LONGEST_WAIT, ReconcileResult};
use crate::api::ApiAccount;
use crate::reconcile::{NotReady, Outcome, is_held};
use futures::FutureExt;
use kube::ResourceExt;
use std::panic::AssertUnwindSafe;

/// The work panicked. What the panic said is not kept: it may have been about a key.
#[derive(Debug)]
pub(super) struct Panicked;

/// Does the work, and turns a panic into an answer.
pub(super) async fn catch_panic<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    // What others share with the work is behind locks that take a panic of their holder into account.
    AssertUnwindSafe(work).catch_unwind().await.map_err(|_| Panicked)
}

impl Context {
    /// Says on the resource that the work on it panicked, and answers when to try again.
    pub(super) async fn panicked(&self, resource: &ApiAccount) -> ReconcileResult {
        let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
        tracing::error!(
            namespace,
            name,
            "the work on this resource panicked, which is a bug in opsadmin: please report it with the line that says where; \
             other resources are not concerned, and this one is tried again"
        );
        let previous = self.memory.status(resource);
        if is_held(previous.as_ref()) {
            // Its status is all that says so after a restart: it is not overwritten.
            return Ok((self.retry_later(resource, LONGEST_WAIT), None));
        }
        let reporting = self.report(resource, "", Outcome::blocked(NotReady::Panicked), previous);
        match catch_panic(Box::pin(reporting)).await {
            Ok(reported) => reported,
            Err(Panicked) => Ok((self.retry_later(resource, LONGEST_WAIT), None)),
        }
    }
}

#[cfg(test)]
mod tests;
