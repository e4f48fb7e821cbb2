//! The existing resources, as the watches of all scopes together know them.

use super::held::{Key, Share, Store};
use super::scope::Scope;
use crate::account::Owner;
use crate::api::ApiAccount;
use kube::runtime::reflector::ObjectRef;
use std::sync::{Arc, Mutex, PoisonError};

/// The store of each watch.
#[derive(Default)]
pub(super) struct Stores(Mutex<Vec<(Scope, Store)>>);

/// The resources of all scopes, after every scope has been listed.
pub(super) struct Resources(Vec<(Scope, Store)>);

/// Returns the reference to the resource that an owner names.
pub(super) fn resource(owner: &Owner) -> ObjectRef<ApiAccount> {
    ObjectRef::new(&owner.name).within(&owner.namespace)
}

impl Stores {
    /// Adds the store of the watch of this scope.
    pub fn add(&self, scope: Scope, store: Store) {
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
        let key = Key::of(resource);
        stores.iter().find_map(|(_, store)| store.get(&key))
    }

    /// Returns the resources that the watches have shown so far. Each is unpacked when it is its turn.
    pub fn seen(&self) -> impl Iterator<Item = Arc<ApiAccount>> + use<> {
        let stores = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stores.into_iter().flat_map(|(_, store)| store.all())
    }

    /// Returns the places of the resources that the watches have shown so far.
    pub fn keys(&self) -> Vec<Key> {
        let stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stores.iter().flat_map(|(_, store)| store.keys()).collect()
    }

    /// Returns the existing resources; `None` until every scope has been listed completely.
    pub fn complete(&self, scopes: usize) -> Option<Resources> {
        let stores = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (stores.len() == scopes && stores.iter().all(|(_, store)| store.is_listed())).then_some(Resources(stores))
    }
}

impl Resources {
    /// Returns every resource. Each is unpacked when it is its turn.
    pub fn all(&self) -> impl Iterator<Item = Arc<ApiAccount>> {
        self.0.iter().flat_map(|(_, store)| store.all())
    }

    /// Calls `with` with what each resource adds to the numbers of the fleet.
    pub fn each_share(&self, mut with: impl FnMut(&Key, &Share)) {
        for (_, store) in &self.0 {
            store.each_share(&mut with);
        }
    }

    /// Returns whether the resource exists and has a deletion timestamp.
    pub fn is_being_deleted(&self, resource: &ObjectRef<ApiAccount>) -> bool {
        let key = Key::of(resource);
        self.0.iter().any(|(_, store)| store.is_being_deleted(&key))
    }

    /// Returns whether the resource does not exist. False if no watch covers its namespace, since it may exist there.
    pub fn lacks(&self, resource: &ObjectRef<ApiAccount>) -> bool {
        self.lacks_key(&Key::of(resource))
    }

    /// As [`Self::lacks`].
    pub fn lacks_key(&self, key: &Key) -> bool {
        let (namespace, _) = key.parts();
        let mut watched = self.0.iter().filter(|(scope, _)| scope.has(namespace)).peekable();
        watched.peek().is_some() && !watched.any(|(_, store)| store.has(key))
    }

    /// Returns whether there are no resources.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, store)| store.is_empty())
    }
}
