//! One resource: finalizer, reconcile, status, events and log lines.

use super::brake::Brake;
use super::connect::{Connection, Ready};
use super::creation::Creations;
use super::events::Events;
use super::memory::Memory;
use super::outage::is_same_outage;
use super::panics::{Panicked, catch_panic};
use super::patch::status_patch;
use super::resources::{Resources, Stores};
use super::versions::Versions;
use super::waiting::Waiting;
use crate::account::{ClusterId, Life, Period};
use crate::api::{ApiAccount, ApiAccountStatus, FINALIZER, MANAGER, ManagementPolicy, Reason, condition};
use crate::database::DatabaseError;
use crate::kube_error::reason;
use crate::reconcile::{Desired, Done, History, NotReady, Obstacle, Outcome, Verified, status};
use crate::telemetry::Metrics;
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// How long a resource with something ahead of it is left alone at most.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// How long to wait at most before the next try of what may pass by itself.
pub(super) const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How long a resource whose way is blocked by what others have is left alone at most.
const OBSTACLE_RECHECK: Duration = Duration::from_mins(10);

/// What every resource is reconciled with.
pub(super) struct Context {
    pub client: Client,
    pub cluster: ClusterId,
    pub connection: watch::Receiver<Connection>,
    /// When the controller began.
    pub started: Instant,
    pub events: Events,
    pub memory: Arc<Memory>,
    pub versions: Versions,
    pub brake: Brake,
    pub waiting: Waiting,
    pub creations: Arc<Creations>,
    pub stores: Arc<Stores>,
    /// How many scopes are watched.
    pub scopes: usize,
    /// One for each resource that may be reconciled at a time. Closed once the controller is stopping.
    pub slots: Semaphore,
    /// How often keys may be rotated by themselves at most.
    pub least_interval: Period,
    pub metrics: Arc<Metrics>,
}

/// When to look again, and what came of this look; no outcome if there was no look at all.
pub(super) type ReconcileResult = Result<(Action, Option<Outcome>), kube::Error>;

/// Reconciles one resource and answers when to look again.
///
/// # Errors
/// The API server did not take a finalizer or a status.
pub(super) async fn reconcile(resource: Arc<ApiAccount>, context: Arc<Context>) -> Result<Action, kube::Error> {
    // The work queue of each namespace has a limit of its own; this one is for all of them.
    let Ok(_turn) = context.slots.acquire().await else { return Ok(Action::await_change()) };
    let has_finalizer = resource.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    let reference = ObjectRef::from_obj(&*resource);
    context.versions.begin(&reference);
    let started = Instant::now();
    let work = async {
        match (&resource.metadata.deletion_timestamp, has_finalizer) {
            (Some(_), false) => Ok((Action::await_change(), None)),
            (Some(_), true) => context.release(&resource).await,
            (None, _) => context.apply(&resource, has_finalizer).await,
        }
    };
    let looked = match catch_panic(Box::pin(work)).await {
        Ok(looked) => looked,
        Err(Panicked) => context.panicked(&resource).await,
    };
    context.versions.end(&reference);
    context.memory.attempt_ended(&resource);
    match &looked {
        Ok((_, Some(outcome))) => context.metrics.reconciled(outcome, started.elapsed()),
        Ok((_, None)) => {}
        Err(_) => context.metrics.not_taken(started.elapsed()),
    }
    looked.map(|(action, _)| action)
}

/// What to do after the API server did not take something.
#[expect(clippy::needless_pass_by_value, reason = "the signature of kube's error policies")]
pub(super) fn on_error(resource: Arc<ApiAccount>, error: &kube::Error, context: Arc<Context>) -> Action {
    let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
    tracing::warn!(namespace, name, "the API server did not take a change: {}; trying again", reason(error));
    context.retry_later(&resource, LONGEST_WAIT)
}

