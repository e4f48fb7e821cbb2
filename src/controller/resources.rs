//! The resources there are, as all the watches together know them.

use super::scope::Scope;
use crate::api::ApiAccount;
use futures::FutureExt;
use kube::runtime::reflector::{ObjectRef, Store};
use std::sync::{Arc, Mutex, PoisonError};

/// Where each watch keeps what it has seen.
#[derive(Default)]
pub(super) struct Stores(Mutex<Vec<(Scope, Store<ApiAccount>)>>);

/// What the watches have seen: a complete picture of each scope.
pub(super) struct Resources(Vec<(Scope, Store<ApiAccount>)>);

impl Stores {
    /// A watch of this scope keeps what it sees here.
    pub fn add(&self, scope: Scope, store: Store<ApiAccount>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((scope, store));
    }

    /// Whether the Secrets of every scope have been listed whole.
    pub fn secrets_are_listed(&self, scopes: usize) -> bool {
        let stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stores.len() == scopes && stores.iter().all(|(scope, _)| scope.secrets.is_complete())
    }

    /// The resource, if a watch has shown it.
    pub fn get(&self, resource: &ObjectRef<ApiAccount>) -> Option<Arc<ApiAccount>> {
        let stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stores.iter().find_map(|(_, store)| store.get(resource))
    }

    /// What is there; `None` until every scope has been listed whole.
    pub fn complete(&self, scopes: usize) -> Option<Resources> {
        let stores = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let listed =
            |(_, store): &(Scope, Store<ApiAccount>)| matches!(store.wait_until_ready().now_or_never(), Some(Ok(())));
        (stores.len() == scopes && stores.iter().all(listed)).then_some(Resources(stores))
    }
}

impl Resources {
    /// Each of them.
    pub fn all(&self) -> impl Iterator<Item = Arc<ApiAccount>> {
        self.0.iter().flat_map(|(_, store)| store.state())
    }

    /// Whether somebody has asked for its deletion, and it is there still.
    pub fn is_being_deleted(&self, resource: &ObjectRef<ApiAccount>) -> bool {
        let mut seen = self.0.iter().filter_map(|(_, store)| store.get(resource));
        seen.any(|resource| resource.metadata.deletion_timestamp.is_some())
    }

    /// Whether the resource would be seen if it were there, and is not.
    pub fn lacks(&self, resource: &ObjectRef<ApiAccount>) -> bool {
        let namespace = resource.namespace.as_deref().unwrap_or_default();
        let mut watched = self.0.iter().filter(|(scope, _)| scope.has(namespace)).peekable();
        watched.peek().is_some() && watched.all(|(_, store)| store.get(resource).is_none())
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, store)| store.is_empty())
    }
}
