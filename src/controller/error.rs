//! The errors that end the controller.

use crate::database::{DatabaseError, KeyringError};
use thiserror::Error;

/// Why the controller cannot run. For errors that may pass by themselves, the controller waits instead.
#[derive(Debug, Error)]
pub enum ControllerError {
    /// The account database cannot be used as it is.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The keyring cannot open the secret keys in the database.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}