impl Context {
    async fn apply(&self, resource: &ApiAccount, has_finalizer: bool) -> ReconcileResult {
        let previous = self.memory.status(resource);
        let desired = match Desired::parse_for(resource, &self.cluster, self.least_interval) {
            Ok(desired) => desired,
            Err(invalid) => {
                let outcome = Outcome::blocked(NotReady::InvalidSpec(invalid));
                return self.report(resource, "", outcome, previous).await;
            }
        };
        let Some(ready) = self.ready().await else {
            return Ok((Action::await_change(), None));
        };
        let outcome = match ready {
            Err(not_ready) => {
                return self.report_outage(resource, &desired.secret.at.name, not_ready, previous).await;
            }
            Ok(ready) => {
                // Before the account is made: without it, a deletion would leave the account behind, enabled.
                let is_made = !desired.paused && desired.management == ManagementPolicy::Enforce;
                if is_made && !has_finalizer {
                    self.patch_finalizers(resource, true).await?;
                }
                let known = ready.startup_accounts.take(&desired.owner);
                let verified = previous.as_ref().and_then(Verified::of);
                let corrections = self.memory.corrections(resource);
                let patience = History::new(&corrections, previous.as_ref(), desired.generation, Instant::now())
                    .with_obstacle(previous.as_ref().and_then(|status| Obstacle::of(status, desired.generation)));
                let looked = ready.reconciler.reconcile_with(&patience, &desired, verified.as_ref(), known);
                let outcome = self.check_repeated_drift(resource, looked.await, previous.as_ref());
                // It was there before: without it, a deletion would do to the account whatever becomes of one that has lost
                // its resource.
                let is_live = outcome.account.as_ref().is_some_and(|account| account.life == Life::Live);
                if !is_made && is_live && !has_finalizer {
                    self.patch_finalizers(resource, true).await?;
                }
                outcome.attribute_drift(previous.as_ref(), desired.generation)
            }
        };
        self.report(resource, &desired.secret.at.name, outcome, previous).await
    }

    /// Remembers what was put back, and says so if something keeps changing it.
    fn check_repeated_drift(
        &self,
        resource: &ApiAccount,
        mut outcome: Outcome,
        previous: Option<&ApiAccountStatus>,
    ) -> Outcome {
        let (now, parts) = (Instant::now(), outcome.corrected(previous, resource.metadata.generation));
        let corrections = self.memory.record_corrections(resource, parts, now);
        if let (None, Some((parts, over))) = (&outcome.not_ready, corrections.repeated(now)) {
            let calm = SignedDuration::try_from(over).ok().and_then(|over| Timestamp::now().checked_add(over).ok());
            outcome.next_look = outcome.next_look.into_iter().chain(calm).min();
            outcome.not_ready = Some(NotReady::RepeatedDrift { parts });
        }
        outcome
    }

    /// The resources there are, once all of them have been listed.
    pub fn resources(&self) -> Option<Resources> {
        self.stores.complete(self.scopes)
    }

    /// Waits for the end of the first try, which is soon, so that a start does not look like an outage. `None` when the
    /// controller is ending.
    pub(super) async fn ready(&self) -> Option<Result<Arc<Ready>, NotReady>> {
        let mut connection = self.connection.clone();
        let tried = connection.wait_for(|connection| !matches!(connection, Connection::Trying)).await;
        match tried.as_deref().ok()? {
            Connection::Trying => None,
            Connection::Ready(ready) => Some(Ok(Arc::clone(ready))),
            Connection::Waiting { reason, is_login } => {
                let reason = reason.clone();
                Some(Err(NotReady::Database(if *is_login {
                    DatabaseError::LoginRefused { reason }
                } else {
                    DatabaseError::Unavailable { reason }
                })))
            }
        }
    }

