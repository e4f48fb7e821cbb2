//! `spec`: the fields that a user declares, with the validation rules that the API server enforces at admission.
//!
//! The doc comments of the fields are the descriptions in the CRD and in `docs/reference.md`. `kubectl explain` prints
//! them.

use super::choice::Choice;
use super::schema::{affiliate, allowed_ips, annotations, labels, roles};
use super::status::ApiAccountStatus;
use super::{DEFAULT_API_KEY_FIELD, DEFAULT_OVERLAP, DEFAULT_SECRET_KEY_FIELD, EVERY_ADDRESS};
use crate::account::EVERY_AFFILIATE;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An API account of OpsAdmin: who may use its API, from where and for what. The account's generated API key and secret
/// key are written to a Secret in the same namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[kube(
    group = "ops-admin.com",
    version = "v1",
    kind = "ApiAccount",
    namespaced,
    status = "ApiAccountStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "apiacc",
    category = "opsadmin",
    doc = "An API account of OpsAdmin: who may use its API, from where and for what. The account's generated API key and secret key are written to a Secret in the same namespace.",
    printcolumn(name = "Enabled", type_ = "boolean", json_path = ".spec.enabled"),
    printcolumn(name = "Roles", type_ = "string", json_path = ".spec.roles"),
    printcolumn(name = "Affiliate", type_ = "string", json_path = ".spec.affiliate"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Account ID",
        type_ = "string",
        json_path = ".status.accountId",
        priority = 1
    ),
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".status.secretName",
        priority = 1
    ),
    printcolumn(
        name = "Next rotation",
        type_ = "string",
        json_path = ".status.nextRotation",
        priority = 1
    ),
    validation = Rule::new("has(self.spec.name) || size(self.metadata.name) <= 100")
        .message("metadata.name has more than 100 characters, so it cannot be the account's name too: set spec.name"),
    validation = Rule::new("has(self.spec.secret.name) || size(self.metadata.name) <= 244")
        .message("metadata.name is too long for the Secret's default name, <metadata.name>-opsadmin: set spec.secret.name")
)]
#[serde(rename_all = "camelCase")]
pub struct ApiAccountSpec {
    /// The account's name in OpsAdmin, 1 to 100 characters. It must be unique there: names that differ only in case, or
    /// that look the same, count as one name. Default: the resource's own name. A change renames the account and keeps
    /// its keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    #[x_kube(validation = Rule::new("self.trim() == self && size(self) > 0").message("an account name must not be blank, nor begin or end with a space"))]
    #[x_kube(validation = Rule::new(r"!self.matches('[\\x00-\\x1f\\x7f-\\x9f]')").message("an account name must not contain control characters, such as a tab or a line break"))]
    pub name: Option<String>,

    /// Who uses the account and why, up to 1024 characters.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new(r"!self.matches('[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]')").message("a description must not contain control characters other than tabs and line breaks"))]
    pub description: String,

    /// Whether the account may authenticate. false: it cannot authenticate as soon as the resource is Ready again. Its
    /// keys are kept for the time when it is enabled again.
    #[serde(default = "enabled_by_default")]
    pub enabled: bool,

    /// Whether the API user must re-authenticate every few seconds.
    #[serde(default)]
    pub use_refresh_token: bool,

    /// The only affiliate whose plans the API returns to this account. It must exist in OpsAdmin with exactly this
    /// name. Left out or *: every affiliate's plans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "affiliate")]
    pub affiliate: Option<String>,

    /// The endpoints that the account may reach. Customer: the My Account endpoints. PlansAndRates: the Plans and the
    /// Enrollments endpoints. Administrator: the whole API, regardless of the other roles and the affiliate; enabled
    /// and allowedIPs still apply. An empty list: the account authenticates but reaches no endpoint.
    #[serde(default)]
    #[schemars(schema_with = "roles")]
    pub roles: Vec<String>,

    /// The IP addresses and CIDRs from which the account may be used, up to 256, in canonical form. []: any address,
    /// also for an account that had a list. Left out (the default): any address for a new account; an account that has
    /// a list keeps it until this field has a list or [].
    #[serde(default, rename = "allowedIPs", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "allowed_ips")]
    pub allowed_ips: Option<Vec<String>>,

    /// The Secret to which the account's keys are written, in the namespace of the resource.
    #[serde(default)]
    pub secret: SecretSpec,

    /// When the account's keys are rotated. Default: no scheduled rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationSpec>,

    /// Whether an account of the same name that no resource declares may be adopted, with its existing keys. Never: the
    /// account stays unchanged, and a condition reports how it differs. IfUnowned: the account is adopted and updated
    /// to match the spec.
    #[serde(default)]
    #[schemars(with = "AdoptionPolicy")]
    pub adoption_policy: Choice<AdoptionPolicy>,

    /// Enforce: the account and its Secret are created and updated to match the spec. Observe: nothing is changed, and
    /// status.drift lists the differences.
    #[serde(default)]
    #[schemars(with = "ManagementPolicy")]
    pub management_policy: Choice<ManagementPolicy>,

    /// What happens to the account when the resource is deleted. Delete: the account stops authenticating at once,
    /// before the resource is gone. Retain: the account and its Secret stay unchanged and are no longer managed, as
    /// always with managementPolicy: Observe.
    #[serde(default)]
    #[schemars(with = "DeletionPolicy")]
    pub deletion_policy: Choice<DeletionPolicy>,
}

