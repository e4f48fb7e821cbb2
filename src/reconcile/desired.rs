//! Parses what a resource declares into a [`Desired`], whose values are all valid.
//!
//! The rules are those of the CRD's schema and CEL (`api/spec.rs`), so that a manifest is judged in the same way
//! without a cluster. A test checks the same invalid manifests with both.

use super::labels::{check_annotation_name, check_data_key, check_label_name, check_label_value, check_secret_name};
use super::nulls::{NO_VALUE, fields_applied_as_null};
use crate::account::{
    AccountName, AffiliateName, AllowedIp, AllowedIps, ClusterId, Description, Owner, Period, Requester, Role,
    RotationPolicy, RotationRequests, Settings, check_trigger,
};
pub use crate::api::DeletionPolicy;
use crate::api::{
    AdoptionPolicy, ApiAccount, ApiAccountSpec, Choice, DEFAULT_OVERLAP, ManagementPolicy, PAUSED_ANNOTATION,
    ROTATE_ANNOTATION, RotationSpec, SecretSpec, default_secret_name,
};
use crate::secrets::{SecretLayout, SecretRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeSet;
use std::fmt;
use thiserror::Error;

/// The maximum number of labels, and of annotations, in `spec.secret`.
const MAX_LABELS: usize = 32;

/// What one resource declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The cluster, the namespace and the name of the resource.
    pub owner: Owner,
    /// The resource's UID; `None` for a manifest that is not on a cluster.
    pub uid: Option<String>,
    /// The resource's generation, if it has one.
    pub generation: Option<i64>,
    /// Who wrote the resource, for the journal. A parser cannot know it, so the caller sets it.
    pub requested_by: Option<Requester>,
    /// The settings that the account has to have.
    pub settings: Settings,
    /// Whether the resource declares the addresses from which the account may be used. If it does not, `settings`
    /// allows any address, and an account that has a list of addresses keeps its list.
    pub declares_addresses: bool,
    /// The Secret that has to hold the account's keys.
    pub secret: SecretLayout,
    /// When the account's keys have to be rotated.
    pub rotation: RotationPolicy,
    /// Whether the resource adopts an unowned account that has its name.
    pub adoption: AdoptionPolicy,
    /// Whether differences are corrected or only reported.
    pub management: ManagementPolicy,
    /// Whether the resource is paused: nothing is changed except when it is deleted.
    pub paused: bool,
}

/// An invalid spec, with all of its errors.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", joined(errors))]
pub struct InvalidSpec {
    /// The invalid fields.
    pub errors: Vec<FieldError>,
}

/// One invalid field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The path of the field, such as `spec.allowedIPs[2]`.
    pub field: String,
    /// What is wrong with the value and what to write instead.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

