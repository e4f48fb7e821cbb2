//! A panic while one resource is reconciled: it ends that reconcile, and affects no other resource.

use super::context::{Context, LONGEST_BACKOFF, ReconcileResult};
use crate::api::ApiAccount;
use crate::reconcile::{NotReady, Outcome, is_held};
use futures::FutureExt;
use kube::ResourceExt;
use std::panic::AssertUnwindSafe;

/// The work panicked. The panic's message is not kept: it may contain a key.
#[derive(Debug)]
pub(super) struct Panicked;

/// Does the work, and returns a panic as an error.
pub(super) async fn catch_panic<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    // Shared state is behind locks that recover from a panic of their holder.
    AssertUnwindSafe(work).catch_unwind().await.map_err(|_| Panicked)
}

impl Context {
    /// Reports on the resource that its reconcile panicked, and returns when to try again.
    pub(super) async fn panicked(&self, resource: &ApiAccount) -> ReconcileResult {
        let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
        tracing::error!(
            namespace,
            name,
            "the reconcile of this resource panicked, which is a bug in opsadmin: please report it with the log line of the panic; \
             other resources are not affected, and this one is retried"
        );
        let previous = self.memory.status(resource);
        if is_held(previous.as_ref()) {
            // After a restart, only the status says that the deletion is held. So the status is not overwritten.
            return Ok((self.retry_later(resource, LONGEST_BACKOFF), None));
        }
        let reporting = self.report(resource, "", Outcome::blocked(NotReady::Panicked), previous);
        match catch_panic(Box::pin(reporting)).await {
            Ok(reported) => reported,
            Err(Panicked) => Ok((self.retry_later(resource, LONGEST_BACKOFF), None)),
        }
    }
}

#[cfg(test)]
mod tests;
