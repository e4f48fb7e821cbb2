//! An account as the database holds it.

use super::{AccountId, ApiKey, Asked, KeyId, KeyState, Owner, StoredSettings, comparable_name};
use jiff::Timestamp;
use std::fmt;

/// Counts the changes of an account: a change is made to the version that was observed, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub i64);

/// One account with its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its identity.
    pub id: AccountId,
    /// How often it has changed.
    pub version: Version,
    /// The resource that declares it; `None` for an account that OpsAdmin's staff made.
    pub owner: Option<Owner>,
    /// Where it is in its life.
    pub life: Life,
    /// What is set on it.
    pub settings: StoredSettings,
    /// Its key pairs, the newest first.
    pub keys: Vec<StoredKey>,
    /// The requests to rotate that were answered last.
    pub answered: Asked,
    /// Set by OpsAdmin's staff: it does not authenticate, whatever its settings say.
    pub suspension: Option<Suspension>,
}

/// A stop that OpsAdmin's staff put on an account. Only they take it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// Since when.
    pub since: Timestamp,
    /// Why, in their words.
    pub reason: String,
}

impl Account {
    /// The pair to hand out: the newest that is not on its way out.
    pub fn active_key(&self) -> Option<&StoredKey> {
        self.keys.iter().find(|key| key.state == KeyState::Active)
    }

    /// The comparable name that it keeps from others; a deleted one has given its name up.
    pub fn name_kept(&self) -> Option<String> {
        let is_deleted = matches!(self.life, Life::Deleted { .. });
        (!is_deleted).then(|| comparable_name(&self.settings.name))
    }
}

/// Where an account is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Declared, or made by hand.
    Live,
    /// Its resource is gone and asked to leave the account as it is. Nobody declares it now.
    Retained {
        /// When the resource went.
        since: Timestamp,
    },
    /// Its resource is gone: it does not authenticate, its name is free, its keys are kept for a while.
    Deleted {
        /// When the resource went.
        since: Timestamp,
    },
}

/// A key pair as it rests in the database: the API key in clear, the secret key sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The pair's identity.
    pub id: KeyId,
    /// The public half.
    pub api_key: ApiKey,
    /// The private half.
    pub sealed: SealedSecret,
    /// Whether to use it still.
    pub state: KeyState,
    /// When it was made.
    pub created: Timestamp,
}

/// A secret key that only the holder of the keyring can read.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// The id of the keyring's key that sealed it.
    pub sealed_with: String,
    /// Nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedSecret").field("sealed_with", &self.sealed_with).finish_non_exhaustive()
    }
}
