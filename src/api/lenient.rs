//! Reads objects from lists and watches without what is not used of `metadata.managedFields`, however long or unreadable
//! that is.
//!
//! The API server accepts times and nesting in `managedFields` that a client cannot read. A user who may write one
//! object must not be able to stop the watch of all the others. Besides, `managedFields` is half of an object, and would be
//! the greater part of it in memory.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use kube::Resource;
use kube::runtime::watcher::{self, Event};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, IgnoredAny};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// An object whose managed fields have only what the controller uses: which entries have a field of the spec, and the
/// names of their annotations. Unreadable entries are left out.
#[derive(Debug, Clone)]
pub struct Lenient<K>(pub K);

impl<K> Lenient<K> {
    /// Unwraps the objects of a watch event.
    ///
    /// # Errors
    /// The error of the watch.
    pub fn unwrap_event(event: watcher::Result<Event<Self>>) -> watcher::Result<Event<K>> {
        Ok(match event? {
            Event::Apply(Self(object)) => Event::Apply(object),
            Event::Delete(Self(object)) => Event::Delete(object),
            Event::Init => Event::Init,
            Event::InitApply(Self(object)) => Event::InitApply(object),
            Event::InitDone => Event::InitDone,
        })
    }
}

impl<'de, K: DeserializeOwned + Resource> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = Box::<RawValue>::deserialize(deserializer)?;
        Self::read(whole.get()).map_err(D::Error::custom)
    }
}

impl<K: DeserializeOwned + Resource> Lenient<K> {
    fn read(json: &str) -> serde_json::Result<Self> {
        let outline: Outline = serde_json::from_str(json)?;
        let Some(managed_fields) = outline.metadata.and_then(|metadata| metadata.managed_fields) else {
            return serde_json::from_str(json).map(Self);
        };
        let mut object: K = serde_json::from_str(&without(managed_fields, json))?;
        object.meta_mut().managed_fields = Some(readable(managed_fields));
        Ok(Self(object))
    }
}

/// Where the managed fields of an object are.
#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(borrow)]
    metadata: Option<MetadataOutline<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetadataOutline<'a> {
    #[serde(borrow)]
    managed_fields: Option<&'a RawValue>,
}

/// Where the fields of an entry are.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryOutline<'a> {
    #[serde(borrow)]
    fields_v1: Option<&'a RawValue>,
}

/// Returns `json` with null in place of `part`, which has to be a part of it.
fn without(part: &RawValue, json: &str) -> String {
    let part = part.get();
    let begin = part.as_ptr().addr() - json.as_ptr().addr();
    [&json[..begin], "null", &json[begin + part.len()..]].concat()
}

/// Returns the entries that can be read, with the fields that are used.
fn readable(managed_fields: &RawValue) -> Vec<ManagedFieldsEntry> {
    let entries: Vec<&RawValue> = serde_json::from_str(managed_fields.get()).unwrap_or_default();
    entries.into_iter().filter_map(|entry| read_entry(entry.get()).ok()).collect()
}

fn read_entry(json: &str) -> serde_json::Result<ManagedFieldsEntry> {
    let EntryOutline { fields_v1: Some(fields) } = serde_json::from_str(json)? else {
        return serde_json::from_str(json);
    };
    let mut entry: ManagedFieldsEntry = serde_json::from_str(&without(fields, json))?;
    entry.fields_v1 = serde_json::from_str(fields.get()).ok().map(|fields: UsedFields| FieldsV1(fields.value()));
    Ok(entry)
}

/// The fields of an entry that are used.
#[derive(Deserialize)]
struct UsedFields<'a> {
    #[serde(rename = "f:spec")]
    spec: Option<IgnoredAny>,
    #[serde(rename = "f:metadata", borrow, default)]
    metadata: UsedMetadata<'a>,
}

#[derive(Default, Deserialize)]
#[expect(clippy::zero_sized_map_values, reason = "JSON has a map here")]
struct UsedMetadata<'a> {
    #[serde(rename = "f:annotations", borrow, default)]
    annotations: BTreeMap<Cow<'a, str>, IgnoredAny>,
}

