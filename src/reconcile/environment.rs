//! The port to time and randomness, so that a test can set both.

use super::NotReady;
use jiff::Timestamp;
use thiserror::Error;
use zeroize::Zeroizing;

/// Time and randomness.
pub trait Environment: Send + Sync {
    /// Returns the time now.
    fn now(&self) -> Timestamp;

    /// Fills the bytes with randomness fit for keys.
    ///
    /// # Errors
    /// [`RandomnessError`] if the system has none.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomnessError>;

    /// Returns a number from 0 up to 1, evenly spread, which spreads pauses of many resources over time. Not fit for keys.
    fn jitter(&self) -> f64;
}

/// The system has no randomness.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct RandomnessError(pub String);

/// Returns random bytes that are fit for keys and nonces.
///
/// # Errors
/// [`RandomnessError`] if the system has none.
pub fn random<const N: usize>(environment: &dyn Environment) -> Result<[u8; N], RandomnessError> {
    let mut bytes = [0; N];
    environment.fill(&mut bytes)?;
    Ok(bytes)
}

/// Returns random bytes that are a secret: they are erased from memory after use.
///
/// # Errors
/// [`RandomnessError`] if the system has none.
pub fn random_secret(environment: &dyn Environment) -> Result<Zeroizing<[u8; 32]>, RandomnessError> {
    let mut secret = Zeroizing::new([0; 32]);
    environment.fill(secret.as_mut_slice())?;
    Ok(secret)
}

impl From<RandomnessError> for NotReady {
    fn from(error: RandomnessError) -> Self {
        Self::NoRandomness(error.0)
    }
}