fn enabled_by_default() -> bool {
    true
}

/// The Secret to which the account's keys are written.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct SecretSpec {
    /// The Secret's name. Default: <metadata.name>-opsadmin. A change moves the keys to the new Secret and deletes the
    /// old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new(r"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')").message("a Secret's name has lower-case letters, digits, '-' and '.', and begins and ends with a letter or digit"))]
    pub name: Option<String>,

    /// The data keys of the Secret that hold the API key and the secret key.
    #[serde(default)]
    pub keys: SecretKeysSpec,

    /// Labels for the Secret, in addition to the operator's own. At most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    #[x_kube(validation = Rule::new("self.all(k, !format.qualifiedName().validate(k).hasValue())").message("a label's name has at most 63 letters, digits, '-', '_' and '.', and begins and ends with a letter or digit; a DNS prefix and '/' may stand before it"))]
    #[x_kube(validation = Rule::new("self.all(k, !format.labelValue().validate(self[k]).hasValue())").message("a label's value has at most 63 letters, digits, '-', '_' and '.', and begins and ends with a letter or digit"))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('ops-admin.com/') && k != 'app.kubernetes.io/managed-by')").message("labels under ops-admin.com/ and app.kubernetes.io/managed-by are the operator's own"))]
    pub labels: BTreeMap<String, String>,

    /// Annotations for the Secret, in addition to the operator's own. At most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotations")]
    #[x_kube(validation = Rule::new("self.all(k, !format.qualifiedName().validate(k.lowerAscii()).hasValue())").message("an annotation's name has at most 63 letters, digits, '-', '_' and '.', and begins and ends with a letter or digit; a DNS prefix and '/' may stand before it"))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('ops-admin.com/'))").message("annotations under ops-admin.com/ are the operator's own"))]
    pub annotations: BTreeMap<String, String>,
}

/// The data keys of the Secret that hold the API key and the secret key.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.apiKey != self.secretKey").message("apiKey and secretKey must be two different data keys"))]
pub struct SecretKeysSpec {
    /// The data key for the API key.
    #[serde(default = "default_api_key_field")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')").message("a Secret's data key has letters, digits, '-', '_' and '.', and does not begin with '..'"))]
    pub api_key: String,

    /// The data key for the secret key.
    #[serde(default = "default_secret_key_field")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')").message("a Secret's data key has letters, digits, '-', '_' and '.', and does not begin with '..'"))]
    pub secret_key: String,
}

fn default_api_key_field() -> String {
    DEFAULT_API_KEY_FIELD.to_owned()
}

fn default_secret_key_field() -> String {
    DEFAULT_SECRET_KEY_FIELD.to_owned()
}

impl ApiAccountSpec {
    /// Returns the affiliate; `None` for every affiliate, which is also the default that the API server fills in.
    pub fn named_affiliate(&self) -> Option<&str> {
        self.affiliate.as_deref().filter(|affiliate| *affiliate != EVERY_AFFILIATE)
    }

    /// Returns the list of addresses, also if it is empty; `None` if the field is left out or has the default that the
    /// API server fills in.
    pub fn named_addresses(&self) -> Option<&[String]> {
        self.allowed_ips.as_deref().filter(|addresses| *addresses != EVERY_ADDRESS)
    }
}

impl Default for SecretKeysSpec {
    fn default() -> Self {
        Self { api_key: default_api_key_field(), secret_key: default_secret_key_field() }
    }
}

/// When the account's keys are rotated.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.interval) || !self.interval.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?$') || !self.overlap.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?$') || size(self.interval) == 0 || size(self.overlap) == 0 || duration(self.overlap) < duration(self.interval)").message("overlap must be shorter than interval, or old key pairs would accumulate"))]
pub struct RotationSpec {
    /// The age at which the keys are rotated: hours, minutes and seconds, like 720h. Each key pair is rotated early by
    /// up to a tenth of the interval, so that accounts created together are not all rotated together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?$') && size(self) > 0 && duration(self) > duration('0s') && duration(self) <= duration('87600h')").message("must be hours, minutes and seconds like 720h or 1h30m, more than 0s and at most 87600h"))]
    pub interval: Option<String>,

    /// How long the old key pair still works after a rotation, like 24h. 0s: it is revoked at once, for use after a
    /// leak.
    #[serde(default = "default_overlap")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?$') && size(self) > 0 && duration(self) <= duration('87600h')").message("must be hours, minutes and seconds like 24h, 1h30m or 0s, at most 87600h"))]
    pub overlap: String,

    /// Any text. The keys are rotated whenever it changes to another text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new(r"!self.matches('[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]')").message("a trigger must not contain control characters other than tabs and line breaks"))]
    pub trigger: Option<String>,
}

fn default_overlap() -> String {
    DEFAULT_OVERLAP.to_owned()
}

/// Whether an account that no resource declares may be adopted.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AdoptionPolicy {
    /// The account is not adopted.
    #[default]
    Never,
    /// The account is adopted with its existing keys.
    IfUnowned,
}

/// Whether differences from the spec are corrected or only reported.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ManagementPolicy {
    /// Differences are corrected.
    #[default]
    Enforce,
    /// Differences are reported.
    Observe,
}

/// What happens to the account when the resource is deleted.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeletionPolicy {
    /// The account stops authenticating before the resource is gone.
    #[default]
    Delete,
    /// The account and its Secret stay unchanged.
    Retain,
}
