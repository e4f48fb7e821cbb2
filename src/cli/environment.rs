//! The real time, and randomness from the operating system.

use crate::reconcile::{Environment, RandomnessError};
use jiff::Timestamp;
use rand::TryRng;
use rand::rngs::SysRng;

/// What the machine gives.
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        // As exact as the account database, so that what is told is what is kept.
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomnessError> {
        SysRng.try_fill_bytes(bytes).map_err(|error| RandomnessError(error.to_string()))
    }
}
