//! The end of a reconcile: logs what was done, writes the status, emits events, and requeues the resource.
//!
//! An outage of the database is reported in `outage.rs`, and a finished deletion in `deletion.rs`.

use super::context::{Context, LONGEST_BACKOFF, ReconcileResult};
use super::next_attempt::{Next, next_attempt};
use super::outage::is_same_outage;
use super::refusal_limit::{LIMIT, Verdict};
use super::work::Action;
use crate::api::{ApiAccount, ApiAccountStatus, KeyStatus};
use crate::reconcile::{NotReady, Outcome, newly_used_late, show_last_uses, status};
use crate::telemetry::LostEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::time::{Duration, Instant};

/// The longest pause for a resource that waits for another program or a user. Their changes usually requeue it earlier.
const OBSTACLE_RECHECK: Duration = Duration::from_mins(10);

impl Context {
    /// Writes the status if it says anything new, logs and emits what happened, and returns when to reconcile again.
    pub(super) async fn report(
        &self,
        resource: &ApiAccount,
        secret_name: &str,
        outcome: Outcome,
        previous: Option<ApiAccountStatus>,
    ) -> ReconcileResult {
        if let Some(NotReady::Unconfirmed(why)) = &outcome.not_ready {
            return Ok((self.leave_to_newer_reconcile(resource, &outcome, &why.0), None));
        }
        let status = self.status_of(resource, secret_name, &outcome, previous.as_ref());
        let reference = ObjectRef::from_obj(resource);
        if let Some(left) = self.revocations.time_left(&reference, &outcome, Instant::now())
            && !says_the_same(previous.as_ref(), &status)
            && !is_fought_over(&outcome)
        {
            return Ok((self.leave_to_later_reconcile(resource, &outcome, left), Some(outcome)));
        }
        self.publish(resource, &outcome, previous.as_ref(), &status).await?;
        let (now, wall_clock) = (Instant::now(), self.environment.now());
        if let Some(took) = self.pickups.reported(resource, &outcome, now, wall_clock) {
            self.metrics.picked_up(took);
        }
        let action = self.requeue(resource, &outcome);
        Ok((action, Some(outcome)))
    }

    /// Ends the reconcile of a declaration that may be outdated. No status is written: that is left to a reconcile that
    /// knows the newer declaration.
    fn leave_to_newer_reconcile(&self, resource: &ApiAccount, outcome: &Outcome, why: &str) -> Action {
        let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
        tracing::debug!(namespace, name, "{why}; nothing more is done for now");
        self.log_done_for(resource, &outcome.done);
        self.emit_events(resource, outcome, false);
        self.retry_later(resource, LONGEST_BACKOFF)
    }

    /// Ends a reconcile whose status may report a narrower access than auth servers still give from memory. The status is
    /// written by the reconcile that follows after this time.
    fn leave_to_later_reconcile(&self, resource: &ApiAccount, outcome: &Outcome, left: Duration) -> Action {
        self.log_done_for(resource, &outcome.done);
        self.emit_events(resource, outcome, false);
        let reference = ObjectRef::from_obj(resource);
        self.waiting.update(&reference, outcome, Instant::now());
        self.versions.reconciled(&reference, outcome.account.as_ref().map(|account| account.version));
        Action::requeue(left)
    }

    fn status_of(
        &self,
        resource: &ApiAccount,
        secret_name: &str,
        outcome: &Outcome,
        previous: Option<&ApiAccountStatus>,
    ) -> ApiAccountStatus {
        let now = self.environment.now();
        let mut status = status(resource.metadata.generation, secret_name, outcome, previous, now);
        if outcome.account.is_some()
            && let Some(identity) = self.creations.identity()
        {
            status.database_id = Some(identity);
        }
        show_last_uses(&mut status.keys, &self.last_uses.of(&ObjectRef::from_obj(resource)));
        status
    }

    async fn publish(
        &self,
        resource: &ApiAccount,
        outcome: &Outcome,
        previous: Option<&ApiAccountStatus>,
        status: &ApiAccountStatus,
    ) -> Result<(), kube::Error> {
        let is_same_outage = is_same_outage(outcome, previous, status);
        let is_new_reason = !is_same_outage && ready_text(previous) != ready_text(Some(status));
        self.log_done_for(resource, &outcome.done);
        self.waiting.update(&ObjectRef::from_obj(resource), outcome, Instant::now());
        let is_new = !is_same_outage && !says_the_same(previous, status);
        let written = if is_new { self.patch_status(resource, status).await } else { Ok(()) };
        // A change is not made again, so its event is emitted now or never. A reason is reported again by the next
        // attempt.
        self.emit_events(resource, outcome, is_new_reason && written.is_ok());
        if is_new && written.is_ok() {
            self.report_late_uses(resource, previous, status);
        }
        written
    }

