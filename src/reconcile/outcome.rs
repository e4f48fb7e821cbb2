//! What came of a reconcile: what was done, and why no more was.

use super::InvalidSpec;
use crate::account::{Account, AccountName, AffiliateName, ClusterId, FieldChange};
use crate::api::{ApiAccountStatus, Reason, condition};
use crate::database::{DatabaseError, KeyringError};
use crate::secrets::{SecretError, SecretRef};
use std::fmt;
use thiserror::Error;

/// What came of a reconcile.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The account as it is now, if it is known.
    pub account: Option<Account>,
    /// The version of the Secret that is now verified to be right.
    pub secret_version: Option<String>,
    /// What was done, in order.
    pub done: Vec<Done>,
    /// Why not everything is as declared; `None` if it is.
    pub refusal: Option<Refusal>,
}

impl Outcome {
    /// Nothing done, for this reason.
    pub fn refused(refusal: Refusal) -> Self {
        Self { refusal: Some(refusal), ..Self::default() }
    }

    /// Tells drift from a change of the spec: of a resource that `previous` says was reconciled as it is now, nothing but
    /// somebody else's change can have been updated.
    #[must_use]
    pub fn since(mut self, previous: Option<&ApiAccountStatus>, generation: Option<i64>) -> Self {
        let is_ready = |status: &ApiAccountStatus| {
            status.conditions.iter().any(|found| found.type_ == condition::READY && found.status == "True")
        };
        if previous.is_some_and(|status| status.observed_generation == generation && is_ready(status)) {
            for done in &mut self.done {
                if let Done::Updated { changes } = done {
                    *done = Done::DriftCorrected { changes: std::mem::take(changes) };
                }
            }
        }
        self
    }
}

/// One thing that was done. Its text may be shown to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// The account was made.
    Created {
        /// The keys came from its Secret: only its row had been lost.
        recovered: bool,
    },
    /// The account was deleted or retained, and is declared again.
    Restored {
        /// Each field, old to new.
        changes: Vec<FieldChange>,
    },
    /// Fields of the account were changed.
    Updated {
        /// Each field, old to new.
        changes: Vec<FieldChange>,
    },
    /// Fields of the account were put back to what they had been before somebody else changed them.
    DriftCorrected {
        /// Each field, old to new.
        changes: Vec<FieldChange>,
    },
    /// The account had lost its keys, and has those again that this Secret still holds.
    KeyRestored(SecretRef),
    /// The account was disabled since its resource is gone.
    Disabled,
    /// The account is nobody's now, since its resource is gone and asked for that.
    Retained,
    /// The Secret was written.
    SecretWritten(SecretRef),
    /// The Secret was not as it should be and was put right.
    SecretPutBack {
        /// The Secret.
        at: SecretRef,
        /// Which parts, by name.
        parts: Vec<String>,
    },
    /// A Secret of another name, that had the keys before, was deleted.
    SecretRemoved(SecretRef),
    /// The Secret no longer belongs to the resource.
    SecretReleased(SecretRef),
}

impl Done {
    /// A word for it, as events' reasons are written.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Created { recovered: false } => "Created",
            Self::Created { recovered: true } => "Recovered",
            Self::Restored { .. } => "Restored",
            Self::Updated { .. } => "Updated",
            Self::DriftCorrected { .. } => "DriftCorrected",
            Self::KeyRestored(_) => "KeyRestored",
            Self::Disabled => "Disabled",
            Self::Retained => "Retained",
            Self::SecretWritten(_) => "SecretWritten",
            Self::SecretPutBack { .. } => "SecretPutBack",
            Self::SecretRemoved(_) => "SecretRemoved",
            Self::SecretReleased(_) => "SecretReleased",
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { recovered: false } => f.write_str("created the account and its keys"),
            Self::Created { recovered: true } => f.write_str("made the account anew, with the keys from its Secret"),
            Self::Restored { changes } if changes.is_empty() => f.write_str("restored the account with its keys"),
            Self::Restored { changes } => write!(f, "restored the account with its keys; {}", list(changes)),
            Self::Updated { changes } | Self::DriftCorrected { changes } => f.write_str(&list(changes)),
            Self::KeyRestored(at) => {
                write!(f, "gave the account the keys back that the Secret {} still holds", at.name)
            }
            Self::Disabled => f.write_str("disabled the account: its resource is gone"),
            Self::Retained => f.write_str("left the account as it is: its resource is gone and asked for that"),
            Self::SecretWritten(at) => write!(f, "wrote the keys to the Secret {}", at.name),
            Self::SecretPutBack { at, parts } => write!(f, "put the Secret {} right: {}", at.name, parts.join(", ")),
            Self::SecretRemoved(at) => write!(f, "deleted the Secret {}, which held the keys before", at.name),
            Self::SecretReleased(at) => write!(f, "left the Secret {} as it is", at.name),
        }
    }
}

