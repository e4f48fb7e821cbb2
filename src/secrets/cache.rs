//! A cache of the metadata of the cluster's Secrets. A metadata watch feeds it, and so do this program's own reads and
//! writes.
//!
//! A watch lags behind this program's writes. Of two reports on a Secret, the one with the later resourceVersion
//! counts.

use super::found::{accounts_of, controller, has_owner_reference, is_watched, marked_with, owner_annotation};
use super::small_texts::{Noted, Place, Places, SharedTexts, SmallController, place_of, secret_ref, split};
use super::{ResourceIdentity, SecretRef};
use crate::account::Owner;
use crate::api::is_later_version as is_later;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::Event;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The caches of all watched parts of the cluster. Each watch has a cache of its own, because a new list of one watch
/// says nothing about the Secrets of another.
#[derive(Debug)]
pub enum SecretCaches {
    /// The cache of one watch of all namespaces.
    Cluster(Arc<SecretCache>),
    /// The caches of the watches of single namespaces, by namespace.
    Namespaces(HashMap<String, Arc<SecretCache>>),
}

impl SecretCaches {
    /// Returns the cache that contains this namespace; `None` if it is not watched.
    pub fn of(&self, namespace: &str) -> Option<&Arc<SecretCache>> {
        match self {
            Self::Cluster(cache) => Some(cache),
            Self::Namespaces(caches) => caches.get(namespace),
        }
    }

    /// Returns the owners in the owner annotations of Secrets for which `is_wanted` returns true, provided that the owner
    /// is in the Secret's namespace.
    pub fn owners(&self, is_wanted: impl Fn(&Owner) -> bool) -> HashSet<Owner> {
        match self {
            Self::Cluster(cache) => cache.owners(&is_wanted),
            Self::Namespaces(caches) => caches.values().flat_map(|cache| cache.owners(&is_wanted)).collect(),
        }
    }
}

/// The metadata of the Secrets that one watch shows.
#[derive(Debug, Default)]
pub struct SecretCache(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    seen: HashMap<Place, CachedSecret>,
    /// The Secrets by a hash of the account's place. Two accounts that share one are told apart where it is used.
    by_account: HashMap<u64, Places>,
    hasher: RandomState,
    /// Places with a Secret that the watch does not show or shows differently, such as a foreign Secret without this
    /// program's label. These are read each time.
    contested: HashSet<SecretRef>,
    /// Texts that many Secrets share.
    shared: SharedTexts,
    /// The number of lists so far. It shows which Secrets a new list does not contain.
    listing: u32,
    /// Why the API server refuses the first list.
    refused: Option<String>,
    /// Whether a list was completed.
    complete: bool,
}

/// The part of a Secret's metadata that is kept. It is small, because a cluster may have very many Secrets.
#[derive(Debug)]
struct CachedSecret {
    version: Box<str>,
    /// In a box, because the Secrets that this program writes have none.
    controller: Option<Box<SmallController>>,
    noted: Option<Noted>,
    marked_with: Option<Arc<str>>,
    has_owner_reference: bool,
    listing: u32,
}

/// The namespace and name of an ApiAccount that Secrets may belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What a cache knows of a place.
#[derive(Debug, PartialEq, Eq)]
pub enum CacheLookup {
    /// The Secret must be read.
    Unknown,
    /// There is no Secret.
    Absent,
    /// There is a Secret.
    Secret {
        /// Its resourceVersion.
        version: String,
        /// Whether an owner reference lets the garbage collector delete the Secret together with an ApiAccount.
        has_owner_reference: bool,
        /// The id of the keyring key with which the mark of the Secret was made.
        marked_with: Option<String>,
    },
}

/// What an event of the watch changed in the cache.
#[derive(Debug, PartialEq)]
pub enum CacheChange {
    /// Nothing: the event is an echo of our own write, or older than the cache.
    Nothing,
    /// Secrets were changed or deleted. The set contains the ApiAccounts that they may belong to now or may have
    /// belonged to before.
    Changed(BTreeSet<ResourceName>),
}

impl SecretCache {
    /// Returns what the cache knows of this place.
    pub fn lookup(&self, at: &SecretRef) -> CacheLookup {
        let state = self.state();
        match state.seen.get(&place_of(at)) {
            _ if state.contested.contains(at) => CacheLookup::Unknown,
            None => CacheLookup::Absent,
            Some(CachedSecret { version, has_owner_reference, marked_with, .. }) => CacheLookup::Secret {
                version: version.to_string(),
                has_owner_reference: *has_owner_reference,
                marked_with: marked_with.as_deref().map(str::to_owned),
            },
        }
    }

