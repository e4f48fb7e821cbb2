//! The desired Secret of an account.

use super::ResourceIdentity;
use crate::account::{KeyPair, Mark};
use crate::api::{
    ACCOUNT_LABEL, ACCOUNT_LABEL_VALUE, APPLIED_ANNOTATION, IMPORTED_ANNOTATION, MANAGED_BY_LABEL, MANAGER,
    MARK_ANNOTATION, OWNER_ANNOTATION,
};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroizing;

/// The namespace and name of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The place, field names, labels and annotations that a Secret shall have: everything except the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretLayout {
    /// Its place.
    pub at: SecretRef,
    /// The name of the data field for the API key.
    pub api_key_field: String,
    /// The name of the data field for the secret key.
    pub secret_key_field: String,
    /// Labels that the user asks for.
    pub labels: BTreeMap<String, String>,
    /// Annotations that the user asks for.
    pub annotations: BTreeMap<String, String>,
}

/// The names of the labels and annotations that the user asked for. They are stored in an annotation of the Secret, so
/// that they can be removed when the user no longer asks for them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AppliedNames {
    /// The names of labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The names of annotations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<String>,
}

/// The names of the data fields that hold imported keys.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyFields {
    pub api_key: String,
    pub secret_key: String,
}

/// A complete desired Secret.
#[derive(Debug, Clone)]
pub struct SecretManifest {
    /// Its place.
    pub at: SecretRef,
    /// The resource that the Secret belongs to.
    pub identity: ResourceIdentity,
    /// The labels of this program and of the user. A Secret may have more.
    pub labels: BTreeMap<String, String>,
    /// The annotations of this program and of the user. A Secret may have more.
    pub annotations: BTreeMap<String, String>,
    /// All of its data.
    pub data: BTreeMap<String, Data>,
}

/// A key pair for a Secret, with the mark that later proves that this program wrote it.
#[derive(Debug, Clone)]
pub struct IssuedKeys {
    /// The key pair.
    pub pair: KeyPair,
    /// The mark for this key pair and owner.
    pub mark: Mark,
}

/// One value of a Secret's data. Its `Debug` output hides the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Data(pub Zeroizing<Vec<u8>>);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Data(hidden)")
    }
}

impl Data {
    pub(super) fn to_bytes(&self) -> ByteString {
        ByteString(self.0.to_vec())
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Self {
        Self(Zeroizing::new(text.as_bytes().to_vec()))
    }
}

impl SecretManifest {
    /// Returns the Secret of this resource with this layout and these keys.
    pub fn new(
        layout: &SecretLayout,
        identity: ResourceIdentity,
        IssuedKeys { pair: keys, mark }: &IssuedKeys,
    ) -> Self {
        let mut labels = layout.labels.clone();
        labels.insert(ACCOUNT_LABEL.to_owned(), ACCOUNT_LABEL_VALUE.to_owned());
        labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
        let mut annotations = layout.annotations.clone();
        annotations.insert(OWNER_ANNOTATION.to_owned(), identity.owner.to_string());
        annotations.insert(MARK_ANNOTATION.to_owned(), mark.to_string());
        if let Some(applied) = AppliedNames::of(layout).to_annotation() {
            annotations.insert(APPLIED_ANNOTATION.to_owned(), applied);
        }
        if keys.api_key.is_imported() || keys.secret_key.is_imported() {
            annotations.insert(IMPORTED_ANNOTATION.to_owned(), KeyFields::of(layout).to_annotation());
        }
        let data = BTreeMap::from([
            (layout.api_key_field.clone(), Data::from(keys.api_key.as_str())),
            (layout.secret_key_field.clone(), Data::from(keys.secret_key.expose())),
        ]);
        Self { at: layout.at.clone(), identity, labels, annotations, data }
    }

    /// Returns whether the found value of an annotation is accepted. If the desired mark is unknown, every mark is
    /// accepted.
    pub(super) fn accepts_annotation(&self, name: &str, found: Option<&String>) -> bool {
        let wanted = self.annotations.get(name);
        found == wanted
            || name == MARK_ANNOTATION
                && found.is_some()
                && wanted.map(String::as_str) == Some(Mark::unknown().as_str())
    }

    /// Returns the Kubernetes object.
    pub fn to_secret(&self) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(self.at.name.clone()),
                namespace: Some(self.at.namespace.clone()),
                labels: Some(self.labels.clone()),
                annotations: Some(self.annotations.clone()),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(self.data.iter().map(|(key, value)| (key.clone(), value.to_bytes())).collect()),
            ..Secret::default()
        }
    }
}

impl KeyFields {
    fn of(layout: &SecretLayout) -> Self {
        Self { api_key: layout.api_key_field.clone(), secret_key: layout.secret_key_field.clone() }
    }

    fn to_annotation(&self) -> String {
        #[expect(clippy::expect_used, reason = "two strings always serialize")]
        serde_json::to_string(self).expect("strings serialize")
    }

    /// Reads the annotation of a Secret; `None` if it is missing or unreadable.
    pub fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        serde_json::from_str(annotations.get(IMPORTED_ANNOTATION)?).ok()
    }
}

impl AppliedNames {
    fn of(layout: &SecretLayout) -> Self {
        Self {
            labels: layout.labels.keys().cloned().collect(),
            annotations: layout.annotations.keys().cloned().collect(),
        }
    }

    /// Returns the value of [`APPLIED_ANNOTATION`]; `None` if the user asked for no labels and annotations.
    fn to_annotation(&self) -> Option<String> {
        if *self == Self::default() {
            return None;
        }
        #[expect(clippy::expect_used, reason = "lists of strings always serialize")]
        Some(serde_json::to_string(self).expect("strings serialize"))
    }

    /// Reads the annotation of a Secret. A missing or unreadable annotation counts as no names.
    pub fn read(annotations: &BTreeMap<String, String>) -> Self {
        annotations.get(APPLIED_ANNOTATION).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}
