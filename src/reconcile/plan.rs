//! The plan: the changes that turn the observed state into the desired state. Pure: the same input gives the same plan.

use super::{Desired, Observed, ObservedSecret, RecoveredKeys};
use crate::account::{
    Account, FieldChange, KeyId, Life, RotationEffect, RotationReason, changes, expired, rotation_effect,
    rotation_reason,
};
use crate::secrets::{ResourceIdentity, SecretManifest, SecretRef, is_bookkeeping};
use jiff::Timestamp;

/// The changes to make, in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The change to the account.
    pub account: AccountPlan,
    /// The change to the account's keys, made after the change to the account.
    pub keys: KeysPlan,
    /// The change to the Secret.
    pub secret: SecretPlan,
    /// Secrets of this resource under former names, to delete once the keys are in the new Secret.
    pub remove: Vec<SecretRef>,
}

/// The change to an account in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountPlan {
    /// Nothing.
    Keep,
    /// Create the account.
    Create {
        /// The keys that the account's Secret still holds; `None` for new keys.
        recovered: Option<RecoveredKeys>,
    },
    /// Nothing: the account is missing, its Secret holds keys, and nothing proves that they are the account's.
    Unproven,
    /// Change these fields.
    Update {
        /// The fields, each with its old and its new value.
        changes: Vec<FieldChange>,
        /// Whether the account was deleted or retained and is now declared again.
        restore: bool,
    },
}

/// The change to an account's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysPlan {
    /// Nothing.
    Keep,
    /// Give the account back the key pair that it lost and that its own Secret still holds.
    Restore(RecoveredKeys),
    /// Revoke these key pairs, which have expired.
    Revoke(Vec<KeyId>),
    /// Generate a new key pair, and let the old one expire.
    Rotate {
        /// The reason for the rotation.
        reason: RotationReason,
        /// When the old key pair expires; `None` if it is revoked at once.
        old_expires: Option<Timestamp>,
        /// Older key pairs to revoke: those that have expired, and those beyond the maximum number.
        revoke: Vec<KeyId>,
    },
}

/// The change to the Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlan {
    /// Nothing.
    Keep,
    /// Create the Secret.
    Create,
    /// Correct these parts.
    Replace {
        /// The parts, by name.
        parts: Vec<String>,
    },
    /// Compare it again once the account has keys: until then there is nothing to compare it with.
    Undecided,
    /// Nothing for now, although the Secret differs: something keeps changing it.
    Postpone,
    /// Nothing, because the Secret is foreign.
    Refuse {
        /// The owner of the Secret, in words.
        holder: String,
    },
}

/// The holder that is reported for a Secret whose keys have no proof of their origin.
const UNPROVEN: &str = "it holds keys, and nothing proves that they are this account's";

impl SecretPlan {
    /// Returns the plan without differences that only this program uses.
    #[must_use]
    pub fn without_bookkeeping(self) -> Self {
        match self {
            Self::Replace { parts } if parts.iter().all(|part| is_bookkeeping(part)) => Self::Keep,
            other => other,
        }
    }
}

impl Plan {
    /// Returns whether there is nothing to do.
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

/// Returns the changes that turn `observed` into `desired` at this time. After these changes, the plan is empty.
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

/// Plans the change to the account's keys. Keys are rotated only when the Secret can hold the new key pair at once:
/// while the Secret is foreign or missing, the old key pair stays.
fn plan_keys(desired: &Desired, observed: &Observed, secret: &SecretPlan, now: Timestamp) -> KeysPlan {
    let Some(account) = &observed.account else {
        return KeysPlan::Keep;
    };
    if let Some(keys) = lost_keys(account, &observed.secret) {
        return KeysPlan::Restore(keys.clone());
    }
    if account.active_key().is_none() {
        // If expired key pairs were revoked here, the key pair in the Secret would look lost.
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

/// Returns the key pair that the account lost and its own Secret still holds. A retiring key pair is not lost, because
/// it was retired on purpose.
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
