//! `status`: the observed state of an account, for users, `kubectl wait` and `GitOps` tools (kstatus).
//!
//! The doc comments of the fields are the descriptions in the CRD and in `docs/reference.md`. `kubectl explain` prints
//! them.

#![expect(dead_code, reason = "`KubeSchema` copies each struct, and nobody reads of the copy what is not serialized")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The observed generation of a resource that the controller has not reconciled yet.
const NOT_YET_OBSERVED: i64 = -1;

/// What the controller last observed and did. A missing status is rebuilt from the account database.
// `reading` implements `Deserialize`, so that an invalid status can be read. The default is for kstatus: an object
// without a status counts as current there, and a new resource is not current until it was reconciled.
#[derive(KubeSchema, Serialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = { "observedGeneration": NOT_YET_OBSERVED }))]
pub struct ApiAccountStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The condition Ready, and others while they apply.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,

    /// The account's id in OpsAdmin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,

    /// The id of the account database that has the account. In another database, a replacement for the account is
    /// created only after a user confirms it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_id: Option<String>,

    /// The Secret that holds the account's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,

    /// The Secret's resource version when it was last verified to hold exactly the account's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_resource_version: Option<String>,

    /// The time of the next scheduled rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation: Option<Time>,

    /// With managementPolicy Observe: the differences from the spec, which were left unchanged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<DriftStatus>,

    /// The key pairs that authenticate, the newest first, without their secret keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyStatus>,

    /// Whether a part of the stored status could not be read. The controller then writes the status again.
    #[serde(skip)]
    pub is_partial: bool,
}

/// A key pair, without its secret key.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// The key pair's id.
    pub id: String,
    /// The API key: the public half.
    pub api_key: String,
    /// Active: the key pair in the Secret. Retiring: an older key pair that is accepted until it expires.
    pub state: String,
    /// When the key pair was created.
    pub created: Time,
    /// The time from which the key pair is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// When somebody last logged in with the key pair at an auth server. The first login is shown with the next sweep.
    /// Later ones may be shown a day late, and an hour late while a pair is Retiring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Time>,
}

impl KeyStatus {
    /// The state of the key pair in the Secret.
    pub const ACTIVE: &str = "Active";
    /// The state of an older key pair that has not expired.
    pub const RETIRING: &str = "Retiring";
}

impl ApiAccountStatus {
    /// Returns the Ready condition.
    pub fn ready(&self) -> Option<&Condition> {
        self.conditions.iter().find(|found| found.type_ == condition::READY)
    }

    /// Whether the Ready condition has this reason.
    pub fn has_reason(&self, reason: Reason) -> bool {
        self.ready().is_some_and(|ready| ready.reason == reason.as_str())
    }

    /// Returns the key pair in the Secret.
    pub fn active_key(&self) -> Option<&KeyStatus> {
        // The first one may be another: after a clock was set back, a new key pair can be older than the one it
        // replaced.
        self.keys.iter().find(|key| key.state == KeyStatus::ACTIVE)
    }
}

/// A difference from the spec.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DriftStatus {
    /// The field of the spec, or account for the whole account, or owner, keys or secret.
    pub field: String,
    /// What the spec declares.
    pub declared: String,
    /// What the controller observed.
    pub actual: String,
}

/// The types of conditions. The first three are those of kstatus, which ignores others.
pub mod condition {
    /// Whether the account and its Secret match the spec.
    pub const READY: &str = "Ready";
    /// The controller retries without help.
    pub const RECONCILING: &str = "Reconciling";
    /// A user must act before the resource can become ready.
    pub const STALLED: &str = "Stalled";
    /// Nobody can log in at an auth server with the key pair in the Secret until the keys are rotated. The account and
    /// its Secret are as declared nevertheless.
    pub const CANNOT_LOG_IN: &str = "CannotLogIn";

    /// The reason of [`CANNOT_LOG_IN`]: the secret key is too short to sign an assertion.
    pub const SECRET_KEY_TOO_SHORT: &str = "SecretKeyTooShort";
}

/// The `reason` of the conditions: why a resource is ready or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The account and its Secret match the spec.
    Reconciled,
    /// The spec has an invalid value.
    InvalidSpec,
    /// Another account has the name.
    NameTaken,
    /// An account of the name exists that no resource declares.
    AdoptionRequired,
    /// Another resource or another cluster declares the account of the name.
    OwnedElsewhere,
    /// The account has a list of addresses and the spec has no `allowedIPs`.
    AllowedIPsMissing,
    /// OpsAdmin does not know the affiliate.
    UnknownAffiliate,
    /// A foreign Secret has the name.
    SecretConflict,
    /// The Secret could not be read or written.
    SecretUnavailable,
    /// Another program, such as a webhook, changes the Secret while it is written.
    SecretRewritten,
    /// The account database does not answer.
    DatabaseUnavailable,
    /// The account database, for example a trigger, changes the values that are written to it.
    AccountRewritten,
    /// Another program changes the account or its Secret again after each correction.
    RepeatedDrift,
    /// The keyring cannot open the account's secret key.
    KeyringMismatch,
    /// The account has no keys in the database, and its Secret holds none.
    KeysMissing,
    /// The system provides no random numbers for new keys.
    NoRandomness,
    /// Other programs change the same account, Secret or resource at each attempt.
    Contended,
    /// The brake holds the deletion, since too many accounts would lose access at once.
    DeletionHeld,
    /// The database lacks the account that the resource had, and may be the wrong database.
    CreationHeld,
    /// OpsAdmin staff suspended the account.
    Suspended,
    /// An annotation pauses the resource.
    Paused,
    /// The account differs from the spec, and differences are only reported.
    Drifted,
    /// The controller is frozen: it reports what it would change, and changes nothing.
    Frozen,
    /// The controller failed on this resource because of a bug.
    InternalError,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 24] = [
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
        Self::Frozen,
        Self::InternalError,
    ];

    /// Reads the reason of a condition; `None` if the text is not a reason of this program.
    pub fn parse(text: &str) -> Option<Self> {
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
            Self::Frozen => "Frozen",
            Self::InternalError => "InternalError",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
