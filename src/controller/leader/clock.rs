//! The clock of the leader election.
//!
//! On Linux it is `CLOCK_BOOTTIME`, which also advances while the machine sleeps. `Instant` does not: a leader that slept
//! past its Lease would believe that it still leads. While a process is stopped by a signal, both clocks advance.

use super::election::Moment;

/// Returns the time now.
#[cfg(target_os = "linux")]
pub(super) fn now() -> Moment {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Moment(std::time::Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default()))
}

/// Returns the time now, since the first call.
#[cfg(not(target_os = "linux"))]
pub(super) fn now() -> Moment {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    Moment(START.get_or_init(Instant::now).elapsed())
}
