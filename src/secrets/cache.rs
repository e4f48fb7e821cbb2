//! What is known of the cluster's Secrets without reading them: fed by a metadata watch, and by what this program wrote.
//!
//! A watch lags behind our own writes; of two reports, the one of the later version counts.

use super::found::{accounts_of, controller, has_owner_reference, is_watched, marked_with, owner_annotation};
use super::{ResourceIdentity, SecretRef};
use crate::account::Owner;
use crate::api::is_later_version as is_later;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::Event;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is known of each part of the cluster that is watched: a view for each watch, since one that is listed anew says
/// nothing of the others.
#[derive(Debug)]
pub enum SecretCaches {
    /// One watch of all namespaces.
    Cluster(Arc<SecretCache>),
    /// One for each of these.
    Namespaces(HashMap<String, Arc<SecretCache>>),
}

impl SecretCaches {
    /// The view that shows this namespace; `None` if nothing does.
    pub fn of(&self, namespace: &str) -> Option<&Arc<SecretCache>> {
        match self {
            Self::Cluster(view) => Some(view),
            Self::Namespaces(views) => views.get(namespace),
        }
    }

    /// The owners that Secrets are annotated with in their own namespace, each as often as there are such Secrets.
    pub fn owners(&self) -> Vec<Owner> {
        match self {
            Self::Cluster(view) => view.owners(),
            Self::Namespaces(views) => views.values().flat_map(|view| view.owners()).collect(),
        }
    }
}

/// The Secrets this program manages, by metadata.
#[derive(Debug, Default)]
pub struct SecretCache(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    seen: HashMap<SecretRef, CachedSecret>,
    by_account: HashMap<ResourceName, BTreeSet<SecretRef>>,
    /// Places where the view turned out wrong: Secrets of others, which the watch does not show. To be read each time.
    contested: HashSet<SecretRef>,
    /// Counts the listings, so that what a new listing lacks can be told.
    listing: u64,
    /// Why not even the first listing came about.
    refused: Option<String>,
    /// Whether there was a listing, from its beginning to its end.
    complete: bool,
}

/// What is kept of a Secret's metadata: there may be very many.
#[derive(Debug)]
struct CachedSecret {
    version: String,
    controller: Option<Box<OwnerReference>>,
    /// What the owner annotation says.
    owner_annotation: Option<Box<str>>,
    has_owner_reference: bool,
    marked_with: Option<Box<str>>,
    listing: u64,
}

/// An ApiAccount that Secrets may belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What a view knows of a place.
#[derive(Debug, PartialEq, Eq)]
pub enum CacheLookup {
    /// Only reading will tell.
    Unknown,
    /// There is no Secret.
    Absent,
    /// There is a Secret.
    Secret {
        /// Its version.
        version: String,
        /// Whether the cluster's garbage collector may delete it together with an ApiAccount.
        has_owner_reference: bool,
        /// The id of the key that its mark was made with, as it says.
        marked_with: Option<String>,
    },
}

/// What an event of the watch says that was not known.
#[derive(Debug, PartialEq)]
pub enum CacheChange {
    /// Nothing: an echo of our own writing, or something older.
    Nothing,
    /// That Secrets were changed or are gone which these may own, or owned until then.
    Changed(BTreeSet<ResourceName>),
}

impl SecretCache {
    /// What is at this place.
    pub fn lookup(&self, at: &SecretRef) -> CacheLookup {
        let state = self.state();
        match state.seen.get(at) {
            _ if state.contested.contains(at) => CacheLookup::Unknown,
            None => CacheLookup::Absent,
            Some(CachedSecret { version, has_owner_reference: is_tied, marked_with, .. }) => CacheLookup::Secret {
                version: version.clone(),
                has_owner_reference: *is_tied,
                marked_with: marked_with.as_deref().map(str::to_owned),
            },
        }
    }

    /// Whether there was a listing; until then the view is empty and says nothing of what there is.
    ///
    /// # Errors
    /// Why there was none.
    pub fn check_listed(&self) -> Result<(), String> {
        self.state().refused.clone().map_or(Ok(()), Err)
    }

    /// Whether all Secrets that there are have been seen once.
    pub fn is_complete(&self) -> bool {
        self.state().complete
    }

    /// Takes in that the API server refuses the first listing.
    pub fn listing_refused(&self, reason: &str) {
        self.state().refused = Some(reason.to_owned());
    }

