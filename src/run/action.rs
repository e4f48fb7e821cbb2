//! The actions of a plan: one for each change that a reconcile makes, in the imperative, with the words for people.
//!
//! [`Done`] says what a reconcile did, as events and metrics report it: with times and ids that exist only afterwards.
//! An action holds the part that a plan knows beforehand, so that the plan and the report of `apply` can be compared.
//! `Action::of` is the one place that connects the two. The field names are public: docs/commands-files.md documents
//! them.

use crate::account::{ANY_ADDRESS, Field, FieldChange, NO_AFFILIATE, Role, Settings, StoredSettings, changes};
use crate::reconcile::{Desired, Done};
use serde::Serialize;
use std::fmt;

/// One action. It never contains a secret key.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Action {
    /// The account is created.
    Create {
        /// Whether the account gets the key pair that its Secret still holds.
        recover_keys: bool,
        /// The settings of the new account.
        settings: Vec<Change>,
    },
    /// An unowned account is adopted.
    Adopt,
    /// A deleted or retained account is restored with its keys.
    Restore {
        /// The settings that change.
        changes: Vec<Change>,
    },
    /// Settings are changed.
    Update {
        /// The settings that change.
        changes: Vec<Change>,
    },
    /// The account gets a new key pair.
    Rotate {
        /// The reason, as text for people.
        reason: &'static str,
        /// Whether the old key pair continues to work for a limited time.
        overlap: bool,
    },
    /// Expired key pairs are revoked.
    Revoke {
        /// The ids of the key pairs.
        keys: Vec<String>,
    },
    /// The account gets back the key pair that its Secret still holds.
    RestoreKey,
    /// The account is deleted: it stops authenticating now, and is purged later.
    Delete,
    /// The account is retained.
    Retain,
    /// The Secret is written.
    WriteSecret {
        /// The name of the Secret.
        secret: String,
    },
    /// The Secret is corrected.
    CorrectSecret {
        /// The name of the Secret.
        secret: String,
        /// The names of the parts that are corrected.
        parts: Vec<String>,
    },
    /// A Secret that held the keys before is deleted.
    RemoveSecret {
        /// The name of the Secret.
        secret: String,
    },
    /// The Secret is kept, and no longer managed.
    ReleaseSecret {
        /// The name of the Secret.
        secret: String,
    },
}

/// The change of one field, as text for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The name of the field in `spec`.
    pub field: String,
    /// The old value.
    pub old: String,
    /// The new value.
    pub new: String,
}

impl Action {
    /// Returns the action as lines of text: what is done, and below it the settings or parts that change.
    pub fn in_words(&self) -> Vec<String> {
        let (line, below): (String, Vec<String>) = match self {
            Self::Create { recover_keys, settings } => {
                let keys = if *recover_keys { "the keys that its Secret still holds" } else { "new keys" };
                let settings = settings.iter().map(|setting| format!("{}: {}", setting.field, setting.new));
                (format!("create the account with {keys}"), settings.collect())
            }
            Self::Restore { changes } => {
                ("restore the account with its keys".to_owned(), changes.iter().map(ToString::to_string).collect())
            }
            Self::Update { changes } => return changes.iter().map(ToString::to_string).collect(),
            Self::Adopt => ("adopt the unowned account with its keys".to_owned(), Vec::new()),
            Self::Rotate { reason, overlap: true } => {
                (format!("rotate the keys: {reason}; the old key pair works for spec.rotation.overlap"), Vec::new())
            }
            Self::Rotate { reason, overlap: false } => {
                (format!("rotate the keys: {reason}; the old key pair is revoked at once"), Vec::new())
            }
            Self::Revoke { keys } => (format!("revoke the expired key pair {}", keys.join(", ")), Vec::new()),
            Self::RestoreKey => ("restore the keys of the account from its Secret".to_owned(), Vec::new()),
            Self::Delete => ("delete the account: it stops authenticating at once".to_owned(), Vec::new()),
            Self::Retain => ("retain the account as it is".to_owned(), Vec::new()),
            Self::WriteSecret { secret } => (format!("write the Secret {secret}"), Vec::new()),
            Self::CorrectSecret { secret, parts } => (format!("correct the Secret {secret}"), parts.clone()),
            Self::RemoveSecret { secret } => (format!("remove the Secret {secret}"), Vec::new()),
            Self::ReleaseSecret { secret } => (format!("leave the Secret {secret} as it is"), Vec::new()),
        };
        [line].into_iter().chain(below.iter().map(|line| format!("  {line}"))).collect()
    }

