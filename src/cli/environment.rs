//! The time and the randomness of the operating system.

use crate::reconcile::{Environment, RandomnessError};
use jiff::Timestamp;
use rand::TryRng;
use rand::rngs::SysRng;

/// The [`Environment`] of this machine.
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        // The account database stores microseconds, so reported times must not be more precise than stored times.
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomnessError> {
        SysRng.try_fill_bytes(bytes).map_err(|error| RandomnessError(error.to_string()))
    }

    fn jitter(&self) -> f64 {
        rand::random()
    }
}
