//! What can go wrong with a Secret, for whoever has to act on it. No variant shows data.

use super::SecretRef;
use std::path::PathBuf;
use thiserror::Error;

/// Why a Secret was not read or written.
#[derive(Debug, Error)]
pub enum SecretError {
    /// A Secret is there where none was seen.
    #[error("a Secret {0} exists already")]
    Exists(SecretRef),
    /// The Secret is no longer what was found: look again.
    #[error("the Secret {0} was changed by somebody else in the meantime")]
    Changed(SecretRef),
    /// No answer from the API server, or one that a later try may change.
    #[error("the API server did not take the Secret {at}: {reason}")]
    Unavailable {
        /// The Secret.
        at: SecretRef,
        /// What was said.
        reason: String,
    },
    /// The namespace is being deleted, and nothing new is taken in it.
    #[error("the API server refused the Secret {at}: {reason}")]
    Ending {
        /// The Secret.
        at: SecretRef,
        /// What was said.
        reason: String,
    },
    /// The API server refuses for a reason that somebody has to mend: permissions, quota, an admission policy.
    #[error("the API server refused the Secret {at}: {reason}")]
    Refused {
        /// The Secret.
        at: SecretRef,
        /// What was said.
        reason: String,
    },
    /// The API server does not show which Secrets there are, so that none can be told to be missing.
    #[error(
        "the Secrets cannot be listed and watched: {reason}; allow `list` and `watch` on secrets to the controller"
    )]
    Unlisted {
        /// What was said.
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
    /// Whether a person has to act before the same call can succeed.
    pub fn needs_a_person(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Ending { .. } | Self::Unlisted { .. } | Self::File { .. })
    }

    /// Whether another writer was faster, so that an attempt with a new observation may succeed at once.
    pub fn is_race(&self) -> bool {
        matches!(self, Self::Exists(_) | Self::Changed(_))
    }
}
