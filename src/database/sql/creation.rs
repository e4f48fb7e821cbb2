//! What a change that creates an account writes: the same parts for a created and for an imported account.

use super::write::{adopter_change, journal_text};
use crate::account::{
    Adopter, Owner, Requester, RotationRequests, Settings, StoredKey, StoredSettings, changes as differences,
};
use crate::database::{Action, Change, UnknownAffiliate};

/// A new account with its first key pair.
pub(in crate::database) struct Creation<'a> {
    pub change: &'a Change,
    pub owner: Option<&'a Owner>,
    pub adopter: Option<&'a Adopter>,
    pub settings: &'a Settings,
    pub key: &'a StoredKey,
    pub answered: RotationRequests,
    pub unknown_affiliate: UnknownAffiliate,
}

/// What the journal says of a creation, in the form of its columns.
pub(in crate::database) struct Entry<'a> {
    pub requested_by: Option<&'a str>,
    pub action: &'static str,
    pub changes: String,
}

impl<'a> Creation<'a> {
    /// Returns the creation that this change is; `None` for a change of an existing account.
    pub fn of(change: &'a Change) -> Option<Self> {
        match &change.action {
            Action::Create { owner, settings, key, answered, unknown_affiliate } => Some(Self {
                change,
                owner: Some(owner),
                adopter: None,
                settings,
                key,
                answered: answered.clone(),
                unknown_affiliate: *unknown_affiliate,
            }),
            Action::Import { settings, key, adopter, unknown_affiliate } => Some(Self {
                change,
                owner: None,
                adopter: adopter.as_ref(),
                settings,
                key,
                answered: RotationRequests::default(),
                unknown_affiliate: *unknown_affiliate,
            }),
            _ => None,
        }
    }

    /// Returns the journal's entry.
    pub fn entry(&self) -> Entry<'a> {
        let mut changes = differences(&StoredSettings::empty(), self.settings);
        changes.extend(self.adopter.map(|adopter| adopter_change(None, Some(adopter))));
        Entry {
            requested_by: self.change.requested_by.as_ref().map(Requester::as_str),
            action: if self.owner.is_some() { "created" } else { "imported" },
            changes: journal_text(&changes),
        }
    }
}