    pub(super) fn emit_events(&self, resource: &ApiAccount, outcome: &Outcome, is_new_reason: bool) {
        self.events.emit_done(resource, &outcome.done);
        if let Some(not_ready) = &outcome.not_ready
            && is_new_reason
        {
            self.report_refusal(resource, not_ready);
        }
    }

    /// Logs and emits events about old key pairs that a partner is found to use in the second half of their overlap.
    fn report_late_uses(&self, resource: &ApiAccount, previous: Option<&ApiAccountStatus>, status: &ApiAccountStatus) {
        let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
        let before = previous.map(|previous| previous.keys.as_slice()).unwrap_or_default();
        for key in newly_used_late(before, &status.keys) {
            let note = late_use(key);
            tracing::warn!(namespace, name, "{note}");
            self.events.emit_late_use(resource, &note);
        }
    }

    /// Logs a refusal and emits an event about it, unless too many refusals have the same reason.
    fn report_refusal(&self, resource: &ApiAccount, not_ready: &NotReady) {
        let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
        let reason = not_ready.reason();
        match self.refusals.decide(reason, Instant::now()) {
            Verdict::Report => {
                tracing::warn!(namespace, name, %reason, "{not_ready}");
                self.events.emit_not_ready(resource, not_ready);
                return;
            }
            Verdict::LeaveOutFirst => tracing::warn!(
                %reason,
                "{LIMIT} ApiAccounts became {reason} within a minute; further log lines and events about {reason} are left out \
                 for the rest of this minute, and the status of each ApiAccount says the same"
            ),
            Verdict::LeaveOut => {}
        }
        tracing::debug!(namespace, name, %reason, "{not_ready}");
        self.metrics.lost_events(LostEvent::Limited, 1);
    }

    fn requeue(&self, resource: &ApiAccount, outcome: &Outcome) -> Action {
        let version = outcome.account.as_ref().map(|account| account.version);
        let changed_again = self.versions.reconciled(&ObjectRef::from_obj(resource), version);
        let (next, is_success) = next_attempt(outcome, changed_again, self.environment.now());
        if is_success {
            self.memory.succeeded(resource);
        }
        match next {
            Next::OnChange => Action::await_change(),
            Next::After(pause) => Action::requeue(pause),
            Next::Backoff { longest } => self.retry_later(resource, longest),
            Next::WithoutObstacle => self.requeue_spread(OBSTACLE_RECHECK),
        }
    }
}

/// Returns whether other writers keep changing the account. Its status says so, and does not wait until they stop.
fn is_fought_over(outcome: &Outcome) -> bool {
    matches!(outcome.not_ready, Some(NotReady::RepeatedDrift { .. } | NotReady::Contended))
}

/// Returns whether the status has nothing new. The first id of a database alone does not count, so that an upgrade does
/// not write every status.
fn says_the_same(previous: Option<&ApiAccountStatus>, status: &ApiAccountStatus) -> bool {
    previous.is_some_and(|previous| match &previous.database_id {
        None => *previous == ApiAccountStatus { database_id: None, ..status.clone() },
        Some(_) => previous == status,
    })
}

/// Describes the use of an old key pair that ends soon. The pair is named by its id, since no event has a key.
fn late_use(key: &KeyStatus) -> String {
    let time = |time: Option<&Time>| time.map_or_else(|| "an unknown time".to_owned(), |time| time.0.to_string());
    format!(
        "a partner still logs in with the old key pair {}, which ends at {}; the last login was at {}. Have the partner's program read the Secret again",
        key.id,
        time(key.expires.as_ref()),
        time(key.last_used.as_ref())
    )
}

/// What the Ready condition says, except since when.
fn ready_text(status: Option<&ApiAccountStatus>) -> Option<(&str, &str, &str)> {
    let ready = status?.ready()?;
    Some((&ready.status, &ready.reason, &ready.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_the_database_is_first_written_together_with_something_else() {
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
}