    /// Writes the status if it says anything new, tells what happened, and answers when to look again.
    pub(super) async fn report(
        &self,
        resource: &ApiAccount,
        secret_name: &str,
        outcome: Outcome,
        previous: Option<ApiAccountStatus>,
    ) -> ReconcileResult {
        if let Some(NotReady::Unconfirmed(why)) = &outcome.not_ready {
            // Its status is for whoever sees the resource as it is now.
            let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
            tracing::debug!(namespace, name, "{why}; nothing more is done for now");
            self.log_done(&namespace, &name, &outcome.done);
            self.emit_events(resource, &outcome, false);
            return Ok((self.retry_later(resource, LONGEST_WAIT), None));
        }
        let now = Timestamp::now();
        let mut status = status(resource.metadata.generation, secret_name, &outcome, previous.as_ref(), now);
        if outcome.account.is_some()
            && let Some(identity) = self.creations.identity()
        {
            status.database_id = Some(identity);
        }
        let is_same_outage = is_same_outage(&outcome, previous.as_ref(), &status);
        let is_new_refusal = !is_same_outage && ready_text(previous.as_ref()) != ready_text(Some(&status));
        self.log_done(&resource.namespace().unwrap_or_default(), &resource.name_any(), &outcome.done);
        self.waiting.update(&ObjectRef::from_obj(resource), &outcome, Instant::now());
        let is_new = !is_same_outage && !says_the_same(previous.as_ref(), &status);
        let written = if is_new { self.patch_status(resource, &status).await } else { Ok(()) };
        // What was done is not done again, so this is the only time to tell it. A refusal comes again with the next try.
        self.emit_events(resource, &outcome, is_new_refusal && written.is_ok());
        written?;
        let version = outcome.account.as_ref().map(|account| account.version);
        let changed_again = self.versions.reconciled(&ObjectRef::from_obj(resource), version);
        let action = match &outcome.not_ready {
            Some(NotReady::DeletionHeld { .. }) if changed_again => Action::requeue(Duration::ZERO),
            Some(not_ready)
                if matches!(not_ready.reason(), Reason::InvalidSpec | Reason::DeletionHeld | Reason::CreationHeld) =>
            {
                Action::await_change()
            }
            // Whoever brings it about is heard of, and all that wait are looked for together.
            Some(not_ready) if not_ready.obstacle().is_some() => {
                Action::requeue(OBSTACLE_RECHECK.mul_f64(0.5 + rand::random::<f64>() / 2.0))
            }
            Some(NotReady::RepeatedDrift { .. }) if changed_again => Action::requeue(Duration::ZERO),
            Some(NotReady::RepeatedDrift { .. }) => outcome
                .next_look
                .map_or_else(|| self.retry_later(resource, LONGEST_WAIT), |at| Action::requeue(until(at, now))),
            Some(not_ready) if !not_ready.is_intended() => self.retry_later(resource, not_ready.longest_pause()),
            _ if !changed_again && is_left_undone(&outcome, now) => self.retry_later(resource, LONGEST_WAIT),
            _ => {
                self.memory.succeeded(resource);
                match outcome.next_look {
                    _ if changed_again => Action::requeue(Duration::ZERO),
                    Some(at) => Action::requeue(until(at, now)),
                    None => Action::await_change(),
                }
            }
        };
        Ok((action, Some(outcome)))
    }

    /// One line for each thing that was done, and one more in its count.
    pub fn log_done(&self, namespace: &str, name: &str, done: &[Done]) {
        for done in done {
            tracing::info!(namespace, name, change = done.reason(), "{done}");
            self.metrics.done(done);
        }
    }

    pub(super) fn emit_events(&self, resource: &ApiAccount, outcome: &Outcome, is_new_refusal: bool) {
        let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
        for done in &outcome.done {
            self.events.emit_done(resource, done);
        }
        if let Some(not_ready) = &outcome.not_ready
            && is_new_refusal
        {
            tracing::warn!(namespace, name, reason = %not_ready.reason(), "{not_ready}");
            self.events.emit_refusal(resource, not_ready);
        }
    }

    pub(super) fn retry_later(&self, resource: &ApiAccount, longest: Duration) -> Action {
        Action::requeue(self.memory.pause_after_failure(resource, longest, rand::random()))
    }

    fn api(&self, resource: &ApiAccount) -> Api<ApiAccount> {
        Api::namespaced(self.client.clone(), &resource.namespace().unwrap_or_default())
    }

