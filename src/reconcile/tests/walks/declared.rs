//! What a resource of a walk declares. It is read without the code under test, which is possible because a walk uses
//! few values.

use super::super::generators::owner;
use super::promises::opened;
use crate::account::{Account, ApiKey, Owner, RotationRequests, SecretKey, StoredSettings};
use crate::api::{
    ACCOUNT_LABEL, ApiAccount, Choice, GROUP, KIND, ManagementPolicy, OWNER_ANNOTATION, PAUSED_ANNOTATION,
    ROTATE_ANNOTATION,
};
use crate::secrets::SecretRef;
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::fmt;

/// The declaration of one resource.
#[derive(Clone)]
pub struct Declared {
    pub owner: Owner,
    pub resource: ApiAccount,
}

impl Declared {
    pub fn of(resource: &ApiAccount) -> Self {
        Self { owner: owner(resource.metadata.name.as_ref().unwrap()), resource: resource.clone() }
    }

    pub fn uid(&self) -> &str {
        self.resource.metadata.uid.as_deref().unwrap()
    }

    pub fn name(&self) -> &str {
        self.resource.spec.name.as_deref().unwrap_or(&self.owner.name)
    }

    pub fn place(&self) -> SecretRef {
        let name = self.resource.spec.secret.name.clone();
        let name = name.unwrap_or_else(|| format!("{}-opsadmin", self.owner.name));
        SecretRef { namespace: "ns".to_owned(), name }
    }

    /// Returns whether the declaration has one of the invalid values of a walk.
    pub fn is_invalid(&self) -> bool {
        let spec = &self.resource.spec;
        let reserved = |name: &String| name.starts_with("ops-admin.com/");
        let too_long = spec.rotation.as_ref().is_some_and(|rotation| {
            rotation.interval.as_deref() == Some("0s")
                || rotation.overlap == "a day"
                || self.interval().is_some_and(|interval| interval <= self.overlap())
        });
        spec.name.as_deref() == Some(" shared")
            || spec.description.contains('\u{7}')
            || spec.affiliate.as_deref() == Some("")
            || spec.roles == ["Nobody"]
            || spec.allowed_ips.as_deref().is_some_and(|ips| ips == ["10.0.0.1/8"])
            || spec.secret.name.as_deref() == Some("Upper")
            || spec.secret.keys.api_key == spec.secret.keys.secret_key
            || spec.secret.labels.keys().chain(spec.secret.annotations.keys()).any(reserved)
            || too_long
    }

    pub fn is_paused(&self) -> bool {
        self.annotation(PAUSED_ANNOTATION).as_deref() == Some("true")
    }

    pub fn is_observed(&self) -> bool {
        self.resource.spec.management_policy == Choice::Known(ManagementPolicy::Observe)
    }

    /// Returns the settings that the account has to have.
    pub fn settings(&self) -> StoredSettings {
        let spec = &self.resource.spec;
        let cidr = |ip: &String| match ip.as_str() {
            "203.0.113.7" => "203.0.113.7/32".to_owned(),
            cidr => cidr.to_owned(),
        };
        StoredSettings {
            name: self.name().to_owned(),
            description: spec.description.clone(),
            enabled: spec.enabled,
            use_refresh_token: spec.use_refresh_token,
            affiliate: spec.affiliate.clone(),
            roles: spec.roles.iter().cloned().collect(),
            any_ip: spec.allowed_ips.iter().flatten().next().is_none(),
            allowed_ips: spec.allowed_ips.iter().flatten().map(cidr).collect(),
        }
    }

    /// Returns the requests to rotate the keys.
    pub fn asked(&self) -> RotationRequests {
        let trigger = self.resource.spec.rotation.as_ref().and_then(|rotation| rotation.trigger.clone());
        RotationRequests { trigger, annotation: self.annotation(ROTATE_ANNOTATION) }
    }

    /// Returns whether the declaration has requests to rotate that are not in `answered`.
    pub fn asks_beyond(&self, answered: &RotationRequests) -> bool {
        let asked = self.asked();
        asked.trigger.is_some() && asked.trigger != answered.trigger
            || asked.annotation.is_some() && asked.annotation != answered.annotation
    }

    pub fn interval(&self) -> Option<SignedDuration> {
        self.resource.spec.rotation.as_ref()?.interval.as_deref().map(hours)
    }

    pub fn overlap(&self) -> SignedDuration {
        hours(self.resource.spec.rotation.as_ref().map_or("24h", |rotation| &rotation.overlap))
    }

    /// Returns whether an object is the resource's own: its controller reference names the resource, or it has the
    /// operator's annotation and no other controller.
    pub fn owns(&self, metadata: &ObjectMeta) -> bool {
        let noted = metadata.annotations.as_ref().and_then(|annotations| annotations.get(OWNER_ANNOTATION));
        let is_noted = noted.is_some_and(|noted| *noted == format!("here/ns/{}", self.owner.name));
        match metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true)) {
            Some(controller) => controller.uid == self.uid() || is_noted && self.is_tied_by(controller),
            None => is_noted,
        }
    }

    /// Returns whether the garbage collector deletes an object with this reference together with the resource, or with
    /// an earlier resource of the same name.
    pub fn is_tied_by(&self, owner: &OwnerReference) -> bool {
        let is_namesake = owner.api_version.starts_with(GROUP) && owner.kind == KIND && owner.name == self.owner.name;
        owner.uid == self.uid() || is_namesake
    }

    /// Returns whether a Secret that holds this key pair is the resource's own: its metadata says so, or the metadata
    /// names no owner any more and the Secret holds the account's active key pair.
    pub fn owns_secret(
        &self,
        metadata: &ObjectMeta,
        holds: Option<&(ApiKey, SecretKey)>,
        account: Option<&Account>,
    ) -> bool {
        let is_labelled = metadata.labels.as_ref().and_then(|labels| labels.get(ACCOUNT_LABEL)).is_some();
        let is_noted = metadata.annotations.as_ref().is_some_and(|noted| noted.contains_key(OWNER_ANNOTATION));
        let is_controlled = metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true));
        let active = account.and_then(|account| Some(opened(account, account.active_key()?)));
        self.owns(metadata) || is_labelled && !is_noted && !is_controlled && holds.is_some() && holds == active.as_ref()
    }

    fn annotation(&self, name: &str) -> Option<String> {
        self.resource.metadata.annotations.as_ref()?.get(name).cloned()
    }
}

impl fmt::Debug for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = serde_json::to_string(&self.resource.spec).unwrap();
        let metadata = &self.resource.metadata;
        let annotations = metadata.annotations.as_ref().filter(|annotations| !annotations.is_empty());
        write!(f, "{} ({}) {spec} {annotations:?}", self.owner.name, self.uid())
    }
}

fn hours(text: &str) -> SignedDuration {
    match text {
        "30m" => SignedDuration::from_mins(30),
        "2h" => SignedDuration::from_hours(2),
        "24h" => SignedDuration::from_hours(24),
        "48h" => SignedDuration::from_hours(48),
        _ => SignedDuration::ZERO,
    }
}