    /// The Secrets of this resource, in its own namespace.
    pub fn owned_by(&self, wanted: &ResourceIdentity) -> Vec<SecretRef> {
        let state = self.state();
        let account = ResourceName { namespace: wanted.owner.namespace.clone(), name: wanted.owner.name.clone() };
        let is_own = |at: &&SecretRef| {
            state
                .seen
                .get(*at)
                .is_some_and(|seen| wanted.check_holder(seen.controller(), seen.owner_annotation()).is_ok())
        };
        state.by_account.get(&account).into_iter().flatten().filter(is_own).cloned().collect()
    }

    fn owners(&self) -> Vec<Owner> {
        let state = self.state();
        let owner = |(at, seen): (&SecretRef, &CachedSecret)| {
            Owner::parse(seen.owner_annotation()?).filter(|owner| owner.namespace == at.namespace)
        };
        state.seen.iter().filter_map(owner).collect()
    }

    /// Takes in what was just written or read.
    pub fn record(&self, at: &SecretRef, metadata: &ObjectMeta) {
        self.state().record(at, metadata);
    }

    /// Takes in that there is no Secret at this place.
    pub fn forget(&self, at: &SecretRef) {
        let mut state = self.state();
        state.contested.remove(at);
        state.forget(at);
    }

    /// Takes in that there is a Secret where none was seen, or another than was seen.
    pub fn mark_contested(&self, at: &SecretRef) {
        self.state().contested.insert(at.clone());
    }

    /// Takes in an event of the watch, and answers what of it is news rather than an echo of our own writing.
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
                let gone: Vec<_> =
                    state.seen.iter().filter(|(_, seen)| seen.listing < listing).map(|(at, _)| at.clone()).collect();
                CacheChange::Changed(gone.iter().flat_map(|at| state.forget(at)).collect())
            }
            Event::Delete(secret) => {
                let version = secret.metadata.resource_version.as_deref().unwrap_or_default();
                let is_current =
                    |at: &SecretRef| state.seen.get(at).is_some_and(|seen| !is_later(&seen.version, version));
                match place(&secret.metadata).filter(is_current) {
                    Some(at) => CacheChange::Changed(state.forget(&at).into_iter().collect()),
                    None => CacheChange::Nothing,
                }
            }
        }
    }

    /// A panic elsewhere cannot leave the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Answers whom it may belong to, now or until now; `None` if something later is known.
    fn record(&mut self, at: &SecretRef, metadata: &ObjectMeta) -> Option<BTreeSet<ResourceName>> {
        if is_watched(metadata) {
            self.contested.remove(at);
        }
        let version = metadata.resource_version.clone().unwrap_or_default();
        let listing = self.listing;
        if let Some(seen) = self.seen.get_mut(at)
            && !is_later(&version, &seen.version)
        {
            seen.listing = listing;
            return None;
        }
        let mut concerned: BTreeSet<ResourceName> = self.forget(at).into_iter().collect();
        let glimpse = CachedSecret {
            version,
            controller: controller(metadata).cloned().map(Box::new),
            owner_annotation: owner_annotation(metadata).map(Box::from),
            has_owner_reference: has_owner_reference(metadata),
            marked_with: marked_with(metadata).map(Box::from),
            listing,
        };
        for account in glimpse.accounts(at) {
            self.by_account.entry(account.clone()).or_default().insert(at.clone());
            concerned.insert(account);
        }
        self.seen.insert(at.clone(), glimpse);
        Some(concerned)
    }

    /// Answers whom it may have belonged to.
    fn forget(&mut self, at: &SecretRef) -> Vec<ResourceName> {
        let accounts = self.seen.remove(at).map(|seen| seen.accounts(at)).unwrap_or_default();
        for account in &accounts {
            if let Some(secrets) = self.by_account.get_mut(account) {
                secrets.remove(at);
                if secrets.is_empty() {
                    self.by_account.remove(account);
                }
            }
        }
        accounts
    }
}

impl CachedSecret {
    fn controller(&self) -> Option<&OwnerReference> {
        self.controller.as_deref()
    }

    fn owner_annotation(&self) -> Option<&str> {
        self.owner_annotation.as_deref()
    }

