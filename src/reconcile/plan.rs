//! The plan: what has to be done for what is observed to become what is desired. Pure, and free of keys.

use super::{Desired, Observed, ObservedSecret};
use crate::account::{
    Account, ApiKey, FieldChange, KeyId, Life, RotationReason, Succession, changes, expired, succession, why_rotate,
};
use crate::secrets::{ResourceIdentity, SecretManifest, SecretRef, is_bookkeeping};
use jiff::Timestamp;

/// What has to be done, in this order: account, Secret, stale_secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In the account database.
    pub account: AccountPlan,
    /// To its keys, once the account is as declared.
    pub keys: KeysPlan,
    /// At the Secret's place.
    pub secret: SecretPlan,
    /// Secrets of this resource in other places, to be deleted once the keys are in the new place.
    pub remove: Vec<SecretRef>,
}

/// What has to be done in the account database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountPlan {
    /// Nothing.
    Keep,
    /// Make the account.
    Create {
        /// With the keys that its Secret still holds, instead of new ones.
        recover_keys: bool,
    },
    /// Nothing: it is not there, its Secret holds keys, and nothing proves that they are the account's.
    Unproven,
    /// Change these fields.
    Update {
        /// Each field, old to new.
        changes: Vec<FieldChange>,
        /// It was deleted or retained, and is declared again.
        restore: bool,
    },
}

/// What has to be done to an account's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysPlan {
    /// Nothing.
    Keep,
    /// Give the account the pair back that it has lost and that its own Secret still holds.
    Restore,
    /// Remove these pairs, which have expired.
    Revoke(Vec<KeyId>),
    /// Make a new pair, and let the old one expire.
    Rotate {
        /// Why.
        reason: RotationReason,
        /// Until when the old pair goes on working; `None`: not at all.
        old_expires: Option<Timestamp>,
        /// Older pairs that have expired, or have to go now because there would be too many.
        revoke: Vec<KeyId>,
    },
}

/// What has to be done at the Secret's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlan {
    /// Nothing.
    Keep,
    /// Write it.
    Create,
    /// Put these parts right.
    Replace {
        /// Which, by name.
        parts: Vec<String>,
    },
    /// Nothing for now, though it is not right: something keeps changing it.
    Postpone,
    /// Nothing may be done: it is somebody else's.
    Refuse {
        /// Whose it is, in words.
        holder: String,
    },
}

/// What is said of a Secret whose keys may be the account's or anybody's.
const UNPROVEN: &str = "it holds keys, and nothing proves that they are this account's";

impl SecretPlan {
    /// The same without what nobody but this program has to do with.
    #[must_use]
    pub fn without_bookkeeping(self) -> Self {
        match self {
            Self::Replace { parts } if parts.iter().all(|part| is_bookkeeping(part)) => Self::Keep,
            other => other,
        }
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.account == AccountPlan::Keep
            && self.keys == KeysPlan::Keep
            && self.secret == SecretPlan::Keep
            && self.remove.is_empty()
    }
}

impl Desired {
    /// The resource, as its Secret knows it.
    pub fn identity(&self) -> ResourceIdentity {
        ResourceIdentity { owner: self.owner.clone(), uid: self.uid.clone() }
    }
}

/// What has to be done at this time for `observed` to become `desired`; nothing, once that is done.
pub fn plan(desired: &Desired, observed: &Observed, now: Timestamp) -> Plan {
    let account = plan_account(desired, observed);
    let secret = match account {
        AccountPlan::Unproven => SecretPlan::Refuse { holder: UNPROVEN.to_owned() },
        _ => plan_secret(desired, &observed.secret),
    };
    // A partner may still use the old Secret: it goes only when the new one can be written.
    let remove = match secret {
        SecretPlan::Refuse { .. } => Vec::new(),
        _ => observed.stale_secrets.clone(),
    };
    Plan { account, keys: plan_keys(desired, observed, &secret, now), secret, remove }
}

/// New keys are made only when they can be handed out: while the Secret is somebody else's, or not yet there, the old ones
/// go on.
fn plan_keys(desired: &Desired, observed: &Observed, secret: &SecretPlan, now: Timestamp) -> KeysPlan {
    let Some(account) = &observed.account else {
        return KeysPlan::Keep;
    };
    if is_lost(account, &observed.secret) {
        return KeysPlan::Restore;
    }
    if account.active_key().is_none() {
        // Removing what has expired would make it look lost.
        return KeysPlan::Keep;
    }
    let expired: Vec<KeyId> = expired(account, now).into_iter().map(|key| key.id).collect();
    let can_hand_out = matches!(secret, SecretPlan::Keep | SecretPlan::Replace { .. });
    match why_rotate(&desired.rotation, account, now).filter(|_| can_hand_out) {
        Some(reason) => {
            let Succession { old_expires, revoke } = succession(account, desired.rotation.overlap, now);
            KeysPlan::Rotate { reason, old_expires, revoke }
        }
        None if expired.is_empty() => KeysPlan::Keep,
        None => KeysPlan::Revoke(expired),
    }
}

/// Whether the account has no active pair and its own Secret has one. A pair that is on its way out was put on it by
/// somebody, and stays on it.
fn is_lost(account: &Account, secret: &ObservedSecret) -> bool {
    let is_known = |api_key: &ApiKey| account.keys.iter().any(|known| known.api_key == *api_key);
    account.active_key().is_none() && secret.recoverable_keys().is_some_and(|(api_key, _)| !is_known(&api_key))
}

fn plan_account(desired: &Desired, observed: &Observed) -> AccountPlan {
    let Some(account) = &observed.account else {
        if observed.secret.is_unproven() {
            return AccountPlan::Unproven;
        }
        return AccountPlan::Create { recover_keys: observed.secret.recoverable_keys().is_some() };
    };
    let changes = changes(&account.settings, &desired.settings);
    let restore = is_restored(account);
    if changes.is_empty() && !restore { AccountPlan::Keep } else { AccountPlan::Update { changes, restore } }
}

fn is_restored(account: &Account) -> bool {
    account.life != Life::Live
}

pub(super) fn plan_secret(desired: &Desired, secret: &ObservedSecret) -> SecretPlan {
    match secret {
        ObservedSecret::Absent => SecretPlan::Create,
        ObservedSecret::Verified => SecretPlan::Keep,
        ObservedSecret::Foreign { holder } => SecretPlan::Refuse { holder: holder.clone() },
        // Its account is yet to be made: whichever keys that gets, the Secret is compared with them then.
        ObservedSecret::Own { active: None, .. } => SecretPlan::Replace { parts: vec!["data".to_owned()] },
        ObservedSecret::Own { found, active: Some(active), .. } => {
            let parts = found.differences(&SecretManifest::new(&desired.secret, desired.identity(), active));
            if parts.is_empty() { SecretPlan::Keep } else { SecretPlan::Replace { parts } }
        }
    }
}
