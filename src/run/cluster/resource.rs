//! An ApiAccount as it is on the cluster, and what of it outlives that its manifest is applied.

use super::outlives::outlives;
use crate::account::{ApiKey, ClusterId, HIDDEN_KEY, KeyId, KeyPair, Mark, Owner};
use crate::api::{ApiAccount, ApiAccountStatus, FINALIZER, PAUSED_ANNOTATION, ROTATE_ANNOTATION};
use crate::manifests::Manifest;
use crate::reconcile::{
    Deletion, DeletionPolicy, Desired, InvalidSpec, Verified, deletion_policy, is_confirmed, is_paused, secret_places,
};
use crate::secrets::{AssumedKeys, IssuedKeys, ResourceIdentity, SecretManifest, SecretRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

/// What a plan has to know of a resource.
pub struct Resource {
    pub identity: ResourceIdentity,
    /// Its generation, if applying the manifest would leave it so.
    generation: Option<i64>,
    /// Set on the cluster, and not by whoever applies the manifest.
    rotate: Option<String>,
    paused: bool,
    /// The version of its Secret that is known to be right.
    pub verified: Option<Verified>,
    /// What its Secret was written with last.
    pub written: Option<AssumedKeys>,
    /// What becomes of its account when it is deleted, if that can be told.
    pub policy: Result<DeletionPolicy, InvalidSpec>,
    /// It is being deleted: applying its manifest does not stop that.
    pub being_deleted: bool,
    /// Whether its deletion is for the controller's brake to decide.
    pub is_for_brake: bool,
    /// What matters at its end; `None` if that is not to come.
    end: Option<Box<End>>,
}

/// What a resource that goes declares, and where its Secret may be.
struct End {
    desired: Option<Desired>,
    places: Vec<SecretRef>,
}

impl Resource {
    /// Takes from the resource what matters to a plan of this manifest; `None`: no manifest declares it.
    pub fn of(resource: &ApiAccount, cluster: &ClusterId, manifest: Option<&Manifest>) -> Self {
        let status = resource.status.as_ref();
        let metadata = &resource.metadata;
        let annotation = |name| metadata.annotations.as_ref()?.get(name).filter(|_| outlives(metadata, name));
        let being_deleted = metadata.deletion_timestamp.is_some();
        let owner = Owner::of(resource, cluster);
        let end = (being_deleted || manifest.is_none()).then(|| {
            let places = secret_places(&owner, &resource.spec, status);
            Box::new(End { desired: Desired::parse(resource, cluster).ok(), places })
        });
        let is_as_declared = manifest.is_some_and(|manifest| has_spec_of(resource, &manifest.desired));
        Self {
            identity: ResourceIdentity { owner, uid: metadata.uid.clone() },
            generation: metadata.generation.filter(|_| is_as_declared),
            rotate: annotation(ROTATE_ANNOTATION).cloned(),
            paused: is_paused(metadata) && outlives(metadata, PAUSED_ANNOTATION),
            verified: status.and_then(Verified::of),
            written: status.and_then(|status| written(resource, status)),
            policy: deletion_policy(&resource.spec),
            being_deleted,
            is_for_brake: is_for_brake(resource),
            end,
        }
    }

    /// The resource as one that is being deleted.
    pub fn deletion(&self) -> Deletion<'_> {
        let end = self.end.as_deref();
        Deletion {
            resource: &self.identity,
            desired: end.and_then(|end| end.desired.as_ref()),
            places: end.map(|end| end.places.as_slice()).unwrap_or_default(),
            generation: None,
            confirmed: false,
        }
    }

    /// What is declared once the manifest is applied: its annotations win over those that stay beside them.
    pub fn with(&self, manifest: &Manifest) -> Desired {
        let mut desired = manifest.desired.clone();
        desired.uid.clone_from(&self.identity.uid);
        desired.generation = self.generation;
        desired.paused |= self.paused && !manifest.names_paused;
        let asked = &mut desired.rotation.asked.annotation;
        *asked = asked.take().or_else(|| self.rotate.clone());
        desired
    }
}

/// Whether the resource's spec is the one that the manifest declares, so that applying it makes no new generation.
fn has_spec_of(resource: &ApiAccount, declared: &Desired) -> bool {
    let Ok(mut found) = Desired::parse(resource, &declared.owner.cluster) else {
        return false;
    };
    found.uid.clone_from(&declared.uid);
    found.generation = declared.generation;
    found.paused = declared.paused;
    found.rotation.asked.annotation.clone_from(&declared.rotation.asked.annotation);
    found == *declared
}

/// Whether the account loses its access with the resource, unless somebody has confirmed that, or it is done.
fn is_for_brake(resource: &ApiAccount) -> bool {
    let is_done = resource.metadata.deletion_timestamp.is_some()
        && !resource.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    deletion_policy(&resource.spec) == Ok(DeletionPolicy::Delete) && !is_confirmed(resource) && !is_done
}

fn written(resource: &ApiAccount, status: &ApiAccountStatus) -> Option<AssumedKeys> {
    let key = status.active_key()?;
    let fields = &resource.spec.secret.keys;
    Some(AssumedKeys {
        api_key_field: fields.api_key.clone(),
        secret_key_field: fields.secret_key.clone(),
        id: KeyId::parse(&key.id)?,
        api_key: Some(&key.api_key).filter(|key| *key != HIDDEN_KEY).and_then(|key| ApiKey::stored(key).ok())?,
    })
}

/// The Secret that the resource's status speaks of, as it was written.
pub fn reported_secret(resource: &ApiAccount, cluster: &ClusterId) -> Option<(SecretRef, ObjectMeta)> {
    let status = resource.status.as_ref()?;
    let AssumedKeys { id, api_key, .. } = written(resource, status)?;
    let mut desired = Desired::parse(resource, cluster).ok()?;
    desired.secret.at.name.clone_from(status.secret_name.as_ref()?);
    let keys = IssuedKeys { pair: KeyPair::without_secret(id, api_key), mark: Mark::unknown() };
    let secret = SecretManifest::new(&desired.secret, desired.identity(), &keys).to_secret();
    let metadata = ObjectMeta { resource_version: status.secret_resource_version.clone(), ..secret.metadata };
    Some((desired.secret.at, metadata))
}