impl UsedFields<'_> {
    fn value(self) -> Value {
        let mut fields = Map::new();
        if self.spec.is_some() {
            fields.insert("f:spec".to_owned(), json!({}));
        }
        if !self.metadata.annotations.is_empty() {
            let names = self.metadata.annotations.into_keys();
            let annotations: Map<_, _> = names.map(|name| (name.into_owned(), json!({}))).collect();
            fields.insert("f:metadata".to_owned(), json!({ "f:annotations": annotations }));
        }
        Value::Object(fields)
    }
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn kind(of: &K::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &K::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &K::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &K::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiAccount;

    fn account(managed_fields: &str) -> String {
        format!(
            r#"{{"apiVersion":"ops-admin.com/v1","kind":"ApiAccount",
                "metadata":{{"name":"acme","managedFields":{managed_fields},"generation":3}},
                "spec":{{"roles":["Customer"]}},"status":{{"accountId":"id"}}}}"#
        )
    }

    fn entry(manager: &str, time: &str, fields: &str) -> String {
        format!(
            r#"{{"manager":"{manager}","operation":"Update","time":"{time}","fieldsType":"FieldsV1","fieldsV1":{fields}}}"#
        )
    }

    #[test]
    fn a_readable_object_is_read_with_the_fields_that_are_used() {
        let fields = r#"{"f:metadata":{"f:labels":{"f:a":{}},"f:annotations":{".":{},"f:a\u002fb":{}}},"f:spec":{"f:roles":{}}}"#;
        let text = account(&format!("[{}]", entry("m", "2026-11-27T09:00:00Z", fields)));
        let mut read: ApiAccount = serde_json::from_str(&text).unwrap();
        let Lenient(shown): Lenient<ApiAccount> = serde_json::from_str(&text).unwrap();
        let used = json!({ "f:metadata": { "f:annotations": { ".": {}, "f:a/b": {} } }, "f:spec": {} });
        read.metadata.managed_fields.as_mut().unwrap()[0].fields_v1 = Some(FieldsV1(used));
        assert_eq!(shown, read);
    }

    #[test]
    fn odd_managed_fields_do_not_make_an_object_unreadable() {
        for odd in ["null", "7", "[]", "[7]", r#"[{"fieldsV1":7}]"#, r#"[{"fieldsV1":{"f:metadata":[]}}]"#] {
            let Lenient(shown): Lenient<ApiAccount> = serde_json::from_str(&account(odd)).unwrap();
            assert_eq!(shown.metadata.generation, Some(3), "{odd}");
        }
    }

    #[test]
    fn an_object_without_managed_fields_is_read() {
        let text = r#"{"apiVersion":"ops-admin.com/v1","kind":"ApiAccount","metadata":{"name":"acme"},"spec":{}}"#;
        let Lenient(shown): Lenient<ApiAccount> = serde_json::from_str(text).unwrap();
        assert_eq!(shown.metadata.name.as_deref(), Some("acme"));
    }

    #[test]
    fn unreadable_managed_fields_are_left_out() {
        let deep = format!("{}{{}}{}", r#"{"f:a":"#.repeat(200), "}".repeat(200));
        let entries = [
            entry("late", "10000-01-01T00:00:00Z", "{}"),
            entry("deep", "2026-11-27T09:00:00Z", &deep),
            entry("good", "2026-11-27T09:00:00Z", "{}"),
        ];
        let text = account(&format!("[{}]", entries.join(",")));
        let seen = format!(r#"{{"type":"ADDED","object":{text}}}"#);
        assert!(serde_json::from_str::<ApiAccount>(&text).is_err());
        let Lenient(shown): Lenient<ApiAccount> = serde_json::from_str(&text).unwrap();
        let managers: Vec<_> = shown.metadata.managed_fields.iter().flatten().map(|entry| &entry.manager).collect();
        assert_eq!(json!(managers), json!(["deep", "good"]));
        assert_eq!((shown.metadata.generation, shown.spec.roles.len()), (Some(3), 1));
        let event: kube::core::WatchEvent<Lenient<ApiAccount>> = serde_json::from_str(&seen).unwrap();
        assert!(matches!(event, kube::core::WatchEvent::Added(Lenient(account)) if account == shown));
    }
}