    fn accounts(&self, at: &SecretRef) -> Vec<ResourceName> {
        let account = |name: &str| ResourceName { namespace: at.namespace.clone(), name: name.to_owned() };
        accounts_of(self.controller(), self.owner_annotation()).map(account).collect()
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

    fn news_of(accounts: &[&str]) -> CacheChange {
        let account = |name: &&str| ResourceName { namespace: "ns".to_owned(), name: (*name).to_owned() };
        CacheChange::Changed(accounts.iter().map(account).collect())
    }

    fn version(view: &SecretCache, name: &str) -> Option<String> {
        match view.lookup(&at(name)) {
            CacheLookup::Secret { version, .. } => Some(version),
            CacheLookup::Absent => None,
            CacheLookup::Unknown => panic!("only reading will tell"),
        }
    }

    #[test]
    fn an_echo_of_our_own_writing_is_no_news_and_a_later_change_is() {
        let view = SecretCache::default();
        view.record(&at("a"), &metadata("a", 9, Some("acme")));
        assert_eq!(view.apply(&event("a", 9, Event::Apply)), CacheChange::Nothing);
        assert_eq!(view.apply(&event("a", 10, Event::Apply)), news_of(&["acme"]));
        assert_eq!(version(&view, "a").as_deref(), Some("10"));
    }

    #[test]
    fn a_late_report_does_not_undo_a_later_one() {
        let view = SecretCache::default();
        view.record(&at("a"), &metadata("a", 10, Some("acme")));
        assert_eq!(view.apply(&event("a", 9, Event::Apply)), CacheChange::Nothing);
        assert_eq!(view.apply(&event("a", 9, Event::Delete)), CacheChange::Nothing);
        assert_eq!(version(&view, "a").as_deref(), Some("10"));
        assert_eq!(view.apply(&event("a", 11, Event::Delete)), news_of(&["acme"]));
        assert_eq!(version(&view, "a"), None);
        assert!(view.owned_by(&identity("acme")).is_empty());
    }

    #[test]
    fn a_new_listing_drops_what_it_lacks_but_not_what_was_written_since() {
        let view = SecretCache::default();
        view.record(&at("gone"), &metadata("gone", 1, Some("acme")));
        view.record(&at("kept"), &metadata("kept", 2, None));
        view.apply(&Event::Init);
        assert_eq!(view.apply(&event("kept", 2, Event::InitApply)), CacheChange::Nothing);
        view.record(&at("written"), &metadata("written", 5, None));
        assert_eq!(view.apply(&Event::InitDone), news_of(&["acme"]));
        assert_eq!(version(&view, "gone"), None);
        assert!(version(&view, "kept").is_some());
        assert!(version(&view, "written").is_some());
    }

    #[test]
    fn a_contested_place_is_read_until_it_is_free() {
        let view = SecretCache::default();
        view.mark_contested(&at("a"));
        assert_eq!(view.lookup(&at("a")), CacheLookup::Unknown);
        view.forget(&at("a"));
        assert_eq!(view.lookup(&at("a")), CacheLookup::Absent);
    }

    #[test]
    fn a_secret_is_found_by_its_owner_until_it_changes_hands_which_is_news_for_both() {
        let view = SecretCache::default();
        view.record(&at("a"), &metadata("a", 1, Some("other")));
        assert_eq!(view.owned_by(&identity("other")), [at("a")]);
        assert_eq!(view.apply(&event("a", 2, Event::Apply)), news_of(&["acme", "other"]));
        assert!(view.owned_by(&identity("other")).is_empty());
        assert_eq!(view.owned_by(&identity("acme")), [at("a")]);
        let stripped = PartialObjectMeta { metadata: metadata("a", 3, None), ..PartialObjectMeta::default() };
        assert_eq!(view.apply(&Event::Apply(stripped)), news_of(&["acme"]), "else nobody would put it back");
    }

    #[test]
    fn a_copy_in_another_namespace_belongs_to_nobody() {
        let view = SecretCache::default();
        let elsewhere = SecretRef { namespace: "elsewhere".to_owned(), ..at("a") };
        let copy = ObjectMeta { namespace: Some("elsewhere".to_owned()), ..metadata("a", 1, Some("acme")) };
        view.record(&elsewhere, &copy);
        assert!(view.owned_by(&identity("acme")).is_empty());
        assert_eq!(SecretCaches::Cluster(Arc::new(view)).owners(), []);
    }

    #[test]
    fn a_secret_that_the_garbage_collector_may_delete_is_told() {
        let view = SecretCache::default();
        let reference = identity("acme").owner_reference().unwrap();
        let tied = ObjectMeta { owner_references: Some(vec![reference]), ..metadata("a", 1, Some("acme")) };
        view.record(&at("a"), &tied);
        let seen = |version: &str, is_tied| CacheLookup::Secret {
            version: version.to_owned(),
            has_owner_reference: is_tied,
            marked_with: None,
        };
        assert_eq!(view.lookup(&at("a")), seen("1", true));
        view.record(&at("a"), &metadata("a", 2, Some("acme")));
        assert_eq!(view.lookup(&at("a")), seen("2", false));
    }
}
