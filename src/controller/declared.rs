//! Whether a resource is still as a look took it: asked of the API server where the look came long after the watch showed it.

use super::memory::Memory;
use crate::account::Owner;
use crate::api::{ApiAccount, ROTATE_ANNOTATION};
use crate::kube_error::reason;
use crate::reconcile::{Declarations, Desired, Unconfirmed, is_paused};
use crate::secrets::ResourceIdentity;
use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};
use std::sync::Arc;
use std::time::Instant;

/// All that a look goes by, as far as it tells one state of a resource from another.
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

    fn of_desired(desired: &Desired) -> Self {
        Self {
            uid: desired.uid.clone(),
            generation: desired.generation,
            rotate: desired.rotation.asked.annotation.clone(),
            paused: desired.paused,
            being_deleted: false,
        }
    }

    fn is_deletion_of(&self, resource: &ResourceIdentity) -> bool {
        self.being_deleted && self.uid == resource.uid
    }
}

/// The resources on the cluster.
///
/// The first attempt for a state of a resource that the watch has just shown needs no asking. Every later attempt is asked for:
/// it follows the clock, the database, a Secret or a failure, and the watch may have been silent ever since. So is the first
/// attempt for what was shown longer ago than [`super::memory::FRESH`], and any after somebody else was quicker.
pub(super) struct ClusterDeclarations {
    pub client: Client,
    pub memory: Arc<Memory>,
}

impl ClusterDeclarations {
    /// By its name alone, which takes no other right than to list.
    async fn ask(&self, owner: &Owner) -> Result<Option<Declaration>, Unconfirmed> {
        let resources: Api<ApiAccount> = Api::namespaced(self.client.clone(), &owner.namespace);
        let params = ListParams::default().fields(&format!("metadata.name={}", owner.name));
        match resources.list_metadata(&params).await {
            Ok(found) => Ok(found.items.first().map(|found| Declaration::of(&found.metadata))),
            Err(error) => Err(Unconfirmed(format!(
                "the API server does not say whether the ApiAccount is still as it was seen: {}",
                reason(&error)
            ))),
        }
    }

    fn is_fresh(&self, owner: &Owner, is: impl Fn(&Declaration) -> bool) -> bool {
        self.memory.is_fresh(&reference(owner), is, Instant::now())
    }
}

#[async_trait]
impl Declarations for ClusterDeclarations {
    async fn confirm(&self, desired: &Desired) -> Result<(), Unconfirmed> {
        let wanted = Declaration::of_desired(desired);
        let is_just_shown = self.is_fresh(&desired.owner, |shown| *shown == wanted);
        if is_just_shown || self.ask(&desired.owner).await? == Some(wanted) {
            return Ok(());
        }
        Err(Unconfirmed("the ApiAccount has changed since it was seen".to_owned()))
    }

    async fn confirm_deletion(&self, resource: &ResourceIdentity) -> Result<(), Unconfirmed> {
        if resource.uid.is_some() && self.is_fresh(&resource.owner, |shown| shown.is_deletion_of(resource)) {
            return Ok(());
        }
        match self.ask(&resource.owner).await? {
            None if resource.uid.is_none() => Ok(()),
            Some(found) if found.is_deletion_of(resource) => Ok(()),
            None => Err(Unconfirmed("the ApiAccount is gone since it was seen".to_owned())),
            Some(_) => Err(Unconfirmed("an ApiAccount of this name is there".to_owned())),
        }
    }

    fn overtaken(&self, owner: &Owner) {
        self.memory.distrust_watch(&reference(owner));
    }
}

fn reference(owner: &Owner) -> ObjectRef<ApiAccount> {
    ObjectRef::new(&owner.name).within(&owner.namespace)
}
