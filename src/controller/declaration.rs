//! A state of a resource, as far as a reconcile depends on it.

use crate::api::ROTATE_ANNOTATION;
use crate::reconcile::{Desired, is_paused};
use crate::secrets::ResourceIdentity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Everything that tells one declaration of a resource from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declaration {
    uid: Option<String>,
    generation: Option<i64>,
    rotate: Option<String>,
    paused: bool,
    being_deleted: bool,
}

impl Declaration {
    /// What an object with this metadata declares.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.clone(),
            generation: metadata.generation,
            rotate: metadata.annotations.as_ref().and_then(|annotations| annotations.get(ROTATE_ANNOTATION)).cloned(),
            paused: is_paused(metadata),
            being_deleted: metadata.deletion_timestamp.is_some(),
        }
    }

    /// What the object declared that this was parsed from.
    pub fn of_desired(desired: &Desired) -> Self {
        Self {
            uid: desired.uid.clone(),
            generation: desired.generation,
            rotate: desired.rotation.requests.annotation.clone(),
            paused: desired.paused,
            being_deleted: false,
        }
    }

    /// Whether this very resource is being deleted.
    pub fn is_deletion_of(&self, resource: &ResourceIdentity) -> bool {
        self.being_deleted && self.uid == resource.uid
    }
}
