//! The existing resources, as the watches of all scopes together know them.

use super::scope::Scope;
use crate::account::Owner;
use crate::api::ApiAccount;
use futures::FutureExt;
use kube::runtime::reflector::{ObjectRef, Store};
use std::sync::{Arc, Mutex, PoisonError};

/// The store of each watch.
#[derive(Default)]
pub(super) struct Stores(Mutex<Vec<(Scope, Store<ApiAccount>)>>);

/// The resources of all scopes, after every scope has been listed.
pub(super) struct Resources(Vec<(Scope, Store<ApiAccount>)>);

/// Returns the reference to the resource that an owner names.
pub(super) fn resource(owner: &Owner) -> ObjectRef<ApiAccount> {
    ObjectRef::new(&owner.name).within(&owner.namespace)
}

impl Stores {
    /// Adds the store of the watch of this scope.
    pub fn add(&self, scope: Scope, store: Store<ApiAccount>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((scope, store));
    }

    /// Returns whether the Secrets of every scope have been listed completely.
    pub fn secrets_are_listed(&self, scopes: usize) -> bool {
        let stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stores.len() == scopes && stores.iter().all(|(scope, _)| scope.secrets.is_complete())
    }

    /// Returns the resource, if a watch has shown it.
    pub fn get(&self, resource: &ObjectRef<ApiAccount>) -> Option<Arc<ApiAccount>> {
        let stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stores.iter().find_map(|(_, store)| store.get(resource))
    }

    /// Returns the resources that the watches have shown so far.
    pub fn seen(&self) -> Vec<Arc<ApiAccount>> {
        let stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stores.iter().flat_map(|(_, store)| store.state()).collect()
    }

    /// Returns the existing resources; `None` until every scope has been listed completely.
    pub fn complete(&self, scopes: usize) -> Option<Resources> {
        let stores = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let listed =
            |(_, store): &(Scope, Store<ApiAccount>)| matches!(store.wait_until_ready().now_or_never(), Some(Ok(())));
        (stores.len() == scopes && stores.iter().all(listed)).then_some(Resources(stores))
    }
}

impl Resources {
    /// Returns every resource.
    pub fn all(&self) -> impl Iterator<Item = Arc<ApiAccount>> {
        self.0.iter().flat_map(|(_, store)| store.state())
    }

    /// Returns whether the resource exists and has a deletion timestamp.
    pub fn is_being_deleted(&self, resource: &ObjectRef<ApiAccount>) -> bool {
        let mut seen = self.0.iter().filter_map(|(_, store)| store.get(resource));
        seen.any(|resource| resource.metadata.deletion_timestamp.is_some())
    }

    /// Returns whether the resource does not exist. False if no watch covers its namespace, since it may exist there.
    pub fn lacks(&self, resource: &ObjectRef<ApiAccount>) -> bool {
        let namespace = resource.namespace.as_deref().unwrap_or_default();
        let mut watched = self.0.iter().filter(|(scope, _)| scope.has(namespace)).peekable();
        watched.peek().is_some() && watched.all(|(_, store)| store.get(resource).is_none())
    }

    /// Returns whether there are no resources.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, store)| store.is_empty())
    }
}