    /// Fails if the API server refused the first list: the empty cache then does not mean that there are no Secrets. Succeeds
    /// before any list, since the controller waits for the first answer before it reconciles anything.
    ///
    /// # Errors
    /// The reason of the refusal, as text for people.
    pub fn check_not_refused(&self) -> Result<(), String> {
        self.state().refused.clone().map_or(Ok(()), Err)
    }

    /// Returns whether all Secrets have been listed once.
    pub fn is_complete(&self) -> bool {
        self.state().complete
    }

    /// Records that the API server refuses the first list.
    pub fn listing_refused(&self, reason: &str) {
        self.state().refused = Some(reason.to_owned());
    }

    /// Returns the Secrets of this resource in its own namespace.
    pub fn owned_by(&self, wanted: &ResourceIdentity) -> Vec<SecretRef> {
        let state = self.state();
        let is_own = |at: &&Place| {
            split(at).0 == wanted.owner.namespace
                && state.seen.get(*at).is_some_and(|seen| {
                    let noted = seen.noted.as_ref().map(Noted::text);
                    wanted.check_holder(seen.controller().as_ref(), noted.as_deref()).is_ok()
                })
        };
        let places = state.by_account.get(&state.hash(&wanted.owner.namespace, &wanted.owner.name));
        places.into_iter().flat_map(Places::all).filter(is_own).map(secret_ref).collect()
    }

    fn owners(&self, is_wanted: &impl Fn(&Owner) -> bool) -> HashSet<Owner> {
        let state = self.state();
        let owner = |(at, seen): (&Place, &CachedSecret)| {
            let (namespace, _) = split(at);
            Owner::parse(&seen.noted.as_ref()?.text()).filter(|owner| owner.namespace == namespace)
        };
        state.seen.iter().filter_map(owner).filter(is_wanted).collect()
    }

    /// Records the metadata of a Secret that was just written or read.
    pub fn record(&self, at: &SecretRef, metadata: &ObjectMeta) {
        self.state().record(at, metadata);
    }

    /// Records that there is no Secret at this place.
    pub fn forget(&self, at: &SecretRef) {
        let mut state = self.state();
        state.contested.remove(at);
        state.forget(&place_of(at));
    }

    /// Records that there is a Secret where the cache has none, or another one than the cache has.
    pub fn mark_contested(&self, at: &SecretRef) {
        self.state().contested.insert(at.clone());
    }

    /// Records an event of the watch, and returns what it changed.
    pub fn apply(&self, event: &Event<PartialObjectMeta<Secret>>) -> CacheChange {
        let mut state = self.state();
        match event {
            Event::Init => {
                state.listing += 1;
                CacheChange::Nothing
            }
            Event::InitApply(secret) | Event::Apply(secret) => match place(&secret.metadata) {
                Some(at) => state.record(&at, &secret.metadata).map_or(CacheChange::Nothing, CacheChange::Changed),
                None => CacheChange::Nothing,
            },
            Event::InitDone => {
                state.refused = None;
                state.complete = true;
                let listing = state.listing;
                let gone: Vec<Place> =
                    state.seen.iter().filter(|(_, seen)| seen.listing < listing).map(|(at, _)| at.clone()).collect();
                CacheChange::Changed(gone.iter().flat_map(|at| state.forget(at)).collect())
            }
            Event::Delete(secret) => {
                let version = secret.metadata.resource_version.as_deref().unwrap_or_default();
                let is_current = |at: &Place| state.seen.get(at).is_some_and(|seen| !is_later(&seen.version, version));
                match place(&secret.metadata).as_ref().map(place_of).filter(is_current) {
                    Some(at) => CacheChange::Changed(state.forget(&at).into_iter().collect()),
                    None => CacheChange::Nothing,
                }
            }
        }
    }

