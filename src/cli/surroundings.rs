//! The real time, and randomness from the operating system.

use crate::reconcile::{Surroundings, Unrandom};
use jiff::Timestamp;
use rand::TryRng;
use rand::rngs::SysRng;

/// What the machine gives.
pub struct Machine;

impl Surroundings for Machine {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        // As exact as the account database, so that what is told is what is kept.
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), Unrandom> {
        SysRng.try_fill_bytes(bytes).map_err(|error| Unrandom(error.to_string()))
    }
}
