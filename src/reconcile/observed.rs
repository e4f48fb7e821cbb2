//! The observed state of one resource: its account in the database and its Secret, as far as a plan needs them.

use super::Desired;
use crate::account::{Account, ApiKey, KeyId, SecretKey};
use crate::api::ApiAccountStatus;
use crate::secrets::{FoundSecret, IssuedKeys, SecretRef, VerifiedSecret};

/// The observed state of one resource.
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
    /// The Secret in the version that was verified for this generation and this key pair.
    Verified,
    /// The resource's own Secret.
    Own {
        /// The Secret.
        found: Box<FoundSecret>,
        /// The account's active key pair, to compare the Secret with; `None` if there is no account or it has no active
        /// key pair.
        active: Option<IssuedKeys>,
        /// The origin of the key pair in the Secret, if the account has no active key pair.
        evidence: Evidence,
    },
    /// A foreign Secret. Its data is not read.
    Foreign {
        /// The owner of the Secret, in words.
        holder: String,
    },
}

/// The origin of a key pair that a Secret holds and the database does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// The Secret holds no such key pair, or a revoked one.
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
    /// Returns the version of a Secret that is as declared, if the store keeps versions.
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

    /// Returns whether the resource's own Secret holds keys whose origin nothing proves.
    pub fn is_unproven(&self) -> bool {
        matches!(self, Self::Own { active: None, evidence: Evidence::Unmarked, .. })
    }
}

/// A version of a Secret that was verified earlier, and the state that it was verified against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The name of the Secret.
    pub name: String,
    /// The `resourceVersion` of the Secret.
    pub version: String,
    /// The generation of the resource.
    pub generation: i64,
    /// The id of the active key pair.
    pub key: String,
}

impl Verified {
    /// Returns the verified version that a status names; `None` if the status does not name all of it.
    pub fn of(status: &ApiAccountStatus) -> Option<Self> {
        Some(Self {
            name: status.secret_name.clone()?,
            version: status.secret_resource_version.clone()?,
            generation: status.observed_generation?,
            key: status.active_key()?.id.clone(),
        })
    }

    /// Returns the version for a lookup. The version counts only if the Secret is marked with the keyring's key of this
    /// id.
    pub fn known<'a>(&'a self, marked_with: Option<&'a str>) -> VerifiedSecret<'a> {
        VerifiedSecret { version: &self.version, marked_with }
    }

    /// Returns whether the version was verified against what is desired now: the same spec, Secret name and key pair.
    pub fn holds_for(&self, desired: &Desired, active: KeyId) -> bool {
        self.name == desired.secret.at.name
            && Some(self.generation) == desired.generation
            && self.key == active.to_string()
    }
}
