//! A Secret as it was found: whose it is, how it differs from what it should be, and which keys it holds.

use super::manifest::{AppliedNames, Data, KeyFields, SecretManifest, SecretRef};
use crate::account::{ApiKey, KeyPair, Mark, Owner, SecretKey};
#[cfg(test)]
use crate::api::VERSION;
use crate::api::{
    ACCOUNT_LABEL, APPLIED_ANNOTATION, GROUP, IMPORTED_ANNOTATION, KIND, MARK_ANNOTATION, OWNER_ANNOTATION,
};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// The most characters of a holder's name that are shown, which is more than any has that the API server made sure of.
const SHOWN: usize = 400;

/// What the references are called by which the garbage collector may delete a Secret.
const OWNER_REFERENCE: &str = "owner reference";

/// Whether a part of a Secret, by the name that [`FoundSecret::differences`] gives it, is nobody's business but this program's:
/// earlier versions, and other keyrings, have it otherwise, though nobody changed anything.
pub fn is_bookkeeping(part: &str) -> bool {
    part == OWNER_REFERENCE || part.strip_prefix("annotation ") == Some(MARK_ANNOTATION)
}

/// The id of the key that the mark of an object was made with, as it says; `None` if it has no mark.
pub(super) fn marked_with(metadata: &ObjectMeta) -> Option<&str> {
    let mark = metadata.annotations.as_ref()?.get(MARK_ANNOTATION)?;
    Some(Mark::parts(mark).0)
}

/// The resource that a Secret belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceIdentity {
    /// By name.
    pub owner: Owner,
    /// By UID; `None` where there is no cluster.
    pub uid: Option<String>,
}

impl ResourceIdentity {
    /// Whether an object with this metadata is this resource's own, or else whose it is, in words.
    ///
    /// The owner annotation decides, unless the object has a controller: that is then its owner. A resource that was
    /// deleted and made again under its name has a new UID and still owns its Secrets.
    ///
    /// # Errors
    /// The holder, in words for a person.
    pub fn check(&self, metadata: &ObjectMeta) -> Result<(), String> {
        self.check_holder(controller(metadata), owner_annotation(metadata))
    }

    /// The same for an object with this controller and this owner annotation.
    pub(super) fn check_holder(&self, controller: Option<&OwnerReference>, noted: Option<&str>) -> Result<(), String> {
        let noted_here = noted.is_some_and(|noted| *noted == self.owner.to_string());
        match (controller, noted) {
            (Some(controller), _) if self.is_controller(controller) => Ok(()),
            (Some(controller), _) if noted_here && self.is_namesake(controller) => Ok(()),
            (Some(controller), _) => {
                Err(format!("it belongs to the {} {}", shown(&controller.kind), shown(&controller.name)))
            }
            (None, Some(_)) if noted_here => Ok(()),
            (None, Some(noted)) => Err(format!("it belongs to the ApiAccount {}", shown(noted))),
            (None, None) => Err("it was not made by opsadmin-operator".to_owned()),
        }
    }

    /// Whether this reference is to this very resource.
    fn is_controller(&self, reference: &OwnerReference) -> bool {
        self.uid.as_deref() == Some(reference.uid.as_str())
    }

    /// Whether this reference is to this resource, or to one of its name before it was made again. With it, the cluster's
    /// garbage collector deletes the Secret when it sees fit. Earlier versions put one on each Secret.
    pub fn is_reference_to_self(&self, reference: &OwnerReference) -> bool {
        self.is_controller(reference) || self.is_namesake(reference)
    }

    /// The reference that earlier versions put on a Secret; `None` where there is no cluster.
    #[cfg(test)]
    pub(crate) fn owner_reference(&self) -> Option<OwnerReference> {
        Some(OwnerReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: KIND.to_owned(),
            name: self.owner.name.clone(),
            uid: self.uid.clone()?,
            controller: Some(true),
            block_owner_deletion: None,
        })
    }

    /// The metadata that says whose a Secret is, and nothing else.
    pub(super) fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            annotations: Some(BTreeMap::from([(OWNER_ANNOTATION.to_owned(), self.owner.to_string())])),
            ..ObjectMeta::default()
        }
    }

    fn is_namesake(&self, reference: &OwnerReference) -> bool {
        is_account(reference) && reference.name == self.owner.name
    }
}

