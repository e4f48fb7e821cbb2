//! The reconcile function of the work queue: one resource, from the queue to its next attempt.
//!
//! A resource that is declared goes through `apply.rs`, one that is being deleted through `deletion.rs`. Both usually end in
//! `report.rs`, which writes the status, emits events and asks `next_attempt.rs`. The exceptions are a panic (`panics.rs`), a start
//! without a database (`outage.rs`), and a deletion that is finished or waits.

use super::context::{Context, LONGEST_BACKOFF, ReconcileResult};
use super::held::Key;
use super::panics::{Panicked, catch_panic};
use super::work::Action;
use crate::api::{ApiAccount, FINALIZER};
use crate::kube_error::reason;
use crate::telemetry::traces::{self, Ending};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reconciles one resource and returns when to reconcile it again.
///
/// # Errors
/// The API server did not accept a finalizer or a status.
pub(super) async fn reconcile(
    key: &Key,
    resource: Arc<ApiAccount>,
    context: Arc<Context>,
) -> Result<Action, kube::Error> {
    // All resources are reconciled when this controller becomes the leader.
    if !context.leadership.is_leader() {
        return Ok(Action::await_change());
    }
    // The work queue of each namespace has a limit of its own; this one is for all of them together.
    let Ok(_slot) = context.slots.acquire().await else { return Ok(Action::await_change()) };
    let reference = ObjectRef::from_obj(&*resource);
    let in_work = context.in_work.begin(reference.clone());
    let started = Instant::now();
    context.versions.begin(key);
    let attempt = async {
        match catch_panic(Box::pin(context.attempt(&resource))).await {
            Ok(result) => result,
            Err(Panicked) => context.panicked(&resource).await,
        }
    };
    let trace = traces::Reconcile {
        namespace: &resource.namespace().unwrap_or_default(),
        name: &resource.name_any(),
        generation: resource.metadata.generation,
        waited: context.pickups.began(key, started).unwrap_or_default(),
    };
    let result = traces::reconcile(trace, attempt, ending).await;
    context.versions.end(&reference);
    context.memory.attempt_ended(&resource);
    context.measure(&result, started.elapsed());
    let (action, outcome) = result?;
    let verified = outcome.as_ref().and_then(|outcome| outcome.secret_version.as_deref());
    let is_finished_deletion = resource.metadata.deletion_timestamp.is_some()
        && outcome.as_ref().is_some_and(|outcome| outcome.not_ready.is_none());
    let secret_changed_again = in_work.end(verified) && !is_finished_deletion;
    Ok(if secret_changed_again { Action::requeue(Duration::ZERO) } else { action })
}

/// Returns what the trace of an attempt says about its end.
fn ending(result: &ReconcileResult) -> Ending {
    let failure = match result {
        Ok((_, outcome)) => {
            let not_ready = outcome.as_ref().and_then(|outcome| outcome.not_ready.as_ref());
            not_ready.map(|not_ready| not_ready.reason().to_string())
        }
        Err(error) => Some(reason(error)),
    };
    Ending { status: None, failure }
}

/// Requeues a resource after the API server did not accept a write.
pub(super) fn on_error(resource: &ApiAccount, error: &kube::Error, context: &Context) -> Action {
    let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
    tracing::warn!(namespace, name, "the API server did not accept a write: {}; trying again", reason(error));
    context.retry_later(resource, LONGEST_BACKOFF)
}

impl Context {
    async fn attempt(&self, resource: &ApiAccount) -> ReconcileResult {
        let has_finalizer = resource.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
        match (&resource.metadata.deletion_timestamp, has_finalizer) {
            (Some(_), false) => Ok((Action::await_change(), None)),
            (Some(_), true) => self.delete(resource).await,
            (None, _) => self.apply(resource, has_finalizer).await,
        }
    }

    fn measure(&self, result: &ReconcileResult, took: Duration) {
        match result {
            Ok((_, Some(outcome))) => self.metrics.reconciled(outcome, took),
            Ok((_, None)) => {}
            Err(_) => self.metrics.write_refused(took),
        }
    }
}
