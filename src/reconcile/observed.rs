//! What is there now: the account in the database and the Secret, as far as a plan needs to know.

use super::Desired;
use crate::account::{Account, ApiKey, KeyId, SecretKey};
use crate::api::ApiAccountStatus;
use crate::secrets::{FoundSecret, IssuedKeys, SecretRef, VerifiedSecret};

/// What was observed for one resource.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The account that the resource declares or once declared.
    pub account: Option<Account>,
    /// What is at the Secret's place.
    pub secret: ObservedSecret,
    /// Secrets of this resource in other places, where it had its keys before.
    pub stale_secrets: Vec<SecretRef>,
}

/// What is at the Secret's place.
#[derive(Debug, Clone)]
pub enum ObservedSecret {
    /// Nothing.
    Absent,
    /// The version that was verified to be right for this generation and these keys.
    Verified,
    /// The resource's own Secret.
    Own {
        /// What it is like.
        found: Box<FoundSecret>,
        /// The account's active pair, to compare it with; `None` while there is no account, or it has none.
        active: Option<IssuedKeys>,
        /// What to make of the pair that it holds, where the account has none.
        evidence: Evidence,
    },
    /// Somebody else's Secret, of which nothing is read.
    Foreign {
        /// Whose it is, in words.
        holder: String,
    },
}

/// What to make of a pair of keys that is in a Secret alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// There is none, or it was revoked: nobody needs it.
    Nothing,
    /// Its mark shows that this program handed it out to this very resource.
    Marked,
    /// Anybody may have put it there.
    Unmarked,
}

impl ObservedSecret {
    /// The version of a Secret that is right as it is, if versions are kept.
    pub fn version(&self, verified: Option<&Verified>) -> Option<String> {
        match self {
            Self::Own { found, .. } => found.version().map(str::to_owned),
            _ => verified.map(|verified| verified.version.clone()),
        }
    }

    /// The keys to recover an account with that lost its row: those in the resource's own Secret, if they are proven to be
    /// its own.
    pub fn recoverable_keys(&self) -> Option<(ApiKey, SecretKey)> {
        match self {
            Self::Own { found, evidence: Evidence::Marked, .. } => found.keys(),
            _ => None,
        }
    }

    /// Whether the resource's own Secret holds keys that may be its account's or anybody's.
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

    /// Whether it still speaks of what is desired: the same spec, the same place, the same keys.
    pub fn holds_for(&self, desired: &Desired, active: KeyId) -> bool {
        self.name == desired.secret.at.name
            && Some(self.generation) == desired.generation
            && self.key == active.to_string()
    }
}
