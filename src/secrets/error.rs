//! The errors of a [`SecretStore`](super::SecretStore). No error shows data of a Secret.

use super::SecretRef;
use std::path::PathBuf;
use thiserror::Error;

/// Why a Secret was not read or written.
#[derive(Debug, Error)]
pub enum SecretError {
    /// A Secret exists where none was seen.
    #[error("a Secret {0} exists already")]
    Exists(SecretRef),
    /// The Secret has changed since it was found. The caller reads it again.
    #[error("the Secret {0} was changed by somebody else in the meantime")]
    Changed(SecretRef),
    /// The API server did not answer, or a later attempt may succeed.
    #[error("the API server refused the Secret {at}: {reason}")]
    Unavailable {
        /// The Secret.
        at: SecretRef,
        /// The answer, or why there was none.
        reason: String,
    },
    /// The namespace is being deleted, so nothing can be created in it.
    #[error("the API server refused the Secret {at}: {reason}")]
    Ending {
        /// The Secret.
        at: SecretRef,
        /// The answer.
        reason: String,
    },
    /// The API server refuses for a reason that a user has to correct: permissions, a quota, or an admission policy.
    #[error("the API server refused the Secret {at}: {reason}")]
    Refused {
        /// The Secret.
        at: SecretRef,
        /// The answer.
        reason: String,
    },
    /// The API server refuses the list of Secrets, so it is unknown which Secrets are missing.
    #[error(
        "the Secrets cannot be listed and watched: {reason}; allow `list` and `watch` on secrets to the controller"
    )]
    Unlisted {
        /// The answer.
        reason: String,
    },
    /// A manifest in the directory cannot be read or written.
    #[error("cannot use the Secret manifest {}: {reason}", path.display())]
    File {
        /// The manifest, or the directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl SecretError {
    /// Returns whether a user has to act before the same call can succeed.
    pub fn needs_a_person(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Ending { .. } | Self::Unlisted { .. } | Self::File { .. })
    }

    /// Returns whether another writer was faster, so that an attempt with a new observation may succeed at once.
    pub fn is_race(&self) -> bool {
        matches!(self, Self::Exists(_) | Self::Changed(_))
    }
}
