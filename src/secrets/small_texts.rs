//! What the cache of Secrets keeps of names and annotations, in little memory: a cluster may have very many Secrets, and
//! nearly all of them differ in a few characters only.

use super::SecretRef;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// The value of the owner annotation, in two parts: the Secrets of a namespace share the first.
#[derive(Debug)]
pub(super) struct Noted {
    /// Everything before the last slash.
    beginning: Arc<str>,
    /// The last slash, if there is one, and everything after it.
    end: Box<str>,
}

/// A controller reference without its `blockOwnerDeletion`. The Secrets of ApiAccounts share its first two texts.
#[derive(Debug)]
pub(super) struct SmallController {
    api_version: Arc<str>,
    kind: Arc<str>,
    name_and_uid: Box<str>,
    name_bytes: usize,
}

/// A namespace and a name with a slash in between. Kubernetes allows no slash in either.
pub(super) type Place = Arc<str>;

/// The places of the Secrets of one account: nearly always one.
#[derive(Debug)]
pub(super) enum Places {
    One(Place),
    Many(BTreeSet<Place>),
}

/// The texts that many Secrets share: keyrings' key ids, the kinds of controllers, and the beginnings of owner annotations.
#[derive(Debug, Default)]
pub(super) struct SharedTexts(HashSet<Arc<str>>);

impl Noted {
    /// Keeps the text.
    pub fn new(text: &str, shared: &mut SharedTexts) -> Self {
        let (beginning, end) = text.split_at(text.rfind('/').unwrap_or_default());
        Self { beginning: shared.get(beginning), end: end.into() }
    }

    /// Returns the whole text.
    pub fn text(&self) -> String {
        [&self.beginning, &*self.end].concat()
    }
}

impl SmallController {
    /// Keeps the reference.
    pub fn new(reference: &OwnerReference, shared: &mut SharedTexts) -> Self {
        Self {
            api_version: shared.get(&reference.api_version),
            kind: shared.get(&reference.kind),
            name_and_uid: [reference.name.as_str(), &reference.uid].concat().into(),
            name_bytes: reference.name.len(),
        }
    }

    /// Returns the reference.
    pub fn reference(&self) -> OwnerReference {
        let (name, uid) = self.name_and_uid.split_at(self.name_bytes);
        OwnerReference {
            api_version: self.api_version.to_string(),
            kind: self.kind.to_string(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }
}

impl Places {
    /// Returns the places in their order.
    pub fn all(&self) -> impl Iterator<Item = &Place> {
        let (one, many) = match self {
            Self::One(one) => (Some(one), None),
            Self::Many(many) => (None, Some(many)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// Adds a place that is not there yet.
    pub fn add(&mut self, place: &Place) {
        match self {
            Self::One(one) => *self = Self::Many(BTreeSet::from([Arc::clone(one), Arc::clone(place)])),
            Self::Many(many) => _ = many.insert(Arc::clone(place)),
        }
    }

    /// Removes a place, and returns whether none is left.
    pub fn remove(&mut self, place: &Place) -> bool {
        match self {
            Self::One(one) => one == place,
            Self::Many(many) => {
                many.remove(place);
                many.is_empty()
            }
        }
    }
}

impl SharedTexts {
    /// Returns the shared text that is equal to this one.
    pub fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.0.get(text) {
            return Arc::clone(shared);
        }
        // Texts that no Secret has any more are removed when the number of texts has doubled.
        if self.0.len() == self.0.capacity() {
            self.0.retain(|shared| Arc::strong_count(shared) > 1);
        }
        let shared = Arc::from(text);
        self.0.insert(Arc::clone(&shared));
        shared
    }
}

/// Returns the place with this namespace and name.
pub(super) fn joined(namespace: &str, name: &str) -> Place {
    [namespace, "/", name].concat().into()
}

/// Returns the place of a Secret.
pub(super) fn place_of(at: &SecretRef) -> Place {
    joined(&at.namespace, &at.name)
}

/// Returns the namespace and the name.
pub(super) fn split(place: &Place) -> (&str, &str) {
    place.split_once('/').unwrap_or_default()
}

/// Returns the Secret's place with its parts.
pub(super) fn secret_ref(place: &Place) -> SecretRef {
    let (namespace, name) = split(place);
    SecretRef { namespace: namespace.to_owned(), name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_namespace_share_the_beginning_of_their_owners() {
        let mut shared = SharedTexts::default();
        let noted = ["here/ns/a", "here/ns/b", "no slash", "/", ""].map(|text| (text, Noted::new(text, &mut shared)));
        for (text, noted) in &noted {
            assert_eq!(noted.text(), *text);
        }
        assert!(Arc::ptr_eq(&noted[0].1.beginning, &noted[1].1.beginning));
    }

    #[test]
    fn controllers_of_a_kind_share_its_name() {
        let mut shared = SharedTexts::default();
        let reference = |name: &str, uid: &str| OwnerReference {
            api_version: "ops-admin.com/v1".to_owned(),
            kind: "ApiAccount".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: None,
        };
        let found = [reference("acme", "u-1"), reference("", "u-2"), reference("é", "")];
        let kept = [0, 1, 2].map(|place| SmallController::new(&found[place], &mut shared));
        assert_eq!(kept.each_ref().map(SmallController::reference), found);
        assert!(Arc::ptr_eq(&kept[0].kind, &kept[1].kind) && Arc::ptr_eq(&kept[0].api_version, &kept[2].api_version));
    }

    #[test]
    fn texts_that_nobody_has_any_more_are_removed() {
        let mut shared = SharedTexts::default();
        let kept = shared.get("kept");
        for number in 0..10_000 {
            shared.get(&number.to_string());
        }
        assert!(shared.0.len() < 100, "{}", shared.0.len());
        assert!(Arc::ptr_eq(&kept, &shared.get("kept")));
    }

    #[test]
    fn the_last_place_is_told_when_it_goes() {
        let [a, b] = ["a", "b"].map(|name| joined("ns", name));
        let mut places = Places::One(Arc::clone(&a));
        assert!(!places.remove(&b));
        places.add(&b);
        assert_eq!(places.all().collect::<Vec<_>>(), [&a, &b]);
        assert!(!places.remove(&a) && places.remove(&b));
    }
}
