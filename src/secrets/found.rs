//! A Secret that was found: whose it is, how it differs from its manifest, and which keys it holds.

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

/// The number of characters that are shown of an owner's name. Names that the API server has validated are shorter.
const MAX_SHOWN_CHARS: usize = 400;

/// The name of owner references in a list of differences.
const OWNER_REFERENCE: &str = "owner reference";

/// Returns whether a difference concerns only this program's own data: an owner reference or the mark. Earlier versions
/// of this program and other keyrings write these differently, so no user has changed them. `part` is a name from
/// [`FoundSecret::differences`].
pub fn is_bookkeeping(part: &str) -> bool {
    part == OWNER_REFERENCE || part.strip_prefix("annotation ") == Some(MARK_ANNOTATION)
}

/// Returns the id of the keyring key with which the mark of an object was made; `None` if the object has no mark.
pub(super) fn marked_with(metadata: &ObjectMeta) -> Option<&str> {
    let mark = metadata.annotations.as_ref()?.get(MARK_ANNOTATION)?;
    Some(Mark::parts(mark).0)
}

/// The identity of a resource that Secrets belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceIdentity {
    /// The cluster, namespace and name of the resource.
    pub owner: Owner,
    /// The UID of the resource; `None` without a cluster.
    pub uid: Option<String>,
}

impl ResourceIdentity {
    /// Checks that an object with this metadata belongs to this resource.
    ///
    /// The owner annotation decides, unless the object has a controller reference: then the controller is the owner. A
    /// resource that was deleted and created again under its name has a new UID, and still owns its Secrets.
    ///
    /// # Errors
    /// The owner of the object, as text for people.
    pub fn check(&self, metadata: &ObjectMeta) -> Result<(), String> {
        self.check_holder(controller(metadata), owner_annotation(metadata))
    }

    /// Does the same as [`Self::check`] for an object with this controller reference and this owner annotation.
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

    /// Returns whether the reference is to the resource with this UID.
    fn is_controller(&self, reference: &OwnerReference) -> bool {
        self.uid.as_deref() == Some(reference.uid.as_str())
    }

    /// Returns whether the reference is to this resource, or to an earlier resource with its name. With such a
    /// reference, the garbage collector deletes the Secret. Earlier versions of this program put one on each Secret.
    pub fn is_reference_to_self(&self, reference: &OwnerReference) -> bool {
        self.is_controller(reference) || self.is_namesake(reference)
    }

    /// Returns the reference that earlier versions put on a Secret; `None` without a cluster.
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

    /// Returns metadata with the owner annotation only.
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

/// Escapes and shortens text that any user may have written into a Secret. Otherwise a text with line breaks could
/// forge further lines of a message.
fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).flat_map(char::escape_debug).collect()
}

/// Returns the controller reference of an object, if it has one.
pub(super) fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Returns the value of the owner annotation.
pub(super) fn owner_annotation(metadata: &ObjectMeta) -> Option<&str> {
    metadata.annotations.as_ref()?.get(OWNER_ANNOTATION).map(String::as_str)
}

/// Returns whether an owner reference to an `ApiAccount` lets the garbage collector delete the object.
pub(super) fn has_owner_reference(metadata: &ObjectMeta) -> bool {
    metadata.owner_references.iter().flatten().any(is_account)
}

/// Returns the names of the ApiAccounts that an object with this controller reference and this owner annotation may
/// belong to.
pub(super) fn accounts_of<'a>(
    controller: Option<&'a OwnerReference>,
    noted: Option<&'a str>,
) -> impl Iterator<Item = &'a str> {
    let controller = controller.filter(|owner| is_account(owner)).map(|owner| owner.name.as_str());
    let noted = noted.and_then(|noted| noted.rsplit_once('/')).map(|(_, name)| name);
    controller.into_iter().chain(noted.filter(move |noted| Some(*noted) != controller))
}

/// Returns whether the reference is to an `ApiAccount`.
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
    /// The Secret without its data.
    object: Secret,
}

impl FoundSecret {
    /// Creates it from a Kubernetes object that was read at this place.
    pub fn new(at: SecretRef, mut object: Secret) -> Self {
        let data = object.data.take().into_iter().flatten().map(|(key, value)| (key, Data(Zeroizing::new(value.0))));
        // The API server also lets stringData take precedence over data.
        let string_data = object.string_data.take().into_iter().flatten();
        let string_data = string_data.map(|(key, value)| (key, Data::from(value.as_str())));
        Self { at, data: data.chain(string_data).collect(), object }
    }