/// What anybody may have written into a Secret, for a line of a message: of any length, with line breaks, it would forge others.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).flat_map(char::escape_debug).collect()
}

/// The reference to the one owner that controls an object, if it has such.
pub(super) fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// What the owner annotation of an object says.
pub(super) fn owner_annotation(metadata: &ObjectMeta) -> Option<&str> {
    metadata.annotations.as_ref()?.get(OWNER_ANNOTATION).map(String::as_str)
}

/// Whether a reference to an `ApiAccount` has the cluster's garbage collector decide when the object goes.
pub(super) fn has_owner_reference(metadata: &ObjectMeta) -> bool {
    metadata.owner_references.iter().flatten().any(is_account)
}

/// The names of the ApiAccounts that an object with this controller and this owner annotation may belong to.
pub(super) fn accounts_of<'a>(
    controller: Option<&'a OwnerReference>,
    noted: Option<&'a str>,
) -> impl Iterator<Item = &'a str> {
    let controller = controller.filter(|owner| is_account(owner)).map(|owner| owner.name.as_str());
    let noted = noted.and_then(|noted| noted.rsplit_once('/')).map(|(_, name)| name);
    controller.into_iter().chain(noted.filter(move |noted| Some(*noted) != controller))
}

/// Whether this reference is to an `ApiAccount`, whichever.
pub(super) fn is_account(reference: &OwnerReference) -> bool {
    let group = reference.api_version.split_once('/').map(|(group, _)| group);
    group == Some(GROUP) && reference.kind == KIND
}

/// A Secret that was read.
#[derive(Debug, Clone)]
pub struct FoundSecret {
    /// Its place.
    pub at: SecretRef,
    /// Its data.
    pub data: BTreeMap<String, Data>,
    /// All of it but the data.
    object: Secret,
}

impl FoundSecret {
    /// Takes over a Kubernetes object that was read at this place.
    pub fn new(at: SecretRef, mut object: Secret) -> Self {
        let data = object.data.take().into_iter().flatten().map(|(key, value)| (key, Data(Zeroizing::new(value.0))));
        // As the API server does: stringData wins over data.
        let string_data = object.string_data.take().into_iter().flatten();
        let string_data = string_data.map(|(key, value)| (key, Data::from(value.as_str())));
        Self { at, data: data.chain(string_data).collect(), object }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        &self.object.metadata
    }

    /// Changes with each change of the Secret; `None` where versions are not kept.
    pub fn version(&self) -> Option<&str> {
        self.object.metadata.resource_version.as_deref()
    }

    /// The Secret that this one becomes when it is put right: the manifest's data and nothing else; labels, annotations
    /// and owners of others as they were; the version that was found, so that a Secret changed since is not overwritten.
    pub fn corrected(&self, manifest: &SecretManifest) -> Secret {
        let wanted = manifest.to_secret();
        let mut secret = self.object.clone();
        let (stale_labels, stale_annotations) = self.stale(manifest);
        let labels = secret.metadata.labels.get_or_insert_default();
        labels.retain(|name, _| !stale_labels.contains(name));
        labels.extend(wanted.metadata.labels.into_iter().flatten());
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.retain(|name, _| !stale_annotations.contains(name));
        annotations.extend(wanted.metadata.annotations.into_iter().flatten());
        untie(&mut secret.metadata, &manifest.identity);
        secret.data = wanted.data;
        secret
    }

    /// The same Secret without the references that tie it to this resource; `None` if it has none.
    pub fn without_owner_references(&self, of: &ResourceIdentity) -> Option<Secret> {
        self.is_tied_to(of).then(|| {
            let mut secret = self.object.clone();
            untie(&mut secret.metadata, of);
            secret.data = Some(self.data.iter().map(|(key, value)| (key.clone(), value.to_bytes())).collect());
            secret
        })
    }

