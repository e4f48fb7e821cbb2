//! What `plan` and `apply` report for each account. Both commands use the same types, so that a plan can be compared
//! with what `apply` did. The field names are public: docs/commands-files.md documents them.

use crate::account::{ANY_ADDRESS, Field, FieldChange, NO_AFFILIATE, Owner, Role, Settings, StoredSettings, changes};
use crate::manifests::Manifest;
use crate::reconcile::{Desired, Done, Outcome};
use serde::Serialize;
use std::fmt;

/// The field of a result that lists the accounts. Declared accounts come first, in the order of the manifests; then
/// accounts that no manifest declares; then accounts that had to wait until another account released their name.
pub const ACCOUNTS: &str = "accounts";
/// The field of a result that counts the accounts by [`AccountResult`].
pub const SUMMARY: &str = "summary";

/// What is done, or would be done, for one account.
#[derive(Debug, PartialEq, Serialize)]
pub struct AccountReport {
    /// The resource's namespace.
    pub namespace: String,
    /// The resource's name.
    pub name: String,
    /// `FILE:LINE:COLUMN` of its manifest; `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// The overall result for the account.
    pub result: AccountResult,
    /// The actions, in order.
    pub actions: Vec<Action>,
    /// The changes that give the account more rights than before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Why the account is not, or not yet, in sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// The differences that are not corrected, because the resource is only observed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Change>,
}

/// The overall result for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountResult {
    /// The account is created.
    Create,
    /// An unowned account is adopted.
    Adopt,
    /// A deleted or retained account is restored.
    Restore,
    /// The account gets a new key pair.
    Rotate,
    /// Settings of the account, its keys or its Secret are changed in another way.
    Change,
    /// The account is deleted.
    Delete,
    /// The account is not in sync, and the change is refused.
    Refuse,
    /// The account is in sync.
    Unchanged,
}

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
    PutSecretRight {
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

/// The condition that the resource has, or would have, on a cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Condition {
    /// The reason of the condition.
    pub reason: &'static str,
    /// The message of the condition.
    pub message: String,
}

/// The number of accounts for each [`AccountResult`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// [`AccountResult::Create`].
    pub create: usize,
    /// [`AccountResult::Adopt`].
    pub adopt: usize,
    /// [`AccountResult::Restore`].
    pub restore: usize,
    /// [`AccountResult::Rotate`].
    pub rotate: usize,
    /// [`AccountResult::Change`].
    pub change: usize,
    /// [`AccountResult::Delete`].
    pub delete: usize,
    /// [`AccountResult::Refuse`].
    pub refuse: usize,
    /// [`AccountResult::Unchanged`].
    pub unchanged: usize,
    /// No Secret was read, so a missing or wrong Secret is not in the plan.
    #[serde(rename = "secretsNotCompared", skip_serializing_if = "std::ops::Not::not")]
    pub secrets_not_compared: bool,
}

impl AccountReport {
    /// Returns the report of an account that a manifest declares.
    pub fn declared(manifest: &Manifest, outcome: &Outcome) -> Self {
        let manifest_place = Some(manifest.place.to_string());
        Self::of(&manifest.desired.owner, manifest_place, Some(&manifest.desired), outcome)
    }

    /// Returns the report of an account that no manifest declares.
    pub fn undeclared(owner: &Owner, outcome: &Outcome) -> Self {
        Self::of(owner, None, None, outcome)
    }

    fn of(owner: &Owner, manifest: Option<String>, desired: Option<&Desired>, outcome: &Outcome) -> Self {
        let actions: Vec<Action> = outcome.done.iter().map(|done| Action::of(done, desired)).collect();
        let condition = outcome.not_ready.as_ref();
        let is_refused = condition.is_some_and(|not_ready| !not_ready.is_intended());
        Self {
            namespace: owner.namespace.clone(),
            name: owner.name.clone(),
            manifest,
            result: AccountResult::of(&actions, is_refused),
            warnings: actions.iter().flat_map(Action::warnings).collect(),
            actions,
            condition: condition
                .map(|not_ready| Condition { reason: not_ready.reason().as_str(), message: not_ready.to_string() }),
            drift: outcome
                .drift
                .iter()
                .map(|drift| Change {
                    field: drift.field.clone(),
                    old: drift.actual.clone(),
                    new: drift.declared.clone(),
                })
                .collect(),
        }
    }
}

impl AccountResult {
    fn of(actions: &[Action], is_refused: bool) -> Self {
        if is_refused {
            return Self::Refuse;
        }
        let rotates = || actions.iter().any(|action| matches!(action, Action::Rotate { .. }));
        match actions.first() {
            None => Self::Unchanged,
            Some(Action::Create { .. }) => Self::Create,
            Some(Action::Adopt) => Self::Adopt,
            Some(Action::Restore { .. }) => Self::Restore,
            Some(Action::Delete) => Self::Delete,
            Some(_) if rotates() => Self::Rotate,
            Some(_) => Self::Change,
        }
    }
}

impl Action {
    /// Returns a warning for each part of the action that gives the account many rights.
    fn warnings(&self) -> Vec<String> {
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

    fn of(done: &Done, desired: Option<&Desired>) -> Self {
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
                Self::PutSecretRight { secret: at.name.clone(), parts: parts.clone() }
            }
            Done::SecretRemoved(at) => Self::RemoveSecret { secret: at.name.clone() },
            Done::SecretReleased(at) => Self::ReleaseSecret { secret: at.name.clone() },
        }
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

impl Change {
    /// Returns a warning if the change gives the account many more rights.
    fn warning(&self) -> Option<String> {
        let is = |field: Field| self.field == field.as_str();
        if is(Field::AllowedIps) && self.new == ANY_ADDRESS {
            Some(format!("from now on it may be used from any address, and not only from {}", self.old))
        } else if is(Field::Affiliate) && self.new == NO_AFFILIATE {
            Some(format!("from now on it sees every affiliate's plans, and not only those of {}", self.old))
        } else if is(Field::Roles) && self.adds_administrator() {
            Some("from now on it is an Administrator and may use the whole API".to_owned())
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

impl Summary {
    /// Counts one more account with this result.
    pub fn count(&mut self, result: AccountResult) {
        *self.of(result) += 1;
    }

    fn of(&mut self, result: AccountResult) -> &mut usize {
        match result {
            AccountResult::Create => &mut self.create,
            AccountResult::Adopt => &mut self.adopt,
            AccountResult::Restore => &mut self.restore,
            AccountResult::Rotate => &mut self.rotate,
            AccountResult::Change => &mut self.change,
            AccountResult::Delete => &mut self.delete,
            AccountResult::Refuse => &mut self.refuse,
            AccountResult::Unchanged => &mut self.unchanged,
        }
    }

    /// Returns the number of all accounts.
    pub fn total(&self) -> usize {
        self.changes() + self.refuse + self.unchanged
    }

    /// Returns the number of accounts for which something is done.
    pub fn changes(&self) -> usize {
        self.create + self.adopt + self.restore + self.rotate + self.change + self.delete
    }
}
