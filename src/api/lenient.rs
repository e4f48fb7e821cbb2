//! Reads objects from lists and watches even if `metadata.managedFields` is unreadable.
//!
//! The API server accepts times and nesting in `managedFields` that a client cannot read. A user who may write one
//! object must not be able to stop the watch of all the others.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::Resource;
use kube::runtime::watcher::{self, Event};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// The depth to which managed fields are read. The managed fields of a resource's annotations have depth four.
const DEEPEST: usize = 16;

/// An object without the unreadable entries of its managed fields.
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

impl<'de, K: DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object { metadata: Metadata { mut managed_fields, rest: mut metadata }, mut rest } =
            Object::deserialize(deserializer)?;
        managed_fields.retain(|Shallow(entry)| ManagedFieldsEntry::deserialize(entry).is_ok());
        let managed_fields = managed_fields.into_iter().map(|Shallow(entry)| entry).collect();
        metadata.insert("managedFields".to_owned(), Value::Array(managed_fields));
        rest.insert("metadata".to_owned(), Value::Object(metadata));
        K::deserialize(Value::Object(rest)).map(Self).map_err(D::Error::custom)
    }
}

/// An object in two parts.
struct Object {
    metadata: Metadata,
    rest: Map<String, Value>,
}

/// The metadata of an object in two parts.
#[derive(Default)]
struct Metadata {
    managed_fields: Vec<Shallow>,
    rest: Map<String, Value>,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (metadata, rest) = deserializer.deserialize_map(Split::at("metadata"))?;
        Ok(Self { metadata: metadata.unwrap_or_default(), rest })
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (managed_fields, rest) = deserializer.deserialize_map(Split::at("managedFields"))?;
        Ok(Self { managed_fields: managed_fields.unwrap_or_default(), rest })
    }
}

/// Reads one field of a map as a type of its own, and the others as they are. `#[serde(flatten)]` would do the same, but
/// reads everything twice.
struct Split<T> {
    name: &'static str,
    field: PhantomData<T>,
}

impl<T> Split<T> {
    const fn at(name: &'static str) -> Self {
        Self { name, field: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Split<T> {
    type Value = (Option<T>, Map<String, Value>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the field {}", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut field, mut rest) = (None, Map::new());
        while let Some(name) = map.next_key::<String>()? {
            if name == self.name {
                field = Some(map.next_value()?);
            } else {
                rest.insert(name, map.next_value()?);
            }
        }
        Ok((field, rest))
    }
}

/// A JSON value without the values below [`DEEPEST`] levels.
struct Shallow(Value);

impl<'de> Deserialize<'de> for Shallow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DepthLimit(DEEPEST).deserialize(deserializer).map(Self)
    }
}

/// Reads a JSON value to this depth. Deeper values are read as null.
#[derive(Clone, Copy)]
struct DepthLimit(usize);

impl<'de> DeserializeSeed<'de> for DepthLimit {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.0 {
            0 => IgnoredAny::deserialize(deserializer).map(|_| Value::Null),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for DepthLimit {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("managed fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key()? {
            fields.insert(name, map.next_value_seed(Self(self.0 - 1))?);
        }
        Ok(Value::Object(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element_seed(Self(self.0 - 1))? {
            entries.push(entry);
        }
        Ok(Value::Array(entries))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
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
    use serde_json::json;

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
    fn a_readable_object_is_read_unchanged() {
        let text = account(&format!("[{}]", entry("m", "2026-11-27T09:00:00Z", r#"{"f:spec":{"f:roles":{}}}"#)));
        let read: ApiAccount = serde_json::from_str(&text).unwrap();
        let Lenient(shown): Lenient<ApiAccount> = serde_json::from_str(&text).unwrap();
        assert_eq!(shown, read);
        assert_eq!(shown.metadata.managed_fields.unwrap().len(), 1);
    }

    #[test]
    fn an_object_without_managed_fields_or_metadata_is_read() {
        for metadata in [r#""metadata":{"name":"acme"},"#, ""] {
            let text = format!(r#"{{"apiVersion":"ops-admin.com/v1","kind":"ApiAccount",{metadata}"spec":{{}}}}"#);
            let Lenient(shown): Lenient<ApiAccount> = serde_json::from_str(&text).unwrap();
            assert_eq!(shown.metadata.name.is_some(), !metadata.is_empty());
        }
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