    /// Returns a warning for each part of the action that gives the account many rights.
    pub(super) fn warnings(&self) -> Vec<String> {
        match self {
            Self::Create { settings, .. } => {
                let has_role =
                    |setting: &Change| setting.field == Field::Roles.as_str() && setting.adds_administrator();
                let is_open =
                    |setting: &Change| setting.field == Field::AllowedIps.as_str() && setting.new == ANY_ADDRESS;
                let warns = settings.iter().any(has_role) && settings.iter().any(is_open);
                warns.then(|| "an Administrator that may be used from any address".to_owned()).into_iter().collect()
            }
            Self::Restore { changes } | Self::Update { changes } => {
                changes.iter().filter_map(Change::warning).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the action that describes this change.
    pub(super) fn of(done: &Done, desired: Option<&Desired>) -> Self {
        match done {
            Done::Created { recovered } => Self::Create {
                recover_keys: *recovered,
                settings: desired.map(|desired| settings_of_new_account(&desired.settings)).unwrap_or_default(),
            },
            Done::Adopted => Self::Adopt,
            Done::Restored { changes } => Self::Restore { changes: all(changes) },
            Done::Updated { changes } | Done::DriftCorrected { changes } => Self::Update { changes: all(changes) },
            Done::Rotated { reason, old_expires, .. } => {
                Self::Rotate { reason: reason.as_str(), overlap: old_expires.is_some() }
            }
            Done::Revoked(keys) => Self::Revoke { keys: keys.iter().map(ToString::to_string).collect() },
            Done::KeyRestored(_) => Self::RestoreKey,
            Done::Disabled => Self::Delete,
            Done::Retained => Self::Retain,
            Done::SecretWritten(at) => Self::WriteSecret { secret: at.name.clone() },
            Done::SecretUpdated { at, parts } | Done::SecretPutBack { at, parts } => {
                Self::CorrectSecret { secret: at.name.clone(), parts: parts.clone() }
            }
            Done::SecretRemoved(at) => Self::RemoveSecret { secret: at.name.clone() },
            Done::SecretReleased(at) => Self::ReleaseSecret { secret: at.name.clone() },
        }
    }
}

impl Change {
    /// Returns a warning if the change gives the account many more rights.
    fn warning(&self) -> Option<String> {
        let is = |field: Field| self.field == field.as_str();
        if is(Field::AllowedIps) && self.new == ANY_ADDRESS {
            Some(format!("the account may now be used from any address, and not only from {}", self.old))
        } else if is(Field::Affiliate) && self.new == NO_AFFILIATE {
            Some(format!("the account now sees every affiliate's plans, and not only those of {}", self.old))
        } else if is(Field::Roles) && self.adds_administrator() {
            Some("the account is now an Administrator and may use the whole API".to_owned())
        } else {
            None
        }
    }

    fn adds_administrator(&self) -> bool {
        let role = Role::Administrator.as_str();
        self.new.contains(role) && !self.old.contains(role)
    }
}

impl From<&FieldChange> for Change {
    fn from(change: &FieldChange) -> Self {
        Self { field: Field::as_str(change.field).to_owned(), old: change.old.clone(), new: change.new.clone() }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.field, self.old, self.new)
    }
}

/// Returns the settings of a new account that differ from nothing. The field `enabled` is always among them.
fn settings_of_new_account(settings: &Settings) -> Vec<Change> {
    let nothing = StoredSettings { enabled: !settings.enabled, ..StoredSettings::empty() };
    all(&changes(&nothing, settings))
}

fn all(changes: &[FieldChange]) -> Vec<Change> {
    changes.iter().map(Change::from).collect()
}
