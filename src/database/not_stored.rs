//! Compares the stored account with what a change wrote, without a database. Foreign triggers may rewrite a row while
//! it is stored.

use super::{Action, Change};
use crate::account::{Account, Adopter, FieldChange, KeyId, KeyState, Life, StoredKey, changes};
use std::fmt;

/// A part of an account that was stored otherwise than written. Never contains a secret key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotStored {
    /// The field of the spec, or the part of the account.
    pub field: String,
    /// What was written, as text.
    pub wanted: String,
    /// What is stored instead, as text.
    pub stored: String,
}

impl fmt::Display for NotStored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: wanted {}, stored {}", self.field, self.wanted, self.stored)
    }
}

/// Returns the parts as one line, for a message.
pub(crate) fn listed(parts: &[NotStored]) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Change {
    /// Returns the parts of this change that were not stored. `stored` is the account as read back in the same
    /// transaction.
    pub(crate) fn not_stored(&self, stored: &Account) -> Vec<NotStored> {
        let mut found = Found(Vec::new());
        match &self.action {
            Action::Create { owner, settings, key, .. } => {
                found.settings(changes(&stored.settings, settings));
                found.compare("owner", stored.owner.as_ref() == Some(owner), owner, &or_none(stored));
                found.live(stored);
                found.pair(stored, key);
            }
            Action::Import { settings, key, .. } => {
                found.settings(changes(&stored.settings, settings));
                found.live(stored);
                found.pair(stored, key);
            }
            Action::Update { settings, .. } => {
                found.settings(changes(&stored.settings, settings));
                found.live(stored);
            }
            Action::Adopt { owner, .. } => {
                found.compare("owner", stored.owner.as_ref() == Some(owner), owner, &or_none(stored));
                found.live(stored);
            }
            Action::AllowAdoption { adopter, .. } => {
                let shown = |adopter: &Option<Adopter>| adopter.as_ref().map_or("none".to_owned(), ToString::to_string);
                found.compare("adopter", stored.adopter == *adopter, &shown(adopter), &shown(&stored.adopter));
            }
            Action::Rotate { key, revoke, .. } => {
                found.pair(stored, key);
                found.gone(stored, revoke);
                for other in stored.keys.iter().filter(|other| other.id != key.id && other.state == KeyState::Active) {
                    found.compare("keys", false, &format!("the pair {} on its way out", other.id), &"it is active");
                }
            }
            Action::Revoke { keys, .. } => found.gone(stored, keys),
            Action::RestoreKey { key, .. } => found.pair(stored, key),
            // The reason may be rewritten, because the suspension alone stops the account.
            Action::Suspend { .. } => found.compare("suspension", stored.suspension.is_some(), &"one", &"none"),
            Action::Resume { .. } => found.compare("suspension", stored.suspension.is_none(), &"none", &"one"),
            Action::Delete { .. } => {
                found.compare("enabled", !stored.settings.enabled, &false, &stored.settings.enabled);
                found.compare("life", matches!(stored.life, Life::Deleted { .. }), &"deleted", &life(stored));
            }
            Action::Retain { .. } => {
                found.compare("life", matches!(stored.life, Life::Retained { .. }), &"retained", &life(stored));
            }
        }
        found.0
    }

    /// Returns whether the transaction may be committed although these parts were not stored. Only settings may differ,
    /// the stored settings must not give more access than the requested ones, and of an update at least one change must
    /// be stored. Otherwise the whole change is rolled back.
    pub(crate) fn may_stay(&self, stored: &Account, not_stored: &[NotStored]) -> bool {
        let lacks = |field: &str| not_stored.iter().any(|part| part.field == field);
        let only_settings_differ =
            not_stored.iter().all(|part| !["owner", "life", "keys"].contains(&part.field.as_str()));
        match &self.action {
            Action::Create { settings, .. } | Action::Import { settings, .. } => {
                only_settings_differ && stored.settings.grants_no_more_than(&settings.into())
            }
            Action::Update { settings, changes, .. } => {
                only_settings_differ
                    && changes.iter().any(|change| !lacks(change.field.as_str()))
                    && stored.settings.grants_no_more_than(&settings.into())
            }
            _ => false,
        }
    }
}

struct Found(Vec<NotStored>);

impl Found {
    fn compare(&mut self, field: &str, is_kept: bool, wanted: &dyn fmt::Display, stored: &dyn fmt::Display) {
        if !is_kept {
            self.0.push(NotStored { field: field.to_owned(), wanted: wanted.to_string(), stored: stored.to_string() });
        }
    }

    fn settings(&mut self, changes: Vec<FieldChange>) {
        self.0.extend(changes.into_iter().map(NotStored::from));
    }

    fn live(&mut self, stored: &Account) {
        self.compare("life", stored.life == Life::Live, &"live", &life(stored));
    }

    fn pair(&mut self, stored: &Account, key: &StoredKey) {
        let is_pair = |found: &StoredKey| {
            found.id == key.id
                && found.api_key == key.api_key
                && found.sealed == key.sealed
                && (found.state == KeyState::Active) == (key.state == KeyState::Active)
        };
        let is_kept = stored.keys.iter().any(is_pair);
        self.compare("keys", is_kept, &format!("the pair {}", key.id), &"another, or none");
    }

    fn gone(&mut self, stored: &Account, keys: &[KeyId]) {
        let left = |id: &&KeyId| stored.keys.iter().any(|key| key.id == **id && key.state != KeyState::Active);
        for id in keys.iter().filter(left) {
            self.compare("keys", false, &format!("no pair {id}"), &"it is there");
        }
    }
}

impl From<FieldChange> for NotStored {
    fn from(change: FieldChange) -> Self {
        Self { field: change.field.to_string(), wanted: change.new, stored: change.old }
    }
}

fn or_none(account: &Account) -> String {
    account.owner.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
}

fn life(account: &Account) -> &'static str {
    match account.life {
        Life::Live => "live",
        Life::Retained { .. } => "retained",
        Life::Deleted { .. } => "deleted",
    }
}