    fn is_tied_to(&self, of: &ResourceIdentity) -> bool {
        self.metadata().owner_references.iter().flatten().any(|reference| of.is_reference_to_self(reference))
    }

    /// Whether nothing on this Secret says whose it is but this program's label: somebody may have taken the owner annotation
    /// off. What it holds tells then.
    pub fn may_have_lost_its_owner(&self) -> bool {
        let metadata = self.metadata();
        is_watched(metadata) && controller(metadata).is_none() && owner_annotation(metadata).is_none()
    }

    /// Whether the pair that it holds is this one.
    pub fn holds(&self, pair: &KeyPair) -> bool {
        self.keys().is_some_and(|(api_key, secret_key)| api_key == pair.api_key && secret_key == pair.secret_key)
    }

    /// Whether the API server would refuse to have it put right: its data are wrong, and somebody made it immutable.
    pub fn must_be_recreated(&self, manifest: &SecretManifest) -> bool {
        self.object.immutable == Some(true) && self.data != manifest.data
    }

    /// The Secret that takes its place once it is deleted: as [`Self::corrected`], and mutable.
    pub fn rebuilt(&self, manifest: &SecretManifest) -> Secret {
        let right = self.corrected(manifest);
        let ObjectMeta { name, namespace, labels, annotations, owner_references, .. } = right.metadata;
        let metadata = ObjectMeta { name, namespace, labels, annotations, owner_references, ..ObjectMeta::default() };
        Secret { metadata, immutable: None, ..right }
    }

    /// Which parts differ from the manifest, by name: `data.KEY`, `label NAME`, `annotation NAME`, `owner reference`.
    /// Never a value.
    pub fn differences(&self, manifest: &SecretManifest) -> Vec<String> {
        let mut parts = Vec::new();
        for key in union(&self.data, &manifest.data) {
            if self.data.get(key) != manifest.data.get(key) {
                parts.push(format!("data.{key}"));
            }
        }
        let (labels, annotations) = self.stale(manifest);
        for (kind, found, wanted, stale) in [
            ("label", &self.metadata().labels, &manifest.labels, labels),
            ("annotation", &self.metadata().annotations, &manifest.annotations, annotations),
        ] {
            let found = found.clone().unwrap_or_default();
            let is_right = |name: &String, value: &String| match found.get(name) {
                Some(found) if found == value => true,
                found => kind == "annotation" && manifest.takes_annotation(name, found),
            };
            let wrong = wanted.iter().filter(|(name, value)| !is_right(name, value)).map(|(name, _)| name.clone());
            parts.extend(wrong.chain(stale).map(|name| format!("{kind} {name}")));
        }
        if self.is_tied_to(&manifest.identity) {
            parts.push(OWNER_REFERENCE.to_owned());
        }
        // The mark is another one for each pair.
        if parts.iter().any(|part| part.starts_with("data.")) {
            parts.retain(|part| part.strip_prefix("annotation ") != Some(MARK_ANNOTATION));
        }
        parts
    }

    /// What the mark on it says; empty if it has none.
    pub fn mark(&self) -> &str {
        let annotations = self.metadata().annotations.as_ref();
        annotations.and_then(|annotations| annotations.get(MARK_ANNOTATION)).map_or("", String::as_str)
    }

    /// Names of the labels and of the annotations that the user once asked for and no longer does.
    pub fn stale(&self, manifest: &SecretManifest) -> (Vec<String>, Vec<String>) {
        let (none, found) = (BTreeMap::new(), self.metadata());
        let (labels, annotations) =
            (found.labels.as_ref().unwrap_or(&none), found.annotations.as_ref().unwrap_or(&none));
        let mut asked_for = AppliedNames::read(annotations);
        asked_for.annotations.extend([APPLIED_ANNOTATION, IMPORTED_ANNOTATION].map(str::to_owned));
        asked_for.labels.retain(|name| labels.contains_key(name) && !manifest.labels.contains_key(name));
        asked_for.annotations.retain(|name| annotations.contains_key(name) && !manifest.annotations.contains_key(name));
        (asked_for.labels, asked_for.annotations)
    }

