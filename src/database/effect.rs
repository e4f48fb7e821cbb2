//! Computes the account that results from a change, without a database. The adapters do the same in SQL. The contract
//! suite checks that both agree, so a change of one needs the same change of the other.

use super::{Action, Change, DatabaseError, UnknownAffiliate};
use crate::account::{
    Account, Adopter, AffiliateName, KeyState, Life, Owner, RotationRequests, Settings, StoredKey, StoredSettings,
    Suspension, Version,
};
use std::cmp::Reverse;

impl Change {
    /// Returns the account after this change. `read` is the account before the change, or `None` if it does not exist.
    ///
    /// Does not check that names, owners and API keys are free and that affiliates are known: that depends on other
    /// rows.
    ///
    /// # Errors
    /// [`DatabaseError::Conflict`] if the account is not the version that was observed, or is in a wrong state for the
    /// action.
    pub(crate) fn effect(&self, read: Option<&Account>) -> Result<Account, DatabaseError> {
        let mut account = match &self.action {
            Action::Create { owner, settings, key, answered, .. } => {
                return self.created(read, (Some(owner), None), settings, key, answered);
            }
            Action::Import { settings, key, adopter, .. } => {
                return self.created(read, (None, adopter.as_ref()), settings, key, &RotationRequests::default());
            }
            Action::AllowAdoption { expected, .. }
            | Action::Adopt { expected, .. }
            | Action::Rotate { expected, .. }
            | Action::Revoke { expected, .. }
            | Action::Update { expected, .. }
            | Action::RestoreKey { expected, .. }
            | Action::Suspend { expected, .. }
            | Action::Resume { expected }
            | Action::Delete { expected, .. }
            | Action::Retain { expected } => {
                read.filter(|account| account.version == *expected).cloned().ok_or(DatabaseError::Conflict)?
            }
        };
        account.version.0 += 1;
        match &self.action {
            Action::Create { .. } | Action::Import { .. } => {}
            Action::AllowAdoption { adopter, .. } => {
                check_undeclared(&account)?;
                account.adopter.clone_from(adopter);
            }
            Action::Adopt { owner, answered, .. } => {
                check_undeclared(&account)?;
                account.adopter = None;
                account.owner = Some(owner.clone());
                account.life = Life::Live;
                account.answered_requests = answered.clone();
            }
            Action::Rotate { key, old_expires, revoke, answered, .. } => {
                account.keys.retain(|key| !revoke.contains(&key.id) || key.state == KeyState::Active);
                match old_expires {
                    None => account.keys.retain(|key| key.state != KeyState::Active),
                    Some(expires) => {
                        for key in account.keys.iter_mut().filter(|key| key.state == KeyState::Active) {
                            key.state = KeyState::Retiring { expires: *expires };
                        }
                    }
                }
                account.keys.insert(0, key.clone());
                account.answered_requests = answered.clone();
            }
            Action::Revoke { keys, .. } => {
                account.keys.retain(|key| !keys.contains(&key.id) || key.state == KeyState::Active);
            }
            Action::Update { settings, .. } => {
                account.life = Life::Live;
                account.adopter = None;
                account.settings = settings.into();
            }
            Action::RestoreKey { key, .. } => account.keys.insert(0, key.clone()),
            Action::Suspend { reason, .. } => {
                let since = account.suspension.as_ref().map_or(self.at, |found| found.since);
                account.suspension = Some(Suspension { since, reason: reason.to_string() });
            }
            Action::Resume { .. } => account.suspension = None,
            Action::Delete { .. } => {
                account.life = Life::Deleted { since: self.at };
                account.settings = StoredSettings { enabled: false, ..account.settings };
            }
            Action::Retain { .. } => account.life = Life::Retained { since: self.at },
        }
        // The same order as when the keys are read: the newest first.
        account.keys.sort_by_cached_key(|key| (Reverse(key.created), key.id.to_string()));
        Ok(account)
    }

    fn created(
        &self,
        read: Option<&Account>,
        (owner, adopter): (Option<&Owner>, Option<&Adopter>),
        settings: &Settings,
        key: &StoredKey,
        answered: &RotationRequests,
    ) -> Result<Account, DatabaseError> {
        match read {
            Some(_) => Err(DatabaseError::Conflict),
            None => Ok(Account {
                id: self.account,
                version: Version(1),
                owner: owner.cloned(),
                adopter: adopter.cloned(),
                life: Life::Live,
                settings: settings.into(),
                keys: vec![key.clone()],
                answered_requests: answered.clone(),
                suspension: None,
            }),
        }
    }

    /// Returns the affiliate that this change registers if OpsAdmin does not know it.
    pub(super) fn registers(&self) -> Option<&AffiliateName> {
        match &self.action {
            Action::Create { settings, unknown_affiliate: UnknownAffiliate::Register, .. }
            | Action::Import { settings, unknown_affiliate: UnknownAffiliate::Register, .. }
            | Action::Update { settings, unknown_affiliate: UnknownAffiliate::Register, .. } => {
                settings.affiliate.as_ref()
            }
            _ => None,
        }
    }
}

/// Fails with a conflict if a resource declares the account or if the account is deleted: it then cannot be adopted.
fn check_undeclared(account: &Account) -> Result<(), DatabaseError> {
    let is_declared = account.owner.is_some() && account.life == Life::Live;
    if is_declared || matches!(account.life, Life::Deleted { .. }) { Err(DatabaseError::Conflict) } else { Ok(()) }
}
