//! A start without the account database: reported on the resources late, once, and without events.
//!
//! An outage concerns all resources alike. The log, the metrics and the readiness probe report it at once. The
//! resources report it only if it lasts, so that a database that starts a little later than the controller causes no
//! status writes.

use super::context::{Context, ReconcileResult};
use super::work::Action;
use crate::api::{ApiAccount, ApiAccountStatus, Reason, condition};
use crate::reconcile::{NotReady, Outcome, status};
use kube::ResourceExt;
use std::time::{Duration, Instant};

/// How long after the start a resource keeps a status that is about its present spec.
const GRACE: Duration = Duration::from_secs(30);

impl Context {
    /// Reports on the resource that the database is not available yet, once the grace period is over. The resource is
    /// reconciled again once the database is available, and at long intervals before, since a user may have to act.
    pub(super) async fn report_outage(
        &self,
        resource: &ApiAccount,
        secret_name: &str,
        outage: NotReady,
        previous: Option<ApiAccountStatus>,
    ) -> ReconcileResult {
        let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
        if let Some(left) = grace_left(
            previous.as_ref(),
            resource.metadata.generation,
            self.leads_since.get().map_or(Duration::ZERO, Instant::elapsed),
        ) {
            tracing::debug!(namespace, name, "the resource waits for the account database");
            return Ok((Action::requeue(left + GRACE.mul_f64(self.environment.jitter())), None));
        }
        let outcome = Outcome::blocked(outage);
        let now = self.environment.now();
        let status = status(resource.metadata.generation, secret_name, &outcome, previous.as_ref(), now);
        if !already_reports_outage(previous.as_ref(), &status) {
            tracing::debug!(namespace, name, "reporting on the resource that the account database is not available");
            self.patch_status(resource, &status).await?;
        }
        Ok((self.requeue_spread(GRACE), Some(outcome)))
    }
}

/// Returns how much longer to report nothing; `None`: report now. A resource whose spec has changed reports at once.
fn grace_left(previous: Option<&ApiAccountStatus>, generation: Option<i64>, since_start: Duration) -> Option<Duration> {
    let is_current = previous.is_some_and(|status| status.observed_generation == generation);
    GRACE.checked_sub(since_start).filter(|left| is_current && !left.is_zero())
}

/// Returns whether the previous status already reports that the database is not available. The messages of one outage
/// vary: one connection is reset, the next gets no answer.
pub(super) fn is_same_outage(outcome: &Outcome, previous: Option<&ApiAccountStatus>, told: &ApiAccountStatus) -> bool {
    let is_away = matches!(&outcome.not_ready, Some(NotReady::Database(error)) if error.is_unavailable());
    is_away && outcome.done.is_empty() && already_reports_outage(previous, told)
}

/// Returns whether the previous status reports the same outage, with any message: the database is not available, and a
/// user has to act or not.
fn already_reports_outage(previous: Option<&ApiAccountStatus>, told: &ApiAccountStatus) -> bool {
    let is_stalled =
        |status: &ApiAccountStatus| status.conditions.iter().any(|condition| condition.type_ == condition::STALLED);
    previous.is_some_and(|previous| {
        previous.observed_generation == told.observed_generation && is_stalled(previous) == is_stalled(told)
    }) && previous.is_some_and(|previous| previous.has_reason(Reason::DatabaseUnavailable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::DatabaseError;
    use jiff::Timestamp;

    fn of(generation: i64) -> ApiAccountStatus {
        ApiAccountStatus { observed_generation: Some(generation), ..ApiAccountStatus::default() }
    }

    #[test]
    fn only_a_resource_that_is_as_it_was_is_left_so_for_a_while() {
        let second = Duration::from_secs;
        assert_eq!(grace_left(Some(&of(3)), Some(3), second(10)), Some(second(20)));
        assert_eq!(grace_left(Some(&of(3)), Some(3), GRACE), None);
        assert_eq!(grace_left(Some(&of(2)), Some(3), second(10)), None);
        assert_eq!(grace_left(None, Some(1), second(10)), None);
    }

    #[test]
    fn an_outage_is_said_once_in_whichever_words_and_again_when_a_person_has_to_act() {
        let told = |error: DatabaseError, generation: i64| {
            let outcome = Outcome::blocked(NotReady::Database(error));
            status(Some(generation), "", &outcome, Some(&of(generation)), Timestamp::UNIX_EPOCH)
        };
        let away =
            |reason: &str, generation| told(DatabaseError::Unavailable { reason: reason.to_owned() }, generation);
        let refused = told(DatabaseError::LoginRefused { reason: "wrong password".to_owned() }, 3);
        let before = away("refused", 3);
        assert!(
            already_reports_outage(Some(&before), &away("no answer", 3))
                && !already_reports_outage(Some(&before), &away("refused", 4))
        );
        assert!(!already_reports_outage(Some(&before), &refused) && already_reports_outage(Some(&refused), &refused));
        assert!(!already_reports_outage(Some(&refused), &before));
        assert!(!already_reports_outage(Some(&of(3)), &before) && !already_reports_outage(None, &before));
    }
}
