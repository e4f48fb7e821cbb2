//! The pauses before a failed watch begins again.

use crate::backoff::{Backoff, spread};
use crate::reconcile::Environment;
use kube::runtime::utils::{self, ResetTimerBackoff};
use std::sync::Arc;
use std::time::Duration;

/// The first pause is short: the usual failure is a watch that has expired, and until it begins again, no edit is seen.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(30));

/// How long a watch has to work before the pauses begin with the first one again.
const RESET_AFTER: Duration = Duration::from_mins(2);

/// The pauses after failures in a row, each shortened by up to half at random.
pub(super) struct Pauses {
    environment: Arc<dyn Environment>,
    failures: u32,
}

/// Returns the pauses of one watch.
pub(super) fn pauses(environment: &Arc<dyn Environment>) -> ResetTimerBackoff<Pauses> {
    ResetTimerBackoff::new(Pauses { environment: Arc::clone(environment), failures: 0 }, RESET_AFTER)
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = spread(BACKOFF.pause(self.failures), self.environment.jitter());
        self.failures = self.failures.saturating_add(1);
        Some(pause)
    }
}

impl utils::Backoff for Pauses {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::RandomnessError;
    use jiff::Timestamp;
    use kube::runtime::utils::Backoff as _;

    struct LongestPauses;

    impl Environment for LongestPauses {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn fill(&self, _: &mut [u8]) -> Result<(), RandomnessError> {
            Ok(())
        }

        fn jitter(&self) -> f64 {
            1.0
        }
    }

    #[test]
    fn the_first_pause_is_short_and_later_ones_grow_until_a_reset() {
        let mut pauses = Pauses { environment: Arc::new(LongestPauses), failures: 0 };
        let millis: Vec<_> = pauses.by_ref().take(12).map(|pause| pause.as_millis()).collect();
        assert_eq!(millis[..4], [50, 100, 200, 400]);
        assert_eq!(millis[10..], [30_000, 30_000]);
        pauses.reset();
        assert_eq!(pauses.next(), Some(Duration::from_millis(50)));
    }
}
