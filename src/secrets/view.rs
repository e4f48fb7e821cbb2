//! What is known of the cluster's Secrets without reading them: fed by a metadata watch, and by what this program wrote.
//!
//! A watch lags behind our own writes; of two reports, the one of the later version counts.

use super::SecretRef;
use super::found::controller;
use crate::api::{MANAGED_BY_LABEL, MANAGER, is_later_version as is_later};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::Event;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is known of each part of the cluster that is watched: a view for each watch, since one that is listed anew says
/// nothing of the others.
#[derive(Debug)]
pub enum Views {
    /// One watch of all namespaces.
    Cluster(Arc<View>),
    /// One for each of these.
    Namespaces(HashMap<String, Arc<View>>),
}

impl Views {
    /// The view that shows this namespace; `None` if nothing does.
    pub fn of(&self, namespace: &str) -> Option<&Arc<View>> {
        match self {
            Self::Cluster(view) => Some(view),
            Self::Namespaces(views) => views.get(namespace),
        }
    }
}

/// The Secrets this program manages, by metadata.
#[derive(Debug, Default)]
pub struct View(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    seen: HashMap<SecretRef, Glimpse>,
    by_controller: HashMap<String, BTreeSet<SecretRef>>,
    /// Places where the view turned out wrong: Secrets of others, which the watch does not show. To be read each time.
    contested: HashSet<SecretRef>,
    /// Counts the listings, so that what a new listing lacks can be told.
    listing: u64,
    /// Why not even the first listing came about.
    refused: Option<String>,
    /// Whether there was a listing, from its beginning to its end.
    complete: bool,
}

#[derive(Debug)]
struct Glimpse {
    version: String,
    controller: Option<OwnerReference>,
    listing: u64,
}

/// What an event of the watch says that was not known.
#[derive(Debug, PartialEq)]
pub enum News {
    /// Nothing: an echo of our own writing, or something older.
    Nothing,
    /// That its Secret has changed, or is gone.
    This,
    /// That these are gone, each of which had this controller: a new listing lacks them.
    Gone(Vec<(SecretRef, OwnerReference)>),
}

impl News {
    fn if_so(is_news: bool) -> Self {
        if is_news { Self::This } else { Self::Nothing }
    }
}

impl View {
    /// The version of the Secret at this place: `Some(None)` if there is none, `None` if only reading will tell.
    pub fn look(&self, at: &SecretRef) -> Option<Option<String>> {
        let state = self.state();
        if state.contested.contains(at) {
            return None;
        }
        Some(state.seen.get(at).map(|glimpse| glimpse.version.clone()))
    }

    /// Whether there was a listing; until then the view is empty and says nothing of what there is.
    ///
    /// # Errors
    /// Why there was none.
    pub fn listed(&self) -> Result<(), String> {
        self.state().refused.clone().map_or(Ok(()), Err)
    }

    /// Whether all Secrets that there are have been seen once.
    pub fn is_complete(&self) -> bool {
        self.state().complete
    }

    /// Takes in that the API server refuses the first listing.
    pub fn refuse(&self, reason: &str) {
        self.state().refused = Some(reason.to_owned());
    }

    /// The Secrets whose controller has this UID.
    pub fn controlled_by(&self, uid: &str) -> Vec<SecretRef> {
        self.state().by_controller.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Takes in what was just written or read.
    pub fn note(&self, at: &SecretRef, metadata: &ObjectMeta) {
        self.state().note(at, metadata);
    }

    /// Takes in that there is no Secret at this place.
    pub fn forget(&self, at: &SecretRef) {
        let mut state = self.state();
        state.contested.remove(at);
        state.forget(at);
    }

    /// Takes in that there is a Secret where none was seen, or another than was seen.
    pub fn contest(&self, at: &SecretRef) {
        self.state().contested.insert(at.clone());
    }

    /// Takes in an event of the watch, and answers what of it is news rather than an echo of our own writing.
    pub fn observe(&self, event: &Event<PartialObjectMeta<Secret>>) -> News {
        let mut state = self.state();
        match event {
            Event::Init => {
                state.listing += 1;
                News::Nothing
            }
            Event::InitApply(secret) | Event::Apply(secret) => {
                News::if_so(place(&secret.metadata).is_some_and(|at| state.note(&at, &secret.metadata)))
            }
            Event::InitDone => {
                state.refused = None;
                state.complete = true;
                let listing = state.listing;
                let gone: Vec<_> =
                    state.seen.iter().filter(|(_, seen)| seen.listing < listing).map(|(at, _)| at.clone()).collect();
                News::Gone(gone.into_iter().filter_map(|at| Some((at.clone(), state.forget(&at)?))).collect())
            }
            Event::Delete(secret) => News::if_so(place(&secret.metadata).is_some_and(|at| {
                let version = secret.metadata.resource_version.as_deref().unwrap_or_default();
                let current = state.seen.get(&at).is_some_and(|seen| !is_later(&seen.version, version));
                if current {
                    state.forget(&at);
                }
                current
            })),
        }
    }

    /// A panic elsewhere cannot leave the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Answers whether this is later than what was known.
    fn note(&mut self, at: &SecretRef, metadata: &ObjectMeta) -> bool {
        if is_watched(metadata) {
            self.contested.remove(at);
        }
        let version = metadata.resource_version.clone().unwrap_or_default();
        let listing = self.listing;
        if let Some(seen) = self.seen.get_mut(at)
            && !is_later(&version, &seen.version)
        {
            seen.listing = listing;
            return false;
        }
        self.forget(at);
        let controller = controller(metadata).cloned();
        if let Some(controller) = &controller {
            self.by_controller.entry(controller.uid.clone()).or_default().insert(at.clone());
        }
        self.seen.insert(at.clone(), Glimpse { version, controller, listing });
        true
    }

    /// Answers which controller it had.
    fn forget(&mut self, at: &SecretRef) -> Option<OwnerReference> {
        let controller = self.seen.remove(at)?.controller?;
        if let Some(secrets) = self.by_controller.get_mut(&controller.uid) {
            secrets.remove(at);
            if secrets.is_empty() {
                self.by_controller.remove(&controller.uid);
            }
        }
        Some(controller)
    }
}

/// Whether the watch, which asks for this program's label, shows it.
fn is_watched(metadata: &ObjectMeta) -> bool {
    metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY_LABEL)).is_some_and(|by| by == MANAGER)
}

