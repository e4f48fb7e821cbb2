//! What is or would be done for each account, as `plan` and `apply` both tell it: the same value, so that what one
//! printed can be compared with what the other did.

use crate::account::{ANY_ADDRESS, Field, FieldChange, NO_AFFILIATE, Owner, Role, Settings, StoredSettings, changes};
use crate::manifests::Manifest;
use crate::reconcile::{Desired, Done, Outcome};
use serde::Serialize;
use std::fmt;

/// The field of a result that lists each account, in the order of the manifests, after them those that no manifest declares,
/// and then those that had to wait for a name.
pub const ACCOUNTS: &str = "accounts";
/// The field of a result that says how many accounts come out which way.
pub const SUMMARY: &str = "summary";

/// What is done for one account.
#[derive(Debug, PartialEq, Serialize)]
pub struct AccountReport {
    /// The resource's namespace.
    pub namespace: String,
    /// The resource's name.
    pub name: String,
    /// `FILE:LINE:COLUMN` of its manifest; `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// What it comes to.
    pub result: Verdict,
    /// Each thing that is done, in order.
    pub actions: Vec<Action>,
    /// What of it lets the account do more than before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Why it is not, or not yet, as declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// What differs and is left so, since the resource is only observed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Change>,
}

/// What it comes to for an account, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is made.
    Create,
    /// One that nobody declared is taken over.
    Adopt,
    /// One that was deleted or let go is declared again.
    Restore,
    /// It gets new keys.
    Rotate,
    /// Something else of it or of its Secret is changed.
    Change,
    /// It is deleted.
    Delete,
    /// It is not as declared, and cannot be made so.
    Refuse,
    /// Nothing is to be done.
    Unchanged,
}

/// One thing that is done. Its text may be shown to anybody.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Action {
    /// The account is made.
    Create {
        /// With the keys that its Secret still holds.
        recover_keys: bool,
        /// What is set on it.
        settings: Vec<Change>,
    },
    /// An account that nobody declared is taken over.
    Adopt,
    /// An account that was deleted or let go is taken up again with its keys.
    Restore {
        /// What changes on it.
        changes: Vec<Change>,
    },
    /// Settings are changed.
    Update {
        /// Each field.
        changes: Vec<Change>,
    },
    /// The account gets a new pair of keys.
    Rotate {
        /// Why, in words.
        reason: &'static str,
        /// Whether the old pair goes on working for a while.
        overlap: bool,
    },
    /// Pairs that have expired are removed.
    Revoke {
        /// Their ids.
        keys: Vec<String>,
    },
    /// The account gets the keys back that its Secret still holds.
    RestoreKey,
    /// The account is disabled, and purged some time later.
    Delete,
    /// The account is let go of as it is.
    Retain,
    /// The Secret is written.
    WriteSecret {
        /// Its name.
        secret: String,
    },
    /// The Secret is put right.
    PutSecretRight {
        /// Its name.
        secret: String,
        /// Which parts, by name.
        parts: Vec<String>,
    },
    /// A Secret that held the keys before is deleted.
    RemoveSecret {
        /// Its name.
        secret: String,
    },
    /// The Secret is left to itself.
    ReleaseSecret {
        /// Its name.
        secret: String,
    },
}

/// A field, old to new, in words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its name in `spec`.
    pub field: String,
    /// What it was.
    pub old: String,
    /// What it becomes.
    pub new: String,
}

/// What the resource's condition says on a cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Condition {
    /// Its reason.
    pub reason: &'static str,
    /// Its message.
    pub message: String,
}

/// How many accounts come out which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// To make, or made.
    pub create: usize,
    /// Taken over.
    pub adopt: usize,
    /// Declared again.
    pub restore: usize,
    /// With new keys.
    pub rotate: usize,
    /// Changed otherwise.
    pub change: usize,
    /// Deleted.
    pub delete: usize,
    /// Refused.
    pub refuse: usize,
    /// As declared.
    pub unchanged: usize,
    /// No Secret was looked at, so that one that is missing or wrong is not in this.
    #[serde(rename = "secretsNotCompared", skip_serializing_if = "std::ops::Not::not")]
    pub secrets_not_compared: bool,
}

impl AccountReport {
    /// What came of a manifest.
    pub fn declared(manifest: &Manifest, outcome: &Outcome) -> Self {
        let manifest_place = Some(manifest.place.to_string());
        Self::of(&manifest.desired.owner, manifest_place, Some(&manifest.desired), outcome)
    }

    /// What came of an account that no manifest declares.
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
            result: Verdict::of(&actions, is_refused),
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

impl Verdict {
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
    /// What nobody who reads a plan should overlook.
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
                settings: desired.map(|desired| of_a_new_account(&desired.settings)).unwrap_or_default(),
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

/// What is set on a new account, whether it is enabled in any case.
fn of_a_new_account(settings: &Settings) -> Vec<Change> {
    let nothing = StoredSettings { enabled: !settings.enabled, ..StoredSettings::nothing() };
    all(&changes(&nothing, settings))
}

fn all(changes: &[FieldChange]) -> Vec<Change> {
    changes.iter().map(Change::from).collect()
}

impl Change {
    /// What it lets the account do that it could not do before, if that is much.
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
    /// Counts one more account that comes to this.
    pub fn count(&mut self, verdict: Verdict) {
        *self.of(verdict) += 1;
    }

    fn of(&mut self, verdict: Verdict) -> &mut usize {
        match verdict {
            Verdict::Create => &mut self.create,
            Verdict::Adopt => &mut self.adopt,
            Verdict::Restore => &mut self.restore,
            Verdict::Rotate => &mut self.rotate,
            Verdict::Change => &mut self.change,
            Verdict::Delete => &mut self.delete,
            Verdict::Refuse => &mut self.refuse,
            Verdict::Unchanged => &mut self.unchanged,
        }
    }

    /// How many accounts there are in all.
    pub fn total(&self) -> usize {
        self.changes() + self.refuse + self.unchanged
    }

    /// For how many something is done.
    pub fn changes(&self) -> usize {
        self.create + self.adopt + self.restore + self.rotate + self.change + self.delete
    }
}
