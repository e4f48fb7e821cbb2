//! Confirms, before a change, that a resource still declares what the reconcile was given. The API server is asked if
//! the watch showed the resource too long ago.

use super::declaration::Declaration;
use super::memory::Memory;
use super::resources::resource;
use crate::account::Owner;
use crate::api::ApiAccount;
use crate::kube_error::reason;
use crate::reconcile::{Declarations, Desired, Unconfirmed};
use crate::secrets::ResourceIdentity;
use async_trait::async_trait;
use kube::api::ListParams;
use kube::{Api, Client};
use std::sync::Arc;
use std::time::Instant;

/// Confirms declarations on the cluster.
///
/// The first reconcile of a declaration that the watch has just shown needs no confirmation. Every later one does: its
/// cause is the clock, the database, a Secret or a failure, and the watch may have been silent since. The first one
/// also needs it if the watch showed the declaration longer ago than [`super::memory::FRESH`], or if another writer was
/// faster.
pub(super) struct ClusterDeclarations {
    pub client: Client,
    pub memory: Arc<Memory>,
}

impl ClusterDeclarations {
    /// Reads the resource by a list with its name, so that no right to `get` is needed.
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
        self.memory.is_fresh(&resource(owner), is, Instant::now())
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
        self.memory.distrust_watch(&resource(owner));
    }
}
