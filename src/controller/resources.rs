//! The resources there are, as all the watches together know them.

use super::scope::Scope;
use crate::api::ApiAccount;
use futures::FutureExt;
use kube::runtime::reflector::{ObjectRef, Store};
use std::sync::{Mutex, PoisonError};

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

    /// What is there; `None` until every scope has been listed whole.
    pub fn complete(&self, scopes: usize) -> Option<Resources> {
        let stores = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let listed =
            |(_, store): &(Scope, Store<ApiAccount>)| matches!(store.wait_until_ready().now_or_never(), Some(Ok(())));
        (stores.len() == scopes && stores.iter().all(listed)).then_some(Resources(stores))
    }
}

impl Resources {
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
