//! The shape that a manifest must have, derived from the `OpenAPI` schemas of the CRD and of Kubernetes metadata.
//!
//! The shape is fields, types and enumerations. [`crate::reconcile::Desired`] checks everything else.

use crate::api::definition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::generate::SchemaSettings;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// The longest name, in bytes, for which a similar name is searched. The comparison of longer names would take too
/// long.
const MAX_COMPARED: usize = 64;

/// The shape of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Schema {
    /// Any value.
    Any,
    Bool,
    Integer,
    Number,
    /// Text; with a list, only the texts in the list.
    Text(Option<Vec<String>>),
    List(Box<Schema>),
    /// A mapping with any keys, whose values have this shape.
    Map(Box<Schema>),
    /// A mapping with known fields.
    Object(Object),
}

/// A mapping with known fields.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Object {
    pub fields: BTreeMap<String, Schema>,
    pub required: Vec<String>,
}

impl Schema {
    /// Returns the shape of an ApiAccount manifest. It allows any `status`, since applying a manifest does not set the
    /// status.
    pub(super) fn of_api_account() -> Self {
        let versions = definition().spec.versions;
        let root = versions.into_iter().find_map(|version| version.schema?.open_api_v3_schema);
        let mut object = match Self::from_open_api(&json!(root)) {
            Self::Object(object) => object,
            _ => Object::default(),
        };
        let metadata = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
        let metadata = metadata.into_generator().into_root_schema_for::<ObjectMeta>();
        for (field, schema) in [
            ("apiVersion", Self::Text(None)),
            ("kind", Self::Text(None)),
            ("metadata", Self::from_open_api(metadata.as_value())),
            ("status", Self::Any),
        ] {
            object.fields.insert(field.to_owned(), schema);
        }
        Self::Object(object)
    }

    fn from_open_api(schema: &Json) -> Self {
        match schema["type"].as_str() {
            Some("boolean") => Self::Bool,
            Some("integer") => Self::Integer,
            Some("number") => Self::Number,
            Some("string") => Self::Text(schema["enum"].as_array().map(|values| texts(values))),
            Some("array") => Self::List(Box::new(Self::from_open_api(&schema["items"]))),
            Some("object") => match (schema["properties"].as_object(), &schema["additionalProperties"]) {
                (Some(properties), _) => Self::Object(Object {
                    fields: properties.iter().map(|(name, of)| (name.clone(), Self::from_open_api(of))).collect(),
                    required: schema["required"].as_array().map(|values| texts(values)).unwrap_or_default(),
                }),
                (None, values @ Json::Object(_)) => Self::Map(Box::new(Self::from_open_api(values))),
                (None, _) => Self::Any,
            },
            _ => Self::Any,
        }
    }
}

fn texts(values: &[Json]) -> Vec<String> {
    values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

impl Object {
    /// Returns advice for an unknown field: the field that was probably meant, or the list of all fields.
    pub(super) fn advice(&self, unknown: &str) -> String {
        if let Some(near) = nearest(unknown, self.fields.keys()) {
            return format!("did you mean {near}?");
        }
        for (name, schema) in &self.fields {
            if let Schema::Object(inner) = schema
                && inner.fields.contains_key(unknown)
            {
                return format!("did you mean {name}.{unknown}?");
            }
        }
        let fields: Vec<_> = self.fields.keys().map(String::as_str).collect();
        format!("the fields here are {}", fields.join(", "))
    }
}

/// Returns the most similar candidate if it differs from the text only in case or in a few letters.
pub(crate) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a String>) -> Option<&'a str> {
    if text.len() > MAX_COMPARED {
        return None;
    }
    let text = text.to_lowercase();
    let distance = |candidate: &String| strsim::damerau_levenshtein(&text, &candidate.to_lowercase());
    let (distance, candidate) =
        candidates.into_iter().map(|c| (distance(c), c)).min_by_key(|(distance, _)| *distance)?;
    (distance * 3 <= candidate.chars().count()).then_some(candidate.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_that_of_the_crd_and_of_kubernetes_metadata() {
        let Schema::Object(root) = Schema::of_api_account() else { panic!("a manifest is a mapping") };
        let of = |object: &Object, field: &str| object.fields[field].clone();
        assert_eq!(root.required, ["spec"]);
        let (Schema::Object(spec), Schema::Object(metadata)) = (of(&root, "spec"), of(&root, "metadata")) else {
            panic!("{root:?}")
        };
        assert_eq!(of(&spec, "enabled"), Schema::Bool);
        assert_eq!(of(&spec, "allowedIPs"), Schema::List(Box::new(Schema::Text(None))));
        assert_eq!(of(&spec, "deletionPolicy"), Schema::Text(Some(vec!["Delete".to_owned(), "Retain".to_owned()])));
        assert_eq!(of(&metadata, "labels"), Schema::Map(Box::new(Schema::Text(None))));
        assert_eq!(of(&metadata, "generation"), Schema::Integer);
        assert!(matches!(of(&metadata, "ownerReferences"), Schema::List(items) if matches!(*items, Schema::Object(_))));
    }

    #[test]
    fn a_similar_name_is_found() {
        let fields = ["allowedIPs", "enabled", "useRefreshToken"].map(str::to_owned);
        for (text, near) in [
            ("allowedIps", Some("allowedIPs")),
            ("allowed_ips", Some("allowedIPs")),
            ("enable", Some("enabled")),
            ("userRefreshToken", Some("useRefreshToken")),
            ("owner", None),
            (&"enabled".repeat(100_000), None),
        ] {
            assert_eq!(nearest(text, &fields), near, "{text}");
        }
    }
}
