//! The errors that end the controller.

use super::leader::Loss;
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
    /// This controller led, and another one may lead now.
    #[error(
        "this controller was the leader and lost the Lease {lease}: {}; it has stopped writing and ends, so that it starts again as a follower",
        explained(loss)
    )]
    LeaseLost {
        /// The namespace and the name of the Lease.
        lease: String,
        /// How it was lost.
        loss: Loss,
    },
}

fn explained(loss: &Loss) -> String {
    match loss {
        Loss::Taken { by } if by.is_empty() => "another program released it".to_owned(),
        Loss::Taken { by } => format!("{by} holds it"),
        Loss::Expired { last_failure: Some(failure) } => format!("it was not renewed in time: {failure}"),
        Loss::Expired { last_failure: None } => {
            "it was not renewed in time, because the process did not run".to_owned()
        }
    }
}
