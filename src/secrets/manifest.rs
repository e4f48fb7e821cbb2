//! What an account's Secret shall look like.

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

/// A Secret's place.
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

/// Where the keys shall be and under which names: everything of a Secret but the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretLayout {
    /// Its place.
    pub at: SecretRef,
    /// The data key for the API key.
    pub api_key_field: String,
    /// The data key for the secret key.
    pub secret_key_field: String,
    /// Labels that the user asks for.
    pub labels: BTreeMap<String, String>,
    /// Annotations that the user asks for.
    pub annotations: BTreeMap<String, String>,
}

/// Names of the labels and annotations that the user asked for, kept on the Secret so that they can be taken away again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AppliedNames {
    /// Names of labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Names of annotations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<String>,
}

/// Under which names a Secret has keys that were made elsewhere.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyFields {
    pub api_key: String,
    pub secret_key: String,
}

/// A whole Secret, ready to be written.
#[derive(Debug, Clone)]
pub struct SecretManifest {
    /// Its place.
    pub at: SecretRef,
    /// The resource it belongs to.
    pub identity: ResourceIdentity,
    /// Every label it needs; others may have added more.
    pub labels: BTreeMap<String, String>,
    /// Every annotation it needs; others may have added more.
    pub annotations: BTreeMap<String, String>,
    /// All of its data.
    pub data: BTreeMap<String, Data>,
}

/// A pair of keys that goes into a Secret, with the mark that tells later that this program put it there.
#[derive(Debug, Clone)]
pub struct IssuedKeys {
    /// The pair.
    pub pair: KeyPair,
    /// Its mark for this owner.
    pub mark: Mark,
}

/// One value of a Secret's data, which shows itself to nobody.
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
    /// The Secret of this layout with these keys, belonging to this resource.
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

    /// Whether an annotation that was found under this name is as it shall be. Of an unknown mark, any will do.
    pub(super) fn takes_annotation(&self, name: &str, found: Option<&String>) -> bool {
        let wanted = self.annotations.get(name);
        found == wanted
            || name == MARK_ANNOTATION
                && found.is_some()
                && wanted.map(String::as_str) == Some(Mark::unknown().as_str())
    }

    /// The Kubernetes object.
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

    /// Reads what a Secret says of itself; `None` if it says nothing readable.
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

    /// The text of [`APPLIED_ANNOTATION`]; `None` if the user asked for nothing.
    fn to_annotation(&self) -> Option<String> {
        if *self == Self::default() {
            return None;
        }
        #[expect(clippy::expect_used, reason = "lists of strings always serialize")]
        Some(serde_json::to_string(self).expect("strings serialize"))
    }

    /// Reads what a Secret says was asked for; one that says nothing readable was asked for nothing.
    pub fn read(annotations: &BTreeMap<String, String>) -> Self {
        annotations.get(APPLIED_ANNOTATION).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}