fn joined(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Owner {
    /// Returns the cluster, the namespace and the name of a resource of this cluster. A resource without a namespace is
    /// in `default`.
    pub fn of(resource: &ApiAccount, cluster: &ClusterId) -> Self {
        Self {
            cluster: cluster.clone(),
            namespace: resource.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
            name: resource.metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl Desired {
    /// Parses a resource of this cluster, with any rotation interval.
    ///
    /// # Errors
    /// As [`Desired::parse_for`].
    pub fn parse(resource: &ApiAccount, cluster: &ClusterId) -> Result<Self, InvalidSpec> {
        Self::parse_for(resource, cluster, Period::NONE)
    }

    /// Parses a resource of this cluster. `least_interval` is the shortest rotation interval that a resource may have.
    ///
    /// # Errors
    /// [`InvalidSpec`] with every invalid field, not only the first.
    pub fn parse_for(resource: &ApiAccount, cluster: &ClusterId, least_interval: Period) -> Result<Self, InvalidSpec> {
        let owner = Owner::of(resource, cluster);
        let mut found = Errors::default();
        for field in fields_applied_as_null(resource) {
            found.add(format!("spec.{field}"), NO_VALUE);
        }
        let settings = parse_settings(&resource.spec, &owner, &mut found);
        let secret = parse_secret(&resource.spec.secret, &owner, &mut found);
        let annotation = |name| resource.metadata.annotations.as_ref().and_then(|annotations| annotations.get(name));
        let rotation = parse_rotation(resource.spec.rotation.as_ref(), annotation(ROTATE_ANNOTATION), &mut found);
        check_interval(rotation.as_ref(), least_interval, &mut found);
        let adoption = parse_adoption(&resource.spec, &mut found);
        let management = parse_management(&resource.spec, &mut found);
        // The deletion policy takes effect only at the deletion, but an invalid one has to be corrected before.
        parse_deletion(&resource.spec, &mut found);
        match (settings, rotation, adoption, management, found.0.is_empty()) {
            (Some(settings), Some(rotation), Some(adoption), Some(management), true) => Ok(Self {
                rotation,
                adoption,
                management,
                paused: is_paused(&resource.metadata),
                uid: resource.metadata.uid.clone(),
                generation: resource.metadata.generation,
                requested_by: None,
                settings,
                declares_addresses: resource.spec.named_addresses().is_some(),
                secret,
                owner,
            }),
            _ => Err(InvalidSpec { errors: found.0 }),
        }
    }
}

/// Collects all errors, so that a user sees all of them at once.
#[derive(Default)]
pub(super) struct Errors(pub Vec<FieldError>);

impl Errors {
    fn add(&mut self, field: impl Into<String>, message: impl fmt::Display) {
        self.0.push(FieldError { field: field.into(), message: message.to_string() });
    }

    fn take<T, E: fmt::Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(field, error)).ok()
    }
}

fn parse_settings(spec: &ApiAccountSpec, owner: &Owner, found: &mut Errors) -> Option<Settings> {
    let name = match &spec.name {
        Some(name) => found.take("spec.name", AccountName::parse(name)),
        None => found.take(
            "metadata.name",
            AccountName::parse(&owner.name).map_err(|error| format!("{error}; set spec.name, or rename the resource")),
        ),
    };
    let description = found.take("spec.description", Description::parse(&spec.description));
    let affiliate = match spec.named_affiliate() {
        Some(affiliate) => {
            let name = AffiliateName::parse(affiliate).map_err(|invalid| invalid.of_field());
            found.take("spec.affiliate", name).map(Some)
        }
        None => Some(None),
    };
    let roles = parse_roles(&spec.roles, found);
    let allowed_ips = parse_allowed_ips(spec.named_addresses().unwrap_or_default(), found);
    Some(Settings {
        name: name?,
        description: description?,
        enabled: spec.enabled,
        use_refresh_token: spec.use_refresh_token,
        affiliate: affiliate?,
        roles: roles?,
        allowed_ips: allowed_ips?,
    })
}

/// Returns `None` if one role is invalid: a list without its invalid entries would be another list.
fn parse_roles(texts: &[String], found: &mut Errors) -> Option<BTreeSet<Role>> {
    let mut roles = BTreeSet::new();
    let mut valid = true;
    for (at, text) in texts.iter().enumerate() {
        let field = format!("spec.roles[{at}]");
        match Role::parse(text) {
            Ok(role) if roles.insert(role) => {}
            Ok(role) => {
                found.add(field, format!("{role} is listed twice"));
                valid = false;
            }
            Err(error) => {
                found.add(field, error);
                valid = false;
            }
        }
    }
    valid.then_some(roles)
}

/// Returns `None` if one entry is invalid: a list whose only entries are invalid would become empty and allow any
/// address.
fn parse_allowed_ips(texts: &[String], found: &mut Errors) -> Option<AllowedIps> {
    let mut valid = true;
    if texts.len() > AllowedIps::MAX_ENTRIES {
        found.add(
            "spec.allowedIPs",
            format!("must have at most {} entries, and this has {}", AllowedIps::MAX_ENTRIES, texts.len()),
        );
        valid = false;
    }
    let mut seen = BTreeSet::new();
    let mut networks = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let field = format!("spec.allowedIPs[{at}]");
        match AllowedIp::parse(text) {
            Ok(_) if !seen.insert(text) => {
                found.add(field, format!("{text} is listed twice"));
                valid = false;
            }
            Ok(network) => networks.push(network),
            Err(error) => {
                found.add(field, error);
                valid = false;
            }
        }
    }
    valid.then(|| AllowedIps::from_networks(networks))
}

/// Returns whether the resource with this metadata has the annotation that stops everything except its deletion.
pub fn is_paused(metadata: &ObjectMeta) -> bool {
    let annotations = metadata.annotations.iter().flatten();
    annotations.into_iter().any(|(name, value)| name == PAUSED_ANNOTATION && value == "true")
}

fn parse_rotation(
    spec: Option<&RotationSpec>,
    annotation: Option<&String>,
    found: &mut Errors,
) -> Option<RotationPolicy> {
    let overlap = spec.map_or(DEFAULT_OVERLAP, |spec| &spec.overlap);
    let overlap = found.take("spec.rotation.overlap", Period::parse(overlap));
    let interval = match spec.and_then(|spec| spec.interval.as_ref()) {
        Some(interval) => found.take("spec.rotation.interval", Period::parse(interval)).map(Some),
        None => Some(None),
    };
    let trigger = spec.and_then(|spec| spec.trigger.clone());
    for (field, text) in [
        ("spec.rotation.trigger", trigger.as_ref()),
        (&format!("metadata.annotations[{ROTATE_ANNOTATION:?}]"), annotation),
    ] {
        if let Some(text) = text {
            found.take(field, check_trigger(text));
        }
    }
    let (interval, overlap) = (interval?, overlap?);
    if interval.is_some_and(Period::is_zero) {
        found.add(
            "spec.rotation.interval",
            "must be more than 0s; leave it out for keys that are not rotated by themselves",
        );
    } else if interval.is_some_and(|interval| overlap >= interval) {
        found.add("spec.rotation", "overlap must be shorter than interval, or old key pairs would accumulate");
    }
    let requests = RotationRequests { trigger, annotation: annotation.cloned() };
    Some(RotationPolicy { interval, overlap, requests })
}

/// Checks the rotation interval against the shortest one that is allowed. Each rotation writes a transaction, a Secret,
/// a status and events, and every user who may write the resource sets the interval.
fn check_interval(rotation: Option<&RotationPolicy>, least: Period, found: &mut Errors) {
    if let Some(interval) = rotation.and_then(|rotation| rotation.interval)
        && !interval.is_zero()
        && interval < least
    {
        found.add(
            "spec.rotation.interval",
            format!(
                "must be at least {least} here (--least-rotation-interval), and this is {interval}; write {least} or more, or \
                 leave it out for keys that are not rotated by themselves"
            ),
        );
    }
}

fn parse_adoption(spec: &ApiAccountSpec, found: &mut Errors) -> Option<AdoptionPolicy> {
    parse_choice("spec.adoptionPolicy", &spec.adoption_policy, "Never or IfUnowned", found)
}

pub(super) fn parse_management(spec: &ApiAccountSpec, found: &mut Errors) -> Option<ManagementPolicy> {
    parse_choice("spec.managementPolicy", &spec.management_policy, "Enforce or Observe", found)
}

pub(super) fn parse_deletion(spec: &ApiAccountSpec, found: &mut Errors) -> Option<DeletionPolicy> {
    parse_choice("spec.deletionPolicy", &spec.deletion_policy, "Delete or Retain", found)
}

fn parse_choice<T: Copy>(field: &str, choice: &Choice<T>, known: &str, found: &mut Errors) -> Option<T> {
    match choice {
        Choice::Known(word) => Some(*word),
        Choice::Unknown(text) => {
            let version = env!("CARGO_PKG_VERSION");
            let message = format!(
                "must be {known}, and this is {text:?}, which opsadmin {version} does not know; correct it, or run the \
                 version that the definition on the cluster is of"
            );
            found.add(field, message);
            None
        }
    }
}

fn parse_secret(spec: &SecretSpec, owner: &Owner, found: &mut Errors) -> SecretLayout {
    let name = spec.name.clone().unwrap_or_else(|| default_secret_name(&owner.name));
    let name_field = if spec.name.is_some() { "spec.secret.name" } else { "metadata.name" };
    found.take(name_field, check_secret_name(&name));
    found.take("spec.secret.keys.apiKey", check_data_key(&spec.keys.api_key));
    found.take("spec.secret.keys.secretKey", check_data_key(&spec.keys.secret_key));
    if spec.keys.api_key == spec.keys.secret_key {
        found.add("spec.secret.keys", "apiKey and secretKey must be two different data keys");
    }
    for (field, map) in [("spec.secret.labels", &spec.labels), ("spec.secret.annotations", &spec.annotations)] {
        if map.len() > MAX_LABELS {
            found.add(field, format!("must have at most {MAX_LABELS} entries, and this has {}", map.len()));
        }
    }
    for (name, value) in &spec.labels {
        let field = format!("spec.secret.labels[{name:?}]");
        found.take(&field, check_label_name(name));
        found.take(&field, check_label_value(value));
    }
    for (name, value) in &spec.annotations {
        let field = format!("spec.secret.annotations[{name:?}]");
        found.take(&field, check_annotation_name(name, value));
    }
    SecretLayout {
        at: SecretRef { namespace: owner.namespace.clone(), name },
        api_key_field: spec.keys.api_key.clone(),
        secret_key_field: spec.keys.secret_key.clone(),
        labels: spec.labels.clone(),
        annotations: spec.annotations.clone(),
    }
}