fn list(changes: &[FieldChange]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why not everything is as declared. Its text says what a person can do, and may be shown to anybody.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The spec says something that no account can be.
    #[error("{0}")]
    InvalidSpec(#[from] InvalidSpec),
    /// Another account has the name.
    #[error("{holder} has the account name {:?}; choose another spec.name, or rename or delete the holder", name.as_str())]
    NameTaken {
        /// The name asked for.
        name: AccountName,
        /// Who has it, in words.
        holder: String,
    },
    /// OpsAdmin does not know the affiliate.
    #[error(
        "OpsAdmin knows no affiliate {:?}; register it there, correct spec.affiliate, or run with --unknown-affiliate register",
        affiliate.as_str()
    )]
    UnknownAffiliate {
        /// The affiliate asked for.
        affiliate: AffiliateName,
    },
    /// A Secret of the name exists and is not this account's.
    #[error("the Secret {} exists and is left alone: {holder}; delete or rename it, or choose another spec.secret.name", at.name)]
    SecretConflict {
        /// The Secret.
        at: SecretRef,
        /// Whose it is, in words.
        holder: String,
    },
    /// The account has no keys in the database, and those in its Secret belong to somebody else.
    #[error(
        "the API key in the Secret {} is that of another account and is not used; put the account's own keys there, or restore its row in account_keys from a backup",
        at.name
    )]
    KeyTaken {
        /// The Secret.
        at: SecretRef,
    },
    /// The Secret could not be read or written.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// The account database did not do it.
    #[error("{0}")]
    Database(#[from] DatabaseError),
    /// A secret key could not be opened.
    #[error("{0}")]
    Keyring(#[from] KeyringError),
    /// Somebody removed the account's keys from the database.
    #[error(
        "the account {account} has no active key pair in the database; restore its row in account_keys from a backup"
    )]
    NoKeys {
        /// The account's id.
        account: String,
    },
    /// The system has no randomness to make keys from.
    #[error("the system gave no randomness to make keys from: {0}")]
    NoRandomness(String),
    /// Others kept changing the same account.
    #[error("others keep changing this account or its Secret; trying again")]
    Contended,
}

impl Refusal {
    /// The condition's reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::InvalidSpec(_) => Reason::InvalidSpec,
            Self::NameTaken { .. } => Reason::NameTaken,
            Self::UnknownAffiliate { .. } => Reason::UnknownAffiliate,
            Self::SecretConflict { .. } | Self::KeyTaken { .. } => Reason::SecretConflict,
            Self::Secret(_) => Reason::SecretUnavailable,
            Self::Database(_) | Self::Keyring(_) | Self::NoKeys { .. } | Self::NoRandomness(_) | Self::Contended => {
                Reason::DatabaseUnavailable
            }
        }
    }

    /// Whether it stays so until a person does something; otherwise it may pass by itself.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::InvalidSpec(_)
            | Self::NameTaken { .. }
            | Self::UnknownAffiliate { .. }
            | Self::SecretConflict { .. }
            | Self::KeyTaken { .. }
            | Self::Keyring(_)
            | Self::NoKeys { .. } => true,
            Self::Secret(error) => matches!(error, SecretError::Refused { .. } | SecretError::File { .. }),
            Self::Database(error) => !error.is_retryable(),
            Self::NoRandomness(_) | Self::Contended => false,
        }
    }
}

/// Who holds an account, in words for a resource of `cluster`.
pub(super) fn holder(account: &Account, cluster: &ClusterId) -> String {
    match &account.owner {
        Some(owner) if owner.cluster == *cluster => format!("the ApiAccount {}/{}", owner.namespace, owner.name),
        Some(owner) => format!("the ApiAccount {}/{} of the cluster {}", owner.namespace, owner.name, owner.cluster),
        None => format!("the account {}, which no ApiAccount declares,", account.id),
    }
}
