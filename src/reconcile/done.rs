//! The changes that a reconcile can make, each with its reason for events and metrics and its text for users.
//!
//! The reasons are a contract: they are event reasons and the values of the metrics' label `change`.

use crate::account::{Field, FieldChange, KeyId, RotationReason};
use crate::secrets::SecretRef;
use jiff::Timestamp;
use std::fmt;

/// One change that was made. Its text holds no secret and may be shown to every user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// The account was created.
    Created {
        /// Whether the keys came from the account's Secret, because only the row was lost.
        recovered: bool,
    },
    /// A deleted or retained account was restored, because it is declared again.
    Restored {
        /// Each field, old to new.
        changes: Vec<FieldChange>,
    },
    /// Fields of the account were changed.
    Updated {
        /// Each field, old to new.
        changes: Vec<FieldChange>,
    },
    /// An unowned account was adopted.
    Adopted,
    /// The account was given a new active key pair.
    Rotated {
        /// The reason for the rotation.
        reason: RotationReason,
        /// The new key pair.
        new: KeyId,
        /// When the old key pair expires; `None` if it was revoked at once.
        old_expires: Option<Timestamp>,
        /// The key pairs that were revoked: those that had expired, those beyond the maximum number, and the old key
        /// pair if there is no overlap.
        revoked: Vec<KeyId>,
    },
    /// Expired key pairs were revoked.
    Revoked(Vec<KeyId>),
    /// Fields of the account were corrected after another writer had changed them.
    DriftCorrected {
        /// Each field, old to new.
        changes: Vec<FieldChange>,
    },
    /// The account had lost its keys and was given the keys that this Secret still holds.
    KeyRestored(SecretRef),
    /// The account was disabled, because its resource is deleted.
    Disabled,
    /// The account was retained without an owner: its resource is deleted, and asked for that or only observed the
    /// account.
    Retained,
    /// The Secret was created.
    SecretWritten(SecretRef),
    /// The Secret was updated to what is declared now.
    SecretUpdated {
        /// The Secret.
        at: SecretRef,
        /// Which parts, by name.
        parts: Vec<String>,
    },
    /// The Secret was corrected after another writer had changed it.
    SecretPutBack {
        /// The Secret.
        at: SecretRef,
        /// Which parts, by name.
        parts: Vec<String>,
    },
    /// A Secret was deleted, because the keys are in another Secret now or the account is deleted.
    SecretRemoved(SecretRef),
    /// The Secret was kept while its resource is deleted.
    SecretReleased(SecretRef),
}

impl Done {
    /// The reasons of all changes.
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

    /// Returns the change without the fields in `left`, whose new values the database did not keep.
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

    /// Returns the key pairs that the change revoked.
    pub fn revoked(&self) -> &[KeyId] {
        match self {
            Self::Revoked(keys) | Self::Rotated { revoked: keys, .. } => keys,
            _ => &[],
        }
    }

    /// Returns whether the change may have ended or narrowed an access that the account had. A new or wider access is
    /// none of that, and neither is the removal of a pair that has expired, because its end is judged by the clock.
    pub fn may_narrow_access(&self) -> bool {
        let narrows = |change: &FieldChange| match change.field {
            Field::Enabled => change.new == "false",
            Field::Affiliate | Field::Roles | Field::AllowedIps | Field::UseRefreshToken => true,
            Field::Name | Field::Description | Field::Keys | Field::Suspension | Field::Adopter => false,
        };
        match self {
            Self::Updated { changes } | Self::DriftCorrected { changes } | Self::Restored { changes } => {
                changes.iter().any(narrows)
            }
            Self::Rotated { revoked, .. } => !revoked.is_empty(),
            Self::Disabled => true,
            Self::Created { .. }
            | Self::Adopted
            | Self::Revoked(_)
            | Self::KeyRestored(_)
            | Self::Retained
            | Self::SecretWritten(_)
            | Self::SecretUpdated { .. }
            | Self::SecretPutBack { .. }
            | Self::SecretRemoved(_)
            | Self::SecretReleased(_) => false,
        }
    }

    /// Returns the change's reason, in the form of an event's reason.
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
            Self::Created { recovered: true } => {
                f.write_str("created the account again, with the keys from its Secret")
            }
            Self::Restored { changes } if changes.is_empty() => f.write_str("restored the account with its keys"),
            Self::Restored { changes } => write!(f, "restored the account with its keys; {}", join(changes)),
            Self::Updated { changes } | Self::DriftCorrected { changes } => f.write_str(&join(changes)),
            Self::Adopted => f.write_str("took over the account with its keys"),
            Self::Rotated { reason, new, old_expires: Some(expires), .. } => {
                write!(
                    f,
                    "rotated the keys: {}; the new key pair is {new}, and the old key pair works until {expires:.0}",
                    reason.as_str()
                )
            }
            Self::Rotated { reason, new, old_expires: None, .. } => {
                write!(
                    f,
                    "rotated the keys: {}; the new key pair is {new}, and the old key pair is revoked",
                    reason.as_str()
                )
            }
            Self::Revoked(keys) => {
                let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
                write!(f, "revoked the expired key pair {}", keys.join(", "))
            }
            Self::KeyRestored(at) => {
                write!(f, "restored the account's keys from the Secret {}", at.name)
            }
            Self::Disabled => f.write_str("disabled the account: its resource is gone"),
            Self::Retained => f.write_str(
                "retained the account as it is: its resource is gone, and asked for this or only observed the account",
            ),
            Self::SecretWritten(at) => write!(f, "wrote the keys to the Secret {}", at.name),
            Self::SecretUpdated { at, parts } => write!(f, "corrected the Secret {}: {}", at.name, parts.join(", ")),
            Self::SecretPutBack { at, parts } => write!(f, "restored the Secret {}: {}", at.name, parts.join(", ")),
            Self::SecretRemoved(at) => write!(f, "deleted the Secret {}, which is not needed any more", at.name),
            Self::SecretReleased(at) => write!(f, "left the Secret {} as it is", at.name),
        }
    }
}

fn join(changes: &[FieldChange]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
