//! When a resource is reconciled again after an outcome. Pure: the time comes in as an argument.

use super::context::LONGEST_BACKOFF;
use crate::reconcile::{NextAttempt, NotReady, Outcome};
use jiff::Timestamp;
use std::time::Duration;

/// The shortest pause, for something that is already due: a clock may have been set back in between.
const SHORTEST_TIMER: Duration = Duration::from_millis(100);

/// When to reconcile again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// When the resource, its Secret or its account changes.
    OnChange,
    /// After this pause.
    After(Duration),
    /// After a pause that grows with each failure in a row.
    Backoff {
        /// The longest pause.
        longest: Duration,
    },
    /// When its obstacle is gone, which the obstacle poller notices; now and then anyway.
    WithoutObstacle,
}

/// Returns when to reconcile again, and whether the outcome resets the count of failures in a row. `changed_again`:
/// another program or a user changed the account during the reconcile.
pub(super) fn next_attempt(outcome: &Outcome, changed_again: bool, now: Timestamp) -> (Next, bool) {
    let at_once = Next::After(Duration::ZERO);
    let scheduled = outcome.next_reconcile.map(|at| Next::After(until(at, now)));
    match outcome.not_ready.as_ref().map(NotReady::next_attempt) {
        Some(NextAttempt::WithoutObstacle(_)) => (Next::WithoutObstacle, false),
        Some(NextAttempt::Backoff(longest)) => (Next::Backoff { longest }, false),
        Some(NextAttempt::OnChange | NextAttempt::AfterPostponedCorrection) if changed_again => (at_once, false),
        Some(NextAttempt::OnChange) => (Next::OnChange, false),
        Some(NextAttempt::AfterPostponedCorrection) => {
            (scheduled.unwrap_or(Next::Backoff { longest: LONGEST_BACKOFF }), false)
        }
        Some(NextAttempt::Scheduled) | None if changed_again => (at_once, true),
        Some(NextAttempt::Scheduled) | None if is_left_undone(outcome, now) => {
            (Next::Backoff { longest: LONGEST_BACKOFF }, false)
        }
        Some(NextAttempt::Scheduled) | None => (scheduled.unwrap_or(Next::OnChange), true),
    }
}

/// Returns the time from now to `then`. The pause is measured by another clock: `clock_steps.rs` requeues the resource if
/// the two go apart.
fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default().max(SHORTEST_TIMER)
}

/// Returns whether something is due and nothing was done. Another attempt at once would probably not do it either.
fn is_left_undone(outcome: &Outcome, now: Timestamp) -> bool {
    outcome.done.is_empty() && outcome.next_reconcile.is_some_and(|at| at <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Done;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn due(seconds: i64) -> Outcome {
        Outcome { next_reconcile: Some(at(seconds)), ..Outcome::default() }
    }

    #[test]
    fn a_resource_is_looked_at_when_something_is_due_and_not_before() {
        assert_eq!(until(at(90), at(60)), Duration::from_secs(30));
        assert_eq!(until(at(60), at(90)), Duration::from_millis(100));
        assert_eq!(until(at(60), at(60)), Duration::from_millis(100));
        assert_eq!(until(at(1_000_000), at(0)), Duration::from_secs(1_000_000));
    }

    #[test]
    fn what_is_due_and_was_not_done_is_tried_with_backoff() {
        let backoff = (Next::Backoff { longest: LONGEST_BACKOFF }, false);
        assert_eq!(next_attempt(&due(59), false, at(60)), backoff);
        assert_eq!(next_attempt(&due(60), false, at(60)), backoff);
        assert_eq!(next_attempt(&due(61), false, at(60)), (Next::After(Duration::from_secs(1)), true));
        let done = Outcome { done: vec![Done::Adopted], ..due(59) };
        assert_eq!(next_attempt(&done, false, at(60)), (Next::After(Duration::from_millis(100)), true));
        assert_eq!(next_attempt(&Outcome::default(), false, at(60)), (Next::OnChange, true));
    }

    #[test]
    fn an_account_that_changed_again_is_reconciled_at_once() {
        let now = (Next::After(Duration::ZERO), true);
        assert_eq!(next_attempt(&due(59), true, at(60)), now);
        assert_eq!(next_attempt(&Outcome::blocked(NotReady::Paused), true, at(60)), now);
        let held = Outcome::blocked(NotReady::DeletionHeld { percent: 20 });
        assert_eq!(next_attempt(&held, true, at(60)), (Next::After(Duration::ZERO), false));
        assert_eq!(next_attempt(&held, false, at(60)), (Next::OnChange, false));
    }

    #[test]
    fn a_list_of_addresses_that_was_kept_is_no_reason_to_try_again() {
        let kept = Outcome::blocked(NotReady::AllowedIpsMissing { kept: vec!["10.0.0.0/8".to_owned()] });
        assert_eq!(next_attempt(&kept, false, at(60)), (Next::OnChange, true));
    }
}
