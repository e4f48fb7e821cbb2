//! `status`: what the controller says of an account, for people, `kubectl wait` and `GitOps` tools (kstatus).

#![expect(dead_code, reason = "`KubeSchema` copies each struct, and nobody reads of the copy what is not serialized")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The observed generation of a resource that the controller has not looked at yet.
const NOT_YET_OBSERVED: i64 = -1;

/// What the controller last saw and did. It is made anew from the account database whenever it is missing.
// Read by `reading`, which no status stops. The default is for kstatus, to which an object without a status is current: a new account is not, until it was seen.
#[derive(KubeSchema, Serialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = { "observedGeneration": NOT_YET_OBSERVED }))]
pub struct ApiAccountStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready; and Reconciling or Stalled while they apply.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,

    /// The account's identity in OpsAdmin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,

    /// The account database that has the account: nothing is made anew in another one unless somebody confirms it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_id: Option<String>,

    /// The Secret that holds the account's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,

    /// The Secret's resource version when it was last verified to hold exactly the account's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_resource_version: Option<String>,

    /// When the keys will be rotated by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation: Option<Time>,

    /// With managementPolicy Observe: what differs from the spec and was left as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<DriftStatus>,

    /// The key pairs that authenticate, the newest first. Never a secret key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyStatus>,

    /// Something else is written there that could not be read, so it has to be written anew.
    #[serde(skip)]
    pub is_partial: bool,
}

/// A key pair, without its secret half.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// The pair's identity.
    pub id: String,
    /// The API key: the public half.
    pub api_key: String,
    /// Active: the pair in the Secret. Retiring: an older one that is accepted until it expires.
    pub state: String,
    /// When the pair was made.
    pub created: Time,
    /// From when on the pair is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
}

impl KeyStatus {
    /// The state of the pair in the Secret.
    pub const ACTIVE: &str = "Active";
    /// The state of an older pair.
    pub const RETIRING: &str = "Retiring";
}

impl ApiAccountStatus {
    /// The pair in the Secret.
    pub fn active_key(&self) -> Option<&KeyStatus> {
        // Not the first: a clock that was set back makes a new pair older than the one it replaced.
        self.keys.iter().find(|key| key.state == KeyStatus::ACTIVE)
    }
}

/// Something that is not as declared.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DriftStatus {
    /// The field of the spec; or account, for all of it, or owner, or secret.
    pub field: String,
    /// What the spec declares.
    pub declared: String,
    /// What is there.
    pub actual: String,
}

/// Types of conditions, as kstatus defines them.
pub mod condition {
    /// Whether account and Secret are as declared.
    pub const READY: &str = "Ready";
    /// Work goes on by itself.
    pub const RECONCILING: &str = "Reconciling";
    /// Nothing will change until a person does something.
    pub const STALLED: &str = "Stalled";
}

/// Why an account is ready or not: the `reason` of its conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Account and Secret are as declared.
    Reconciled,
    /// The spec says something that no account can be.
    InvalidSpec,
    /// Another account has the name.
    NameTaken,
    /// An account of the name exists that no resource declares.
    AdoptionRequired,
    /// An account of the name is declared elsewhere.
    OwnedElsewhere,
    /// The account has a list of addresses and the spec names none.
    AllowedIPsMissing,
    /// OpsAdmin does not know the affiliate.
    UnknownAffiliate,
    /// A Secret of the name exists and is not this account's.
    SecretConflict,
    /// The Secret could not be read or written.
    SecretUnavailable,
    /// Something changes the Secret while it is written.
    SecretRewritten,
    /// The account database does not answer.
    DatabaseUnavailable,
    /// Something in the account database changes what is written to it.
    AccountRewritten,
    /// Something keeps changing what is put back.
    RepeatedDrift,
    /// The keyring does not open the account's secret key.
    KeyringMismatch,
    /// The account has no keys in the database, and its Secret holds none.
    KeysMissing,
    /// The system has no randomness to make keys from.
    NoRandomness,
    /// Others keep changing the same account, Secret or resource.
    Contended,
    /// Too many accounts would lose their access at once.
    DeletionHeld,
    /// The database lacks the account that the resource had, and nothing says that it is the right database.
    CreationHeld,
    /// OpsAdmin's staff stopped the account.
    Suspended,
    /// The annotation says to leave everything as it is.
    Paused,
    /// Something differs, and is only to be told.
    Drifted,
    /// The controller itself failed over this resource.
    InternalError,
}

impl Reason {
    /// Each of them.
    pub const ALL: [Self; 23] = [
        Self::Reconciled,
        Self::InvalidSpec,
        Self::NameTaken,
        Self::AdoptionRequired,
        Self::OwnedElsewhere,
        Self::AllowedIPsMissing,
        Self::UnknownAffiliate,
        Self::SecretConflict,
        Self::SecretUnavailable,
        Self::SecretRewritten,
        Self::DatabaseUnavailable,
        Self::AccountRewritten,
        Self::RepeatedDrift,
        Self::KeyringMismatch,
        Self::KeysMissing,
        Self::NoRandomness,
        Self::Contended,
        Self::DeletionHeld,
        Self::CreationHeld,
        Self::Suspended,
        Self::Paused,
        Self::Drifted,
        Self::InternalError,
    ];

    /// The reason that a condition has written down; `None` if no condition of ours did.
    pub fn written(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }

    /// The reason as conditions and events write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reconciled => "Reconciled",
            Self::InvalidSpec => "InvalidSpec",
            Self::NameTaken => "NameTaken",
            Self::AdoptionRequired => "AdoptionRequired",
            Self::OwnedElsewhere => "OwnedElsewhere",
            Self::AllowedIPsMissing => "AllowedIPsMissing",
            Self::UnknownAffiliate => "UnknownAffiliate",
            Self::SecretConflict => "SecretConflict",
            Self::SecretUnavailable => "SecretUnavailable",
            Self::SecretRewritten => "SecretRewritten",
            Self::DatabaseUnavailable => "DatabaseUnavailable",
            Self::AccountRewritten => "AccountRewritten",
            Self::RepeatedDrift => "RepeatedDrift",
            Self::KeyringMismatch => "KeyringMismatch",
            Self::KeysMissing => "KeysMissing",
            Self::NoRandomness => "NoRandomness",
            Self::Contended => "Contended",
            Self::DeletionHeld => "DeletionHeld",
            Self::CreationHeld => "CreationHeld",
            Self::Suspended => "Suspended",
            Self::Paused => "Paused",
            Self::Drifted => "Drifted",
            Self::InternalError => "InternalError",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