    /// A panic of another task cannot leave the state half changed, so a poisoned lock is still usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Records the metadata, and returns the ApiAccounts that the Secret may belong to or may have belonged to until
    /// now; `None` if the cache has the same or a later version.
    fn record(&mut self, at: &SecretRef, metadata: &ObjectMeta) -> Option<BTreeSet<ResourceName>> {
        if is_watched(metadata) {
            self.contested.remove(at);
        }
        let version = metadata.resource_version.as_deref().unwrap_or_default();
        let (listing, place) = (self.listing, place_of(at));
        if let Some(seen) = self.seen.get_mut(&place)
            && !is_later(version, &seen.version)
        {
            seen.listing = listing;
            return None;
        }
        let mut concerned: BTreeSet<ResourceName> = self.forget(&place).into_iter().collect();
        let cached = CachedSecret {
            version: version.into(),
            controller: controller(metadata).map(|found| Box::new(SmallController::new(found, &mut self.shared))),
            noted: owner_annotation(metadata).map(|noted| Noted::new(noted, &mut self.shared)),
            has_owner_reference: has_owner_reference(metadata),
            marked_with: marked_with(metadata).map(|id| self.shared.get(id)),
            listing,
        };
        for account in cached.accounts(&place) {
            let places = self.by_account.entry(self.hash(&account.namespace, &account.name));
            places.and_modify(|places| places.add(&place)).or_insert_with(|| Places::One(Arc::clone(&place)));
            concerned.insert(account);
        }
        self.seen.insert(place, cached);
        Some(concerned)
    }

    fn hash(&self, namespace: &str, name: &str) -> u64 {
        self.hasher.hash_one((namespace, name))
    }

    /// Removes the Secret, and returns the ApiAccounts that it may have belonged to.
    fn forget(&mut self, at: &Place) -> Vec<ResourceName> {
        let accounts = self.seen.remove(at).map(|seen| seen.accounts(at)).unwrap_or_default();
        for account in &accounts {
            if let Entry::Occupied(mut places) = self.by_account.entry(self.hash(&account.namespace, &account.name))
                && places.get_mut().remove(at)
            {
                places.remove();
            }
        }
        accounts
    }
}

impl CachedSecret {
    fn controller(&self) -> Option<OwnerReference> {
        self.controller.as_deref().map(SmallController::reference)
    }

    fn accounts(&self, at: &Place) -> Vec<ResourceName> {
        let (namespace, _) = split(at);
        let account = |name: &str| ResourceName { namespace: namespace.to_owned(), name: name.to_owned() };
        let (controller, noted) = (self.controller(), self.noted.as_ref().map(Noted::text));
        accounts_of(controller.as_ref(), noted.as_deref()).map(account).collect()
    }
}