fn place(metadata: &ObjectMeta) -> Option<SecretRef> {
    Some(SecretRef { namespace: metadata.namespace.clone()?, name: metadata.name.clone()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str) -> SecretRef {
        SecretRef { namespace: "ns".to_owned(), name: name.to_owned() }
    }

    fn metadata(name: &str, version: u64, controller: Option<&str>) -> ObjectMeta {
        let owner = |uid: &str| OwnerReference { uid: uid.to_owned(), controller: Some(true), ..Default::default() };
        ObjectMeta {
            namespace: Some("ns".to_owned()),
            name: Some(name.to_owned()),
            resource_version: Some(version.to_string()),
            owner_references: controller.map(|uid| vec![owner(uid)]),
            ..ObjectMeta::default()
        }
    }

    fn event(
        name: &str,
        version: u64,
        wrap: fn(PartialObjectMeta<Secret>) -> Event<PartialObjectMeta<Secret>>,
    ) -> Event<PartialObjectMeta<Secret>> {
        wrap(PartialObjectMeta { metadata: metadata(name, version, Some("u")), ..PartialObjectMeta::default() })
    }

    #[test]
    fn an_echo_of_our_own_writing_is_no_news_and_a_later_change_is() {
        let view = View::default();
        view.note(&at("a"), &metadata("a", 9, Some("u")));
        assert_eq!(view.observe(&event("a", 9, Event::Apply)), News::Nothing);
        assert_eq!(view.observe(&event("a", 10, Event::Apply)), News::This);
        assert_eq!(view.look(&at("a")), Some(Some("10".to_owned())));
    }

    #[test]
    fn a_late_report_does_not_undo_a_later_one() {
        let view = View::default();
        view.note(&at("a"), &metadata("a", 10, Some("u")));
        assert_eq!(view.observe(&event("a", 9, Event::Apply)), News::Nothing);
        assert_eq!(view.observe(&event("a", 9, Event::Delete)), News::Nothing);
        assert_eq!(view.look(&at("a")), Some(Some("10".to_owned())));
        assert_eq!(view.observe(&event("a", 11, Event::Delete)), News::This);
        assert_eq!(view.look(&at("a")), Some(None));
        assert!(view.controlled_by("u").is_empty());
    }

    #[test]
    fn a_new_listing_drops_what_it_lacks_but_not_what_was_written_since() {
        let view = View::default();
        view.note(&at("gone"), &metadata("gone", 1, Some("u")));
        view.note(&at("kept"), &metadata("kept", 2, None));
        view.observe(&Event::Init);
        assert_eq!(view.observe(&event("kept", 2, Event::InitApply)), News::Nothing);
        view.note(&at("written"), &metadata("written", 5, None));
        let News::Gone(gone) = view.observe(&Event::InitDone) else { panic!("a listing tells what is gone") };
        assert_eq!(
            gone.iter().map(|(at, owner)| (at.name.as_str(), owner.uid.as_str())).collect::<Vec<_>>(),
            [("gone", "u")]
        );
        assert_eq!(view.look(&at("gone")), Some(None));
        assert!(view.look(&at("kept")).flatten().is_some());
        assert!(view.look(&at("written")).flatten().is_some());
    }

    #[test]
    fn a_contested_place_is_read_until_it_is_free() {
        let view = View::default();
        view.contest(&at("a"));
        assert_eq!(view.look(&at("a")), None);
        view.forget(&at("a"));
        assert_eq!(view.look(&at("a")), Some(None));
    }

    #[test]
    fn a_secret_is_found_by_its_controller_until_it_changes_hands() {
        let view = View::default();
        view.note(&at("a"), &metadata("a", 1, Some("u")));
        assert_eq!(view.controlled_by("u"), [at("a")]);
        view.note(&at("a"), &metadata("a", 2, Some("v")));
        assert!(view.controlled_by("u").is_empty());
        assert_eq!(view.controlled_by("v"), [at("a")]);
    }
}
