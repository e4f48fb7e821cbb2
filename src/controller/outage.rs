//! A start without the account database: said on the resources late, once, and without an event on each.
//!
//! One outage concerns every resource alike. The log, the metrics and the readiness tell of it at once; the resources only if it
//! lasts, so that a fleet that is as declared costs no write for a database that comes a little later than its controller.

use super::object::{Controlled, Looked, ready_text};
use crate::api::{ApiAccount, ApiAccountStatus, Reason};
use crate::reconcile::{Outcome, Refusal, status};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use std::time::Duration;

/// How long after the start a resource whose status speaks of what it declares now is left as it is.
const GRACE: Duration = Duration::from_secs(30);

impl Controlled {
    /// Says that there is no database yet, if it is time to. The resource is looked at again once there is one.
    pub(super) async fn without_database(
        &self,
        resource: &ApiAccount,
        secret_name: &str,
        refusal: Refusal,
        previous: Option<ApiAccountStatus>,
    ) -> Looked {
        let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
        if let Some(pause) = patience(previous.as_ref(), resource.metadata.generation, self.started.elapsed()) {
            tracing::debug!(namespace, name, "the resource waits for the account database");
            return Ok((Action::requeue(pause + GRACE.mul_f64(rand::random())), None));
        }
        let outcome = Outcome::refused(refusal);
        if !says_so(previous.as_ref(), resource.metadata.generation) {
            tracing::debug!(namespace, name, "the resource is told that the account database is not available");
            let told = status(resource.metadata.generation, secret_name, &outcome, previous.as_ref(), Timestamp::now());
            self.patch_status(resource, &told).await?;
        }
        Ok((Action::await_change(), Some(outcome)))
    }
}

/// How much longer to say nothing; `None`: not at all. Whoever has just declared something is told at once.
fn patience(previous: Option<&ApiAccountStatus>, generation: Option<i64>, since_start: Duration) -> Option<Duration> {
    let is_current = previous.is_some_and(|status| status.observed_generation == generation);
    GRACE.checked_sub(since_start).filter(|left| is_current && !left.is_zero())
}

/// Whether the status says already that there is no database, in whichever words.
fn says_so(previous: Option<&ApiAccountStatus>, generation: Option<i64>) -> bool {
    previous.is_some_and(|status| status.observed_generation == generation)
        && ready_text(previous).is_some_and(|(_, reason, _)| reason == Reason::DatabaseUnavailable.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::DatabaseError;

    fn of(generation: i64) -> ApiAccountStatus {
        ApiAccountStatus { observed_generation: Some(generation), ..ApiAccountStatus::default() }
    }

    #[test]
    fn only_a_resource_that_is_as_it_was_is_left_so_for_a_while() {
        let second = Duration::from_secs;
        assert_eq!(patience(Some(&of(3)), Some(3), second(10)), Some(second(20)));
        assert_eq!(patience(Some(&of(3)), Some(3), GRACE), None);
        assert_eq!(patience(Some(&of(2)), Some(3), second(10)), None);
        assert_eq!(patience(None, Some(1), second(10)), None);
    }

    #[test]
    fn an_outage_is_said_once_in_whichever_words() {
        let away = |reason: &str| {
            Outcome::refused(Refusal::Database(DatabaseError::Unavailable { reason: reason.to_owned() }))
        };
        let told = status(Some(3), "", &away("refused"), Some(&of(3)), Timestamp::UNIX_EPOCH);
        assert!(says_so(Some(&told), Some(3)) && !says_so(Some(&told), Some(4)));
        assert!(!says_so(Some(&of(3)), Some(3)) && !says_so(None, None));
    }
}