fn place(metadata: &ObjectMeta) -> Option<SecretRef> {
    Some(SecretRef { namespace: metadata.namespace.clone()?, name: metadata.name.clone()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::ClusterId;
    use crate::api::OWNER_ANNOTATION;
    use std::collections::BTreeMap;

    fn at(name: &str) -> SecretRef {
        SecretRef { namespace: "ns".to_owned(), name: name.to_owned() }
    }

    fn identity(owner: &str) -> ResourceIdentity {
        let cluster = ClusterId::parse("here").unwrap();
        let owner = Owner { cluster, namespace: "ns".to_owned(), name: owner.to_owned() };
        ResourceIdentity { owner, uid: Some("u".to_owned()) }
    }

    fn metadata(name: &str, version: u64, owner: Option<&str>) -> ObjectMeta {
        let noted = |owner: &str| BTreeMap::from([(OWNER_ANNOTATION.to_owned(), format!("here/ns/{owner}"))]);
        ObjectMeta {
            namespace: Some("ns".to_owned()),
            name: Some(name.to_owned()),
            resource_version: Some(version.to_string()),
            annotations: owner.map(noted),
            ..ObjectMeta::default()
        }
    }

    fn event(
        name: &str,
        version: u64,
        wrap: fn(PartialObjectMeta<Secret>) -> Event<PartialObjectMeta<Secret>>,
    ) -> Event<PartialObjectMeta<Secret>> {
        wrap(PartialObjectMeta { metadata: metadata(name, version, Some("acme")), ..PartialObjectMeta::default() })
    }

    fn changed(accounts: &[&str]) -> CacheChange {
        let account = |name: &&str| ResourceName { namespace: "ns".to_owned(), name: (*name).to_owned() };
        CacheChange::Changed(accounts.iter().map(account).collect())
    }

    fn version(cache: &SecretCache, name: &str) -> Option<String> {
        match cache.lookup(&at(name)) {
            CacheLookup::Secret { version, .. } => Some(version),
            CacheLookup::Absent => None,
            CacheLookup::Unknown => panic!("only reading will tell"),
        }
    }

    #[test]
    fn an_echo_of_our_write_changes_nothing_and_a_later_event_does() {
        let cache = SecretCache::default();
        cache.record(&at("a"), &metadata("a", 9, Some("acme")));
        assert_eq!(cache.apply(&event("a", 9, Event::Apply)), CacheChange::Nothing);
        assert_eq!(cache.apply(&event("a", 10, Event::Apply)), changed(&["acme"]));
        assert_eq!(version(&cache, "a").as_deref(), Some("10"));
    }

    #[test]
    fn an_older_event_does_not_replace_a_newer_one() {
        let cache = SecretCache::default();
        cache.record(&at("a"), &metadata("a", 10, Some("acme")));
        assert_eq!(cache.apply(&event("a", 9, Event::Apply)), CacheChange::Nothing);
        assert_eq!(cache.apply(&event("a", 9, Event::Delete)), CacheChange::Nothing);
        assert_eq!(version(&cache, "a").as_deref(), Some("10"));
        assert_eq!(cache.apply(&event("a", 11, Event::Delete)), changed(&["acme"]));
        assert_eq!(version(&cache, "a"), None);
        assert!(cache.owned_by(&identity("acme")).is_empty());
    }

    #[test]
    fn a_new_list_removes_missing_secrets_but_not_newer_writes() {
        let cache = SecretCache::default();
        cache.record(&at("gone"), &metadata("gone", 1, Some("acme")));
        cache.record(&at("kept"), &metadata("kept", 2, None));
        cache.apply(&Event::Init);
        assert_eq!(cache.apply(&event("kept", 2, Event::InitApply)), CacheChange::Nothing);
        cache.record(&at("written"), &metadata("written", 5, None));
        assert_eq!(cache.apply(&Event::InitDone), changed(&["acme"]));
        assert_eq!(version(&cache, "gone"), None);
        assert!(version(&cache, "kept").is_some());
        assert!(version(&cache, "written").is_some());
    }

    #[test]
    fn a_contested_place_is_unknown_until_it_is_free() {
        let cache = SecretCache::default();
        cache.mark_contested(&at("a"));
        assert_eq!(cache.lookup(&at("a")), CacheLookup::Unknown);
        cache.forget(&at("a"));
        assert_eq!(cache.lookup(&at("a")), CacheLookup::Absent);
    }

    #[test]
    fn a_change_of_the_owner_is_reported_for_both_owners() {
        let cache = SecretCache::default();
        cache.record(&at("a"), &metadata("a", 1, Some("other")));
        assert_eq!(cache.owned_by(&identity("other")), [at("a")]);
        assert_eq!(cache.apply(&event("a", 2, Event::Apply)), changed(&["acme", "other"]));
        assert!(cache.owned_by(&identity("other")).is_empty());
        assert_eq!(cache.owned_by(&identity("acme")), [at("a")]);
        let stripped = PartialObjectMeta { metadata: metadata("a", 3, None), ..PartialObjectMeta::default() };
        assert_eq!(cache.apply(&Event::Apply(stripped)), changed(&["acme"]), "else nobody would put it back");
    }

    #[test]
    fn a_copy_in_another_namespace_belongs_to_nobody() {
        let cache = SecretCache::default();
        let elsewhere = SecretRef { namespace: "elsewhere".to_owned(), ..at("a") };
        let copy = ObjectMeta { namespace: Some("elsewhere".to_owned()), ..metadata("a", 1, Some("acme")) };
        cache.record(&elsewhere, &copy);
        assert!(cache.owned_by(&identity("acme")).is_empty());
        assert_eq!(SecretCaches::Cluster(Arc::new(cache)).owners(|_| true), HashSet::new());
    }

    #[test]
    fn an_owner_reference_is_reported() {
        let cache = SecretCache::default();
        let reference = identity("acme").owner_reference().unwrap();
        let tied = ObjectMeta { owner_references: Some(vec![reference]), ..metadata("a", 1, Some("acme")) };
        cache.record(&at("a"), &tied);
        let seen = |version: &str, has_reference| CacheLookup::Secret {
            version: version.to_owned(),
            has_owner_reference: has_reference,
            marked_with: None,
        };
        assert_eq!(cache.lookup(&at("a")), seen("1", true));
        cache.record(&at("a"), &metadata("a", 2, Some("acme")));
        assert_eq!(cache.lookup(&at("a")), seen("2", false));
    }
}