    /// Returns the metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        &self.object.metadata
    }

    /// Returns the resourceVersion, which changes with each change of the Secret; `None` where versions are not kept.
    pub fn version(&self) -> Option<&str> {
        self.object.metadata.resource_version.as_deref()
    }

    /// Returns the corrected Secret. It has exactly the manifest's data. Labels, annotations and owner references of
    /// other programs and users are kept. Its resourceVersion is the one that was found, so that a Secret which has
    /// changed since is not overwritten.
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
        remove_owner_references(&mut secret.metadata, &manifest.identity);
        secret.data = wanted.data;
        secret
    }

    /// Returns the Secret without owner references to this resource; `None` if it has none.
    pub fn without_owner_references(&self, of: &ResourceIdentity) -> Option<Secret> {
        self.has_owner_reference_to(of).then(|| {
            let mut secret = self.object.clone();
            remove_owner_references(&mut secret.metadata, of);
            secret.data = Some(self.data.iter().map(|(key, value)| (key.clone(), value.to_bytes())).collect());
            secret
        })
    }

    fn has_owner_reference_to(&self, of: &ResourceIdentity) -> bool {
        self.metadata().owner_references.iter().flatten().any(|reference| of.is_reference_to_self(reference))
    }

    /// Returns whether the Secret has this program's label, but neither a controller reference nor an owner annotation:
    /// a user may have removed the annotation. Then the keys in the Secret show the owner.
    pub fn has_label_but_no_owner(&self) -> bool {
        let metadata = self.metadata();
        is_watched(metadata) && controller(metadata).is_none() && owner_annotation(metadata).is_none()
    }

    /// Returns whether the Secret holds this key pair.
    pub fn holds(&self, pair: &KeyPair) -> bool {
        self.keys().is_some_and(|(api_key, secret_key)| api_key == pair.api_key && secret_key == pair.secret_key)
    }

    /// Returns whether the Secret must be deleted and created again, because its data are wrong and it is immutable.
    pub fn must_be_recreated(&self, manifest: &SecretManifest) -> bool {
        self.object.immutable == Some(true) && self.data != manifest.data
    }

    /// Returns the Secret to create after this one was deleted: as [`Self::corrected`], without server-side metadata,
    /// and mutable.
    pub fn rebuilt(&self, manifest: &SecretManifest) -> Secret {
        let right = self.corrected(manifest);
        let ObjectMeta { name, namespace, labels, annotations, owner_references, .. } = right.metadata;
        let metadata = ObjectMeta { name, namespace, labels, annotations, owner_references, ..ObjectMeta::default() };
        Secret { metadata, immutable: None, ..right }
    }

    /// Returns the names of the parts that differ from the manifest: `data.KEY`, `label NAME`, `annotation NAME`,
    /// `owner reference`. Values are never returned.
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
                found => kind == "annotation" && manifest.accepts_annotation(name, found),
            };
            let wrong = wanted.iter().filter(|(name, value)| !is_right(name, value)).map(|(name, _)| name.clone());
            parts.extend(wrong.chain(stale).map(|name| format!("{kind} {name}")));
        }
        if self.has_owner_reference_to(&manifest.identity) {
            parts.push(OWNER_REFERENCE.to_owned());
        }
        // Each key pair has another mark, so a wrong mark is reported only if the data are in sync.
        if parts.iter().any(|part| part.starts_with("data.")) {
            parts.retain(|part| part.strip_prefix("annotation ") != Some(MARK_ANNOTATION));
        }
        parts
    }

    /// Returns the mark; empty if the Secret has none.
    pub fn mark(&self) -> &str {
        let annotations = self.metadata().annotations.as_ref();
        annotations.and_then(|annotations| annotations.get(MARK_ANNOTATION)).map_or("", String::as_str)
    }

    /// Returns the names of the labels, and of the annotations, that the user asked for earlier and no longer asks for.
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

    /// Returns the key pair in the data, under any names; `None` if there is none, or more than one. For imported keys,
    /// an annotation of the Secret names the fields.
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

/// Removes the owner references to this resource. References to other owners stay.
fn remove_owner_references(metadata: &mut ObjectMeta, from: &ResourceIdentity) {
    if let Some(owners) = &mut metadata.owner_references {
        owners.retain(|owner| !from.is_reference_to_self(owner));
    }
    metadata.owner_references.take_if(|owners| owners.is_empty());
}

/// Returns whether the watch, which selects by this program's label, shows the object.
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
    fn the_controller_reference_or_else_the_annotation_decides_the_owner() {
        let here = identity().owner.to_string();
        let (here, elsewhere) = (Some(here.as_str()), Some("there/ns/acme"));
        let this = Some((KIND, "acme", "new"));
        // An earlier resource with the same name.
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
    fn the_owner_in_a_message_is_one_short_line() {
        let forged = format!("x\n+ default/forged\u{1b}[2K{}", "x".repeat(100_000));
        for metadata in [metadata(Some(&forged), None), metadata(None, Some((&forged, &forged, "u")))] {
            let said = identity().check(&metadata).unwrap_err();
            assert!(said.contains(r"x\n+ default/forged\u{1b}[2K") && said.len() < 1000, "{said}");
            assert!(!said.contains(char::is_control), "{said}");
        }
    }
}
