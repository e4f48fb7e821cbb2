//! Limits the log lines and events about refusals, so that an outage does not write one of each for every resource.
//!
//! The status of each resource is written all the same, and metrics count every reconcile.

use crate::api::Reason;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The number of refusals with one reason that are reported within one [`WINDOW`].
pub(super) const LIMIT: u32 = 200;

/// The time for which the refusals of one reason are counted.
const WINDOW: Duration = Duration::from_mins(1);

/// The refusals in the present window, by reason.
#[derive(Default)]
pub(super) struct RefusalLimit(Mutex<HashMap<Reason, Window>>);

struct Window {
    began: Instant,
    refusals: u32,
}

/// What to do about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Log it, and emit an event.
    Report,
    /// Leave it out. It is the first one of its window, so log that more may follow.
    LeaveOutFirst,
    /// Leave it out.
    LeaveOut,
}

impl RefusalLimit {
    /// Counts a refusal with this reason, and decides about it.
    pub fn decide(&self, reason: Reason, now: Instant) -> Verdict {
        // A panic of another task cannot leave the map half changed, so a poisoned lock is still usable.
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(reason).or_insert(Window { began: now, refusals: 0 });
        if now.duration_since(window.began) >= WINDOW {
            *window = Window { began: now, refusals: 0 };
        }
        window.refusals = window.refusals.saturating_add(1);
        match window.refusals {
            ..=LIMIT => Verdict::Report,
            refusals if refusals == LIMIT + 1 => Verdict::LeaveOutFirst,
            _ => Verdict::LeaveOut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_one_reason_are_limited_in_each_window_and_others_are_not_affected() {
        let (limit, start) = (RefusalLimit::default(), Instant::now());
        let reason = Reason::SecretUnavailable;
        let decide = |times: u32, now| -> Vec<Verdict> { (0..times).map(|_| limit.decide(reason, now)).collect() };
        assert!(decide(LIMIT, start).iter().all(|verdict| *verdict == Verdict::Report));
        assert_eq!(decide(3, start + WINDOW / 2), [Verdict::LeaveOutFirst, Verdict::LeaveOut, Verdict::LeaveOut]);
        assert_eq!(limit.decide(Reason::NameTaken, start), Verdict::Report);
        let reported = decide(5000, start + WINDOW).into_iter().filter(|verdict| *verdict == Verdict::Report).count();
        assert_eq!(reported, usize::try_from(LIMIT).unwrap());
    }
}
