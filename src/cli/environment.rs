//! The real time, and randomness from the operating system.

use crate::reconcile::{Environment, RandomnessError};
use jiff::Timestamp;
use rand::TryRng;
use rand::rngs::SysRng;

/// The machine's clock and randomness.
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        // As precise as the account database, so that the reported time is the stored one.
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomnessError> {
        SysRng.try_fill_bytes(bytes).map_err(|error| RandomnessError(error.to_string()))
    }

    fn jitter(&self) -> f64 {
        rand::random()
    }
}
