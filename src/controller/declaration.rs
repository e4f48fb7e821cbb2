//! The part of a resource's state that a reconcile depends on.

use crate::api::ROTATE_ANNOTATION;
use crate::reconcile::{Desired, is_paused};
use crate::secrets::ResourceIdentity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Everything that distinguishes one declaration of a resource from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declaration {
    uid: Option<String>,
    generation: Option<i64>,
    rotate: Option<String>,
    paused: bool,
    being_deleted: bool,
}

impl Declaration {
    /// Returns the declaration of an object with this metadata.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.clone(),
            generation: metadata.generation,
            rotate: metadata.annotations.as_ref().and_then(|annotations| annotations.get(ROTATE_ANNOTATION)).cloned(),
            paused: is_paused(metadata),
            being_deleted: metadata.deletion_timestamp.is_some(),
        }
    }

    /// Returns the declaration of the object from which this was parsed.
    pub fn of_desired(desired: &Desired) -> Self {
        Self {
            uid: desired.uid.clone(),
            generation: desired.generation,
            rotate: desired.rotation.requests.annotation.clone(),
            paused: desired.paused,
            being_deleted: false,
        }
    }

    /// Returns whether this resource, with this UID, is being deleted.
    pub fn is_deletion_of(&self, resource: &ResourceIdentity) -> bool {
        self.being_deleted && self.uid == resource.uid
    }
}
