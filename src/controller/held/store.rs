//! The resources of one watch.
//!
//! In place of kube's store, which holds whole objects, and a second set of them during each list.

use super::key::Key;
use super::packed::Packed;
use super::share::Share;
use crate::api::ApiAccount;
use kube::runtime::watcher::Event;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::watch;

/// The resources that one watch has shown. A clone is the same store.
#[derive(Clone)]
pub(in crate::controller) struct Store(Arc<Shared>);

struct Shared {
    state: RwLock<State>,
    /// Whether a list was completed.
    is_listed: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    held: HashMap<Key, Held>,
    /// The number of lists so far. It shows which resources a new list does not contain.
    listing: u32,
}

struct Held {
    packed: Packed,
    share: Share,
    listing: u32,
    is_being_deleted: bool,
}

impl Default for Store {
    fn default() -> Self {
        Self(Arc::new(Shared { state: RwLock::default(), is_listed: watch::Sender::new(false) }))
    }
}

impl Store {
    /// Records an event of the watch.
    pub fn apply(&self, event: &Event<ApiAccount>) {
        match event {
            Event::Init => self.write(|state| state.listing = state.listing.wrapping_add(1)),
            Event::InitApply(resource) | Event::Apply(resource) => self.hold(&self.key_of(resource), resource),
            Event::InitDone => {
                self.write(|state| {
                    let listing = state.listing;
                    state.held.retain(|_, held| held.listing == listing);
                });
                self.0.is_listed.send_replace(true);
            }
            Event::Delete(resource) => self.write(|state| {
                state.held.remove(&Key::of_resource(resource));
            }),
        }
    }

    /// Records a resource as the watch shows it.
    pub fn hold(&self, key: &Key, resource: &ApiAccount) {
        let packed = Packed::new(resource);
        let is_being_deleted = resource.metadata.deletion_timestamp.is_some();
        let share = Share::of(resource.status.as_ref());
        self.write(|state| {
            let listing = state.listing;
            state.held.insert(key.clone(), Held { packed, share, listing, is_being_deleted });
        });
    }

    /// Returns the key of a resource. Each call for a resource that is held returns a clone of one key, so that it is in
    /// memory once.
    pub fn key_of(&self, resource: &ApiAccount) -> Key {
        let key = Key::of_resource(resource);
        self.state().held.get_key_value(&key).map_or_else(|| key.clone(), |(held, _)| held.clone())
    }

    /// Returns whether the resources have been listed completely.
    pub fn is_listed(&self) -> bool {
        *self.0.is_listed.borrow()
    }

    /// Waits until the resources have been listed completely.
    pub async fn listed(&self) {
        // The sender is in `self`, so that this ends only after a list.
        drop(self.0.is_listed.subscribe().wait_for(|is_listed| *is_listed).await);
    }

    /// Returns the resource, if the watch has shown it.
    pub fn get(&self, key: &Key) -> Option<Arc<ApiAccount>> {
        let packed = self.state().held.get(key)?.packed.clone();
        unpacked(&packed)
    }

    /// Returns whether the watch has shown the resource.
    pub fn has(&self, key: &Key) -> bool {
        self.state().held.contains_key(key)
    }

    /// Returns whether the resource has a deletion timestamp.
    pub fn is_being_deleted(&self, key: &Key) -> bool {
        self.state().held.get(key).is_some_and(|held| held.is_being_deleted)
    }

    /// Returns the places of the resources.
    pub fn keys(&self) -> Vec<Key> {
        self.state().held.keys().cloned().collect()
    }

    /// Returns the resources. Each is unpacked when it is its turn.
    pub fn all(&self) -> impl Iterator<Item = Arc<ApiAccount>> + use<> {
        let packed: Vec<Packed> = self.state().held.values().map(|held| held.packed.clone()).collect();
        packed.into_iter().filter_map(|packed| unpacked(&packed))
    }

    /// Calls `with` with what each resource adds to the numbers of the fleet.
    pub fn each_share(&self, mut with: impl FnMut(&Key, &Share)) {
        for (key, held) in &self.state().held {
            with(key, &held.share);
        }
    }

    /// Returns whether there are no resources.
    pub fn is_empty(&self) -> bool {
        self.state().held.is_empty()
    }

    fn write(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.state.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// A panic of another task cannot leave the map half changed, so a poisoned lock is still usable.
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unpacked(packed: &Packed) -> Option<Arc<ApiAccount>> {
    packed.unpack().inspect_err(|error| tracing::error!(%error, "a resource in memory cannot be read")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiAccountSpec;
    use futures::FutureExt;

    fn resource(name: &str, version: &str) -> ApiAccount {
        let mut resource = ApiAccount::new(name, ApiAccountSpec::default());
        resource.metadata.namespace = Some("ns".to_owned());
        resource.metadata.resource_version = Some(version.to_owned());
        resource
    }

    fn key(name: &str) -> Key {
        Key::of_resource(&resource(name, "1"))
    }

    fn names(store: &Store) -> Vec<String> {
        let mut names: Vec<_> = store.all().filter_map(|resource| resource.metadata.name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_list_removes_what_it_does_not_contain() {
        let store = Store::default();
        store.apply(&Event::Init);
        store.apply(&Event::InitApply(resource("gone", "1")));
        store.apply(&Event::InitApply(resource("kept", "2")));
        assert!(!store.is_listed() && store.listed().now_or_never().is_none());
        store.apply(&Event::InitDone);
        assert!(store.is_listed() && store.listed().now_or_never().is_some());
        assert_eq!(names(&store), ["gone", "kept"]);
        store.apply(&Event::Init);
        store.apply(&Event::InitApply(resource("kept", "3")));
        assert!(store.has(&key("gone")), "the list may still contain it");
        store.apply(&Event::InitDone);
        assert_eq!(names(&store), ["kept"]);
        assert_eq!(store.get(&key("kept")).unwrap().metadata.resource_version.as_deref(), Some("3"));
    }

    #[test]
    fn a_held_resource_has_one_key_in_memory() {
        let store = Store::default();
        let new = store.key_of(&resource("acme", "1"));
        store.hold(&new, &resource("acme", "1"));
        store.apply(&Event::Apply(resource("acme", "2")));
        for key in [store.key_of(&resource("acme", "3")), store.keys().remove(0)] {
            assert_eq!(key.parts().0.as_ptr(), new.parts().0.as_ptr());
        }
    }

    #[test]
    fn a_deleted_resource_is_removed() {
        let store = Store::default();
        let mut going = resource("going", "1");
        store.apply(&Event::Apply(going.clone()));
        assert!(!store.is_being_deleted(&key("going")));
        going.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-01-01T00:00:00Z".parse().unwrap()));
        store.apply(&Event::Apply(going.clone()));
        assert!(store.is_being_deleted(&key("going")));
        store.apply(&Event::Delete(going));
        assert!(store.is_empty() && store.get(&key("going")).is_none());
    }
}
