//! What was observed: the account in the database and the Secret, as far as a plan needs to know.

use super::Desired;
use crate::account::{Account, ApiKey, KeyId, SecretKey};
use crate::api::ApiAccountStatus;
use crate::secrets::{FoundSecret, IssuedKeys, SecretRef, VerifiedSecret};

/// What was observed for one resource.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The account that the resource declares or once declared.
    pub account: Option<Account>,
    /// What is under the Secret's name.
    pub secret: ObservedSecret,
    /// Secrets of this resource under former names.
    pub stale_secrets: Vec<SecretRef>,
}

/// What is under the Secret's name.
#[derive(Debug, Clone)]
pub enum ObservedSecret {
    /// Nothing.
    Absent,
    /// The version that was verified to be right for this generation and these keys.
    Verified,
    /// The resource's own Secret.
    Own {
        /// The Secret.
        found: Box<FoundSecret>,
        /// The account's active pair, to compare it with; `None` while there is no account, or it has none.
        active: Option<IssuedKeys>,
        /// Whose the key pair is that it holds, where the account has none.
        evidence: Evidence,
    },
    /// A foreign Secret. Its data is not read.
    Foreign {
        /// Whose it is, in words.
        holder: String,
    },
}

/// Whose a key pair is that a Secret holds and the database does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// The Secret holds no such pair, or one that was revoked.
    Nothing,
    /// The Secret's mark proves that this program issued the pair to this resource.
    Marked(RecoveredKeys),
    /// The pair may be from anybody.
    Unmarked,
}

/// A key pair that the database lost and the resource's own Secret still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredKeys {
    /// The public half.
    pub api_key: ApiKey,
    /// The private half.
    pub secret_key: SecretKey,
}

impl ObservedSecret {
    /// The version of a Secret that is right as it is, if versions are kept.
    pub fn version(&self, verified: Option<&Verified>) -> Option<String> {
        match self {
            Self::Own { found, .. } => found.version().map(str::to_owned),
            _ => verified.map(|verified| verified.version.clone()),
        }
    }

    /// Returns the keys in the resource's own Secret that are proven to be its account's.
    pub fn recoverable_keys(&self) -> Option<&RecoveredKeys> {
        match self {
            Self::Own { evidence: Evidence::Marked(keys), .. } => Some(keys),
            _ => None,
        }
    }

    /// Whether the resource's own Secret holds keys and nothing proves whose they are.
    pub fn is_unproven(&self) -> bool {
        matches!(self, Self::Own { active: None, evidence: Evidence::Unmarked, .. })
    }
}

/// The version of a Secret that was verified once, and what it was verified against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The Secret.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The resource's generation.
    pub generation: i64,
    /// The active pair's id.
    pub key: String,
}

impl Verified {
    /// What a status says was verified.
    pub fn of(status: &ApiAccountStatus) -> Option<Self> {
        Some(Self {
            name: status.secret_name.clone()?,
            version: status.secret_resource_version.clone()?,
            generation: status.observed_generation?,
            key: status.active_key()?.id.clone(),
        })
    }

    /// The Secret, if it is marked with the keyring's key of this id.
    pub fn known<'a>(&'a self, marked_with: Option<&'a str>) -> VerifiedSecret<'a> {
        VerifiedSecret { version: &self.version, marked_with }
    }

    /// Whether it was verified against what is desired now: the same spec, Secret name and key pair.
    pub fn holds_for(&self, desired: &Desired, active: KeyId) -> bool {
        self.name == desired.secret.at.name
            && Some(self.generation) == desired.generation
            && self.key == active.to_string()
    }
}
