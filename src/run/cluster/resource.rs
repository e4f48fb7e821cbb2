//! An ApiAccount on the cluster: the parts that a plan needs, and the parts that stay when its manifest is applied.

use super::outlives::outlives;
use crate::account::{ApiKey, ClusterId, HIDDEN_KEY, KeyId, KeyPair, Mark, Owner};
use crate::api::{ApiAccount, ApiAccountStatus, FINALIZER, PAUSED_ANNOTATION, ROTATE_ANNOTATION};
use crate::manifests::Manifest;
use crate::reconcile::{
    Deletion, DeletionPolicy, Desired, InvalidSpec, Verified, deletion_policy, is_paused, may_be_held, possible_secrets,
};
use crate::secrets::{AssumedKeys, IssuedKeys, ResourceIdentity, SecretManifest, SecretRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

/// The parts of a resource that a plan needs.
pub struct Resource {
    pub identity: ResourceIdentity,
    /// The generation, if applying the manifest does not change the spec and so keeps the generation.
    generation: Option<i64>,
    /// The value of the rotate annotation, if the annotation stays when the manifest is applied.
    rotate: Option<String>,
    /// Whether the resource is paused by an annotation that stays when the manifest is applied.
    paused: bool,
    /// The resourceVersion at which the Secret is known to be in sync.
    pub verified: Option<Verified>,
    /// The key pair that the Secret was last written with.
    pub written: Option<AssumedKeys>,
    /// The deletion policy, or why it cannot be read.
    pub policy: Result<DeletionPolicy, InvalidSpec>,
    /// Whether the resource is being deleted. Applying its manifest does not stop that.
    pub being_deleted: bool,
    /// Whether the controller's brake counts the deletion of the resource and may hold it.
    pub is_for_brake: bool,
    /// What is needed for the deletion. `None`: the resource is not deleted.
    deletion: Option<Box<DeletionParts>>,
}

/// What a resource that is deleted declares, and the places where its Secret may be.
struct DeletionParts {
    desired: Option<Desired>,
    places: Vec<SecretRef>,
}

impl Resource {
    /// Extracts what a plan needs from the resource. `manifest` is `None` if no manifest declares the resource.
    pub fn of(resource: &ApiAccount, cluster: &ClusterId, manifest: Option<&Manifest>) -> Self {
        let status = resource.status.as_ref();
        let metadata = &resource.metadata;
        let annotation = |name| metadata.annotations.as_ref()?.get(name).filter(|_| outlives(metadata, name));
        let being_deleted = metadata.deletion_timestamp.is_some();
        let owner = Owner::of(resource, cluster);
        let deletion = (being_deleted || manifest.is_none()).then(|| {
            let places = possible_secrets(&owner, &resource.spec, status);
            Box::new(DeletionParts { desired: Desired::parse(resource, cluster).ok(), places })
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
            deletion,
        }
    }

    /// Returns the parameters of the deletion of the resource.
    pub fn deletion(&self) -> Deletion<'_> {
        let deletion = self.deletion.as_deref();
        Deletion {
            resource: &self.identity,
            desired: deletion.and_then(|deletion| deletion.desired.as_ref()),
            places: deletion.map(|deletion| deletion.places.as_slice()).unwrap_or_default(),
            generation: None,
            requested_by: None,
            confirmed: false,
        }
    }

    /// Returns the desired state after the manifest is applied. Annotations of the manifest take precedence over
    /// annotations that stay on the resource.
    pub fn desired_with(&self, manifest: &Manifest) -> Desired {
        let mut desired = manifest.desired.clone();
        desired.uid.clone_from(&self.identity.uid);
        desired.generation = self.generation;
        desired.paused |= self.paused && !manifest.has_paused_annotation;
        let asked = &mut desired.rotation.requests.annotation;
        *asked = asked.take().or_else(|| self.rotate.clone());
        desired
    }
}

/// Returns whether the resource has the spec of the manifest. Applying the manifest then keeps the generation.
fn has_spec_of(resource: &ApiAccount, declared: &Desired) -> bool {
    let Ok(mut found) = Desired::parse(resource, &declared.owner.cluster) else {
        return false;
    };
    found.uid.clone_from(&declared.uid);
    found.generation = declared.generation;
    found.paused = declared.paused;
    found.rotation.requests.annotation.clone_from(&declared.rotation.requests.annotation);
    found == *declared
}

/// Returns whether the account loses its access when the resource is deleted, the deletion is not confirmed, and the
/// controller has not finished it yet.
fn is_for_brake(resource: &ApiAccount) -> bool {
    let is_done = resource.metadata.deletion_timestamp.is_some()
        && !resource.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    may_be_held(resource) && !is_done
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

/// Returns the place and the metadata of the Secret that the status of the resource names, as the Secret was written.
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