    /// The one pair of keys in its data, under whatever names; `None` if there is none, or more than one. Keys that were
    /// made elsewhere are those under the names that the Secret says.
    pub fn keys(&self) -> Option<(ApiKey, SecretKey)> {
        self.imported_keys().or_else(|| self.own_keys())
    }

    fn imported_keys(&self) -> Option<(ApiKey, SecretKey)> {
        let fields = KeyFields::read(self.metadata().annotations.as_ref()?)?;
        let text = |field: &str| std::str::from_utf8(&self.data.get(field)?.0).ok();
        let (api_key, secret_key) = (text(&fields.api_key)?, text(&fields.secret_key)?);
        Some((ApiKey::imported(api_key).ok()?, SecretKey::imported(secret_key).ok()?))
    }

    fn own_keys(&self) -> Option<(ApiKey, SecretKey)> {
        let texts = || self.data.values().filter_map(|data| std::str::from_utf8(&data.0).ok());
        let api_key = only(texts().flat_map(ApiKey::parse))?;
        let secret_key = only(texts().flat_map(SecretKey::parse))?;
        Some((api_key, secret_key))
    }
}

/// Takes the references off that tie an object to this resource; those of others stay.
fn untie(metadata: &mut ObjectMeta, from: &ResourceIdentity) {
    if let Some(owners) = &mut metadata.owner_references {
        owners.retain(|owner| !from.is_reference_to_self(owner));
    }
    metadata.owner_references.take_if(|owners| owners.is_empty());
}

/// Whether the watch, which asks for this program's label, shows it.
pub(super) fn is_watched(metadata: &ObjectMeta) -> bool {
    metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(ACCOUNT_LABEL))
}

fn union<'a, V>(a: &'a BTreeMap<String, V>, b: &'a BTreeMap<String, V>) -> std::collections::BTreeSet<&'a String> {
    a.keys().chain(b.keys()).collect()
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::ClusterId;
    use crate::api::VERSION;

    fn identity() -> ResourceIdentity {
        let cluster = ClusterId::parse("here").unwrap();
        let owner = Owner { cluster, namespace: "ns".to_owned(), name: "acme".to_owned() };
        ResourceIdentity { owner, uid: Some("new".to_owned()) }
    }

    fn metadata(noted: Option<&str>, controller: Option<(&str, &str, &str)>) -> ObjectMeta {
        let reference = |(kind, name, uid): (&str, &str, &str)| OwnerReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: kind.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: None,
        };
        ObjectMeta {
            annotations: noted.map(|noted| BTreeMap::from([(OWNER_ANNOTATION.to_owned(), noted.to_owned())])),
            owner_references: controller.map(|controller| vec![reference(controller)]),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_secret_is_its_controllers_or_else_whose_it_says() {
        let here = identity().owner.to_string();
        let (here, elsewhere) = (Some(here.as_str()), Some("there/ns/acme"));
        let this = Some((KIND, "acme", "new"));
        // Before the resource was deleted and made again.
        let before = Some((KIND, "acme", "old"));
        for (noted, controller) in [(here, this), (None, this), (elsewhere, this), (here, before), (here, None)] {
            assert_eq!(identity().check(&metadata(noted, controller)), Ok(()), "{noted:?} {controller:?}");
        }
        for (noted, controller) in [
            (None, None),
            (elsewhere, None),
            (None, before),
            (elsewhere, before),
            (here, Some((KIND, "other", "old"))),
            (here, Some(("Deployment", "acme", "old"))),
        ] {
            assert!(identity().check(&metadata(noted, controller)).is_err(), "{noted:?} {controller:?}");
        }
    }

    #[test]
    fn what_a_secret_says_of_its_holder_is_one_line_and_not_a_long_one() {
        let forged = format!("x\n+ default/forged\u{1b}[2K{}", "x".repeat(100_000));
        for metadata in [metadata(Some(&forged), None), metadata(None, Some((&forged, &forged, "u")))] {
            let said = identity().check(&metadata).unwrap_err();
            assert!(said.contains(r"x\n+ default/forged\u{1b}[2K") && said.len() < 1000, "{said}");
            assert!(!said.contains(char::is_control), "{said}");
        }
    }
}
