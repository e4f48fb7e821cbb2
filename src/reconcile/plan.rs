//! The plan: what has to be done for what was observed to become what is desired. Pure: the same input gives the same plan.

use super::{Desired, Observed, ObservedSecret, RecoveredKeys};
use crate::account::{
    Account, FieldChange, KeyId, Life, RotationEffect, RotationReason, changes, expired, rotation_effect,
    rotation_reason,
};
use crate::secrets::{ResourceIdentity, SecretManifest, SecretRef, is_bookkeeping};
use jiff::Timestamp;

/// What has to be done, in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In the account database.
    pub account: AccountPlan,
    /// To its keys, once the account is as declared.
    pub keys: KeysPlan,
    /// To the Secret.
    pub secret: SecretPlan,
    /// Secrets of this resource under former names, to delete once the keys are in the new one.
    pub remove: Vec<SecretRef>,
}

/// What has to be done in the account database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountPlan {
    /// Nothing.
    Keep,
    /// Create the account.
    Create {
        /// The keys that its Secret still holds; `None`: new ones.
        recovered: Option<RecoveredKeys>,
    },
    /// Nothing: the account is missing, its Secret holds keys, and nothing proves that they are the account's.
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
    /// Give the account back the key pair that it lost and that its own Secret still holds.
    Restore(RecoveredKeys),
    /// Remove these key pairs, which have expired.
    Revoke(Vec<KeyId>),
    /// Generate a new key pair, and let the old one expire.
    Rotate {
        /// Why.
        reason: RotationReason,
        /// Until when the old pair goes on working; `None`: not at all.
        old_expires: Option<Timestamp>,
        /// Older pairs that have expired, or have to go now because there would be too many.
        revoke: Vec<KeyId>,
    },
}

/// What has to be done to the Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlan {
    /// Nothing.
    Keep,
    /// Create it.
    Create,
    /// Correct these parts.
    Replace {
        /// Which, by name.
        parts: Vec<String>,
    },
    /// Compare it again once the account has keys: until then there is nothing to compare it with.
    Undecided,
    /// Nothing for now, though it differs: something keeps changing it.
    Postpone,
    /// Nothing may be done: it is a foreign Secret.
    Refuse {
        /// Whose it is, in words.
        holder: String,
    },
}

/// The holder of a Secret whose keys may be from anybody.
const UNPROVEN: &str = "it holds keys, and nothing proves that they are this account's";

impl SecretPlan {
    /// Returns the plan without differences that matter to nobody but this program.
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
    /// Returns the identity that the resource's Secret is annotated with.
    pub fn identity(&self) -> ResourceIdentity {
        ResourceIdentity { owner: self.owner.clone(), uid: self.uid.clone() }
    }
}

/// Returns what has to be done at this time for `observed` to become `desired`. Once that is done, the plan is empty.
pub fn plan(desired: &Desired, observed: &Observed, now: Timestamp) -> Plan {
    let account = plan_account(desired, observed);
    let secret = match account {
        AccountPlan::Unproven => SecretPlan::Refuse { holder: UNPROVEN.to_owned() },
        _ => plan_secret(desired, &observed.secret),
    };
    // A partner may still use the old Secret: it is deleted only when the new one can be written.
    let remove = match secret {
        SecretPlan::Refuse { .. } => Vec::new(),
        _ => observed.stale_secrets.clone(),
    };
    Plan { account, keys: plan_keys(desired, observed, &secret, now), secret, remove }
}

/// Keys are rotated only when the new pair can be handed out. While the Secret is foreign or missing, the old pair stays.
fn plan_keys(desired: &Desired, observed: &Observed, secret: &SecretPlan, now: Timestamp) -> KeysPlan {
    let Some(account) = &observed.account else {
        return KeysPlan::Keep;
    };
    if let Some(keys) = lost_keys(account, &observed.secret) {
        return KeysPlan::Restore(keys.clone());
    }
    if account.active_key().is_none() {
        // If expired pairs were removed, the pair in the Secret would look lost.
        return KeysPlan::Keep;
    }
    let expired: Vec<KeyId> = expired(account, now).into_iter().map(|key| key.id).collect();
    let can_hand_out = matches!(secret, SecretPlan::Keep | SecretPlan::Replace { .. });
    match rotation_reason(&desired.rotation, account, now).filter(|_| can_hand_out) {
        Some(reason) => {
            let RotationEffect { old_expires, revoke } = rotation_effect(account, desired.rotation.overlap, now);
            KeysPlan::Rotate { reason, old_expires, revoke }
        }
        None if expired.is_empty() => KeysPlan::Keep,
        None => KeysPlan::Revoke(expired),
    }
}

/// Returns the key pair that the account lost and its own Secret still holds. A retiring pair is not lost: somebody retired it.
fn lost_keys<'a>(account: &Account, secret: &'a ObservedSecret) -> Option<&'a RecoveredKeys> {
    let is_known = |keys: &&RecoveredKeys| account.keys.iter().any(|known| known.api_key == keys.api_key);
    secret.recoverable_keys().filter(|keys| account.active_key().is_none() && !is_known(keys))
}

fn plan_account(desired: &Desired, observed: &Observed) -> AccountPlan {
    let Some(account) = &observed.account else {
        if observed.secret.is_unproven() {
            return AccountPlan::Unproven;
        }
        return AccountPlan::Create { recovered: observed.secret.recoverable_keys().cloned() };
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
        ObservedSecret::Own { active: None, .. } => SecretPlan::Undecided,
        ObservedSecret::Own { found, active: Some(active), .. } => {
            let parts = found.differences(&SecretManifest::new(&desired.secret, desired.identity(), active));
            if parts.is_empty() { SecretPlan::Keep } else { SecretPlan::Replace { parts } }
        }
    }
}
