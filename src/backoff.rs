//! Pauses between attempts: each is twice as long as the one before, up to a longest.

use std::time::Duration;

/// The pauses after failures in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Pauses from `first` to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// Returns the pause after so many failures in a row; the first failure is number 0.
    pub fn pause(self, failures: u32) -> Duration {
        self.first.saturating_mul(2_u32.saturating_pow(failures)).min(self.longest)
    }
}

/// Shortens a pause by up to half, so that what failed at the same time is not tried again at the same time. `jitter` is evenly
/// spread from 0 to 1.
pub(crate) fn spread(pause: Duration, jitter: f64) -> Duration {
    pause.mul_f64(0.5 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));

    #[test]
    fn each_pause_is_twice_as_long_as_the_one_before_up_to_the_longest() {
        let pauses: Vec<_> = (0..6).map(|failures| BACKOFF.pause(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        assert_eq!(BACKOFF.pause(u32::MAX), Duration::from_secs(10));
    }

    #[test]
    fn a_spread_pause_is_at_least_half_as_long() {
        let pause = Duration::from_secs(10);
        assert_eq!(spread(pause, 0.0), Duration::from_secs(5));
        assert_eq!(spread(pause, 1.0), pause);
    }
}
