//! One change that a reconcile made, with its word for events and metrics and its sentence for people.
//!
//! The words are a contract: they are event reasons and the values of the metrics' label `change`.

use crate::account::{FieldChange, KeyId, RotationReason};
use crate::secrets::SecretRef;
use jiff::Timestamp;
use std::fmt;

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
    /// An account that nobody declared was taken over.
    Adopted,
    /// The account has a new active pair.
    Rotated {
        /// Why.
        reason: RotationReason,
        /// The new pair.
        new: KeyId,
        /// Until when the old one goes on working; `None`: it was revoked.
        old_expires: Option<Timestamp>,
        /// The pairs that no longer work: expired ones, those that would be too many, the old one without an overlap.
        revoked: Vec<KeyId>,
    },
    /// Pairs whose time was over were removed.
    Revoked(Vec<KeyId>),
    /// Fields of the account were put back to what they had been before somebody else changed them.
    DriftCorrected {
        /// Each field, old to new.
        changes: Vec<FieldChange>,
    },
    /// The account had lost its keys, and has those again that this Secret still holds.
    KeyRestored(SecretRef),
    /// The account was disabled since its resource is gone.
    Disabled,
    /// The account is nobody's now, since its resource is gone, and asked for that or only observed it.
    Retained,
    /// The Secret was written.
    SecretWritten(SecretRef),
    /// The Secret was made to hold what it now should.
    SecretUpdated {
        /// The Secret.
        at: SecretRef,
        /// Which parts, by name.
        parts: Vec<String>,
    },
    /// The Secret was put back to what it had been before somebody else changed it.
    SecretPutBack {
        /// The Secret.
        at: SecretRef,
        /// Which parts, by name.
        parts: Vec<String>,
    },
    /// A Secret was deleted: the keys are in another one now, or the account is deleted.
    SecretRemoved(SecretRef),
    /// The Secret stays, and its resource goes.
    SecretReleased(SecretRef),
}

impl Done {
    /// Each word for what can be done.
    pub const REASONS: [&'static str; 16] = [
        "Created",
        "Recovered",
        "Restored",
        "Updated",
        "Adopted",
        "Rotated",
        "Revoked",
        "DriftCorrected",
        "KeyRestored",
        "Disabled",
        "Retained",
        "SecretWritten",
        "SecretUpdated",
        "SecretPutBack",
        "SecretRemoved",
        "SecretReleased",
    ];

    /// The same without these fields, which were not kept.
    #[must_use]
    pub(super) fn without(self, left: &[FieldChange]) -> Self {
        let kept = |changes: Vec<FieldChange>| {
            changes.into_iter().filter(|change| left.iter().all(|left| left.field != change.field)).collect()
        };
        match self {
            Self::Updated { changes } => Self::Updated { changes: kept(changes) },
            Self::Restored { changes } => Self::Restored { changes: kept(changes) },
            other => other,
        }
    }

    /// The pairs that do not work any more because of it.
    pub fn revoked(&self) -> &[KeyId] {
        match self {
            Self::Revoked(keys) | Self::Rotated { revoked: keys, .. } => keys,
            _ => &[],
        }
    }

    /// A word for it, as events' reasons are written.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Created { recovered: false } => "Created",
            Self::Created { recovered: true } => "Recovered",
            Self::Restored { .. } => "Restored",
            Self::Updated { .. } => "Updated",
            Self::Adopted => "Adopted",
            Self::Rotated { .. } => "Rotated",
            Self::Revoked(_) => "Revoked",
            Self::DriftCorrected { .. } => "DriftCorrected",
            Self::KeyRestored(_) => "KeyRestored",
            Self::Disabled => "Disabled",
            Self::Retained => "Retained",
            Self::SecretWritten(_) => "SecretWritten",
            Self::SecretUpdated { .. } => "SecretUpdated",
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
            Self::Adopted => f.write_str("took over the account with its keys"),
            Self::Rotated { reason, new, old_expires: Some(expires), .. } => {
                write!(
                    f,
                    "rotated the keys: {}; the new pair is {new}, the old one works until {expires:.0}",
                    reason.as_str()
                )
            }
            Self::Rotated { reason, new, old_expires: None, .. } => {
                write!(f, "rotated the keys: {}; the new pair is {new}, the old one is revoked", reason.as_str())
            }
            Self::Revoked(keys) => {
                let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
                write!(f, "revoked what had expired: the pair {}", keys.join(", "))
            }
            Self::KeyRestored(at) => {
                write!(f, "gave the account the keys back that the Secret {} still holds", at.name)
            }
            Self::Disabled => f.write_str("disabled the account: its resource is gone"),
            Self::Retained => {
                f.write_str("left the account as it is: its resource is gone, and asked for that or only observed it")
            }
            Self::SecretWritten(at) => write!(f, "wrote the keys to the Secret {}", at.name),
            Self::SecretUpdated { at, parts } => write!(f, "put the Secret {} right: {}", at.name, parts.join(", ")),
            Self::SecretPutBack { at, parts } => write!(f, "put the Secret {} back: {}", at.name, parts.join(", ")),
            Self::SecretRemoved(at) => write!(f, "deleted the Secret {}, which is not needed any more", at.name),
            Self::SecretReleased(at) => write!(f, "left the Secret {} as it is", at.name),
        }
    }
}

fn list(changes: &[FieldChange]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