    /// The version that was seen goes along: if anything changed since, nothing is patched and the next look decides.
    pub(super) async fn patch_finalizers(&self, resource: &ApiAccount, wanted: bool) -> Result<(), kube::Error> {
        let mut finalizers = resource.finalizers().to_vec();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        if wanted {
            finalizers.push(FINALIZER.to_owned());
        }
        let patch = json!({
            "metadata": { "resourceVersion": resource.resource_version(), "finalizers": finalizers }
        });
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.api(resource).patch_metadata(&resource.name_any(), &params, &Patch::Merge(patch)).await?;
        Ok(())
    }

    pub(super) async fn patch_status(
        &self,
        resource: &ApiAccount,
        status: &ApiAccountStatus,
    ) -> Result<(), kube::Error> {
        let has_status = self.memory.status(resource).is_some();
        let patch = status_patch(resource.metadata.uid.as_deref(), has_status, status)
            .and_then(serde_json::from_value)
            .map_err(kube::Error::SerdeError)?;
        let patch = Patch::Json::<()>(patch);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let written = self.api(resource).patch_status(&resource.name_any(), &params, &patch).await?;
        self.memory.status_written(&written);
        Ok(())
    }
}

/// From now to then; a moment if that is past, since a clock may have been set back in between, and at most so long that
/// a clock which is set forward, or a machine that slept, is soon noticed: pauses are counted by another clock.
fn until(then: Timestamp, now: Timestamp) -> Duration {
    let pause = Duration::try_from(then.duration_since(now)).unwrap_or_default();
    pause.clamp(Duration::from_millis(100), LONGEST_PAUSE)
}

/// Whether it is time for something, and nothing was done: the next look will hardly do it either.
fn is_left_undone(outcome: &Outcome, now: Timestamp) -> bool {
    outcome.done.is_empty() && outcome.next_look.is_some_and(|at| at <= now)
}

/// Whether the status says no more than the one before. Which database has the account is first written down with whatever
/// else is new: after an upgrade, nothing is written for that alone.
fn says_the_same(previous: Option<&ApiAccountStatus>, status: &ApiAccountStatus) -> bool {
    previous.is_some_and(|previous| match &previous.database_id {
        None => *previous == ApiAccountStatus { database_id: None, ..status.clone() },
        Some(_) => previous == status,
    })
}

/// What the Ready condition says, but for when.
pub(super) fn ready_text(status: Option<&ApiAccountStatus>) -> Option<(&str, &str, &str)> {
    let ready = status?.conditions.iter().find(|condition| condition.type_ == condition::READY)?;
    Some((&ready.status, &ready.reason, &ready.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_steps_is_noticed_within_the_hour() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(until(at(90), at(60)), Duration::from_secs(30));
        assert_eq!(until(at(60), at(90)), Duration::from_millis(100));
        assert_eq!(until(at(60), at(60)), Duration::from_millis(100));
        assert_eq!(until(at(1_000_000), at(0)), Duration::from_hours(1));
    }

    #[test]
    fn which_database_it_is_is_written_down_with_something_else_and_then_kept_true() {
        let known = |database: Option<&str>, account: &str| ApiAccountStatus {
            account_id: Some(account.to_owned()),
            database_id: database.map(str::to_owned),
            ..ApiAccountStatus::default()
        };
        assert!(says_the_same(Some(&known(None, "a")), &known(Some("one"), "a")));
        assert!(!says_the_same(Some(&known(None, "a")), &known(Some("one"), "b")));
        assert!(!says_the_same(Some(&known(Some("one"), "a")), &known(Some("two"), "a")));
        assert!(says_the_same(Some(&known(Some("one"), "a")), &known(Some("one"), "a")));
        assert!(!says_the_same(None, &known(None, "a")));
    }

    #[test]
    fn what_is_due_and_was_not_done_is_no_reason_to_look_at_once() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let next = |seconds| Outcome { next_look: Some(at(seconds)), ..Outcome::default() };
        assert!(is_left_undone(&next(59), at(60)) && is_left_undone(&next(60), at(60)));
        assert!(!is_left_undone(&next(61), at(60)) && !is_left_undone(&Outcome::default(), at(60)));
        assert!(!is_left_undone(&Outcome { done: vec![Done::Adopted], ..next(59) }, at(60)));
    }
}
