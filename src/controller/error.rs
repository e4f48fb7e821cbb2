//! What ends a controller.

use crate::database::{DatabaseError, KeyringError};
use thiserror::Error;

/// Why the controller cannot run. Whatever may pass by itself is waited out instead.
#[derive(Debug, Error)]
pub enum ControllerError {
    /// The account database cannot be used as it is.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The keyring does not open the secret keys in the database.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}
