//! Reads a status even if it has invalid values.
//!
//! The API server checks little of a status: for example, it accepts `+99:00` as the offset of a time. A user who may
//! write the status of one resource must not be able to stop the watch of all the others.

use super::ApiAccountStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::{Map, Value, json};

/// Replaces the unreadable time of a condition. The time is never written back: see [`ApiAccountStatus::is_partial`].
const NO_TIME: &str = "1970-01-01T00:00:00Z";

impl<'de> Deserialize<'de> for ApiAccountStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut status = Fields::of(Value::deserialize(deserializer)?);
        Ok(Self {
            observed_generation: status.field("observedGeneration"),
            conditions: status.list("conditions", repaired_condition),
            account_id: status.field("accountId"),
            database_id: status.field("databaseId"),
            secret_name: status.field("secretName"),
            secret_resource_version: status.field("secretResourceVersion"),
            next_rotation: status.field("nextRotation"),
            drift: status.list("drift", |_| None),
            keys: status.list("keys", |_| None),
            is_partial: status.is_partial,
        })
    }
}

/// The fields of a status that were not read yet.
struct Fields {
    unread: Map<String, Value>,
    is_partial: bool,
}

impl Fields {
    fn of(status: Value) -> Self {
        match status {
            Value::Object(unread) => Self { unread, is_partial: false },
            _ => Self { unread: Map::new(), is_partial: true },
        }
    }

    /// Reads a field. Returns its default if it is missing or unreadable.
    fn field<T: DeserializeOwned + Default>(&mut self, name: &str) -> T {
        let read = self.unread.remove(name).map_or_else(|| Ok(T::default()), serde_json::from_value);
        read.unwrap_or_else(|_| {
            self.is_partial = true;
            T::default()
        })
    }

    /// Reads a list. Passes each unreadable entry to `repair`, and leaves out the entry if that fails too.
    fn list<T: DeserializeOwned>(&mut self, name: &str, repair: fn(Value) -> Option<T>) -> Vec<T> {
        let entries: Vec<Value> = self.field(name);
        let read = |entry| {
            T::deserialize(&entry).ok().or_else(|| {
                self.is_partial = true;
                repair(entry)
            })
        };
        entries.into_iter().filter_map(read).collect()
    }
}

/// Repairs a condition with an unreadable time or generation. Its reason must be kept: a deletion that the condition
/// shows as held must stay held.
fn repaired_condition(mut entry: Value) -> Option<Condition> {
    let fields = entry.as_object_mut()?;
    fields.insert("lastTransitionTime".to_owned(), json!(NO_TIME));
    fields.remove("observedGeneration");
    serde_json::from_value(entry).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Value {
        json!({
            "observedGeneration": 3,
            "conditions": [{
                "type": "Ready", "status": "False", "reason": "DeletionHeld", "message": "held",
                "lastTransitionTime": "2026-11-27T09:00:00Z", "observedGeneration": 3,
            }],
            "accountId": "id",
            "databaseId": "database",
            "secretName": "s",
            "secretResourceVersion": "7",
            "nextRotation": "2026-11-28T09:00:00Z",
            "drift": [{ "field": "account", "declared": "a", "actual": "b" }],
            "keys": [
                { "id": "new", "apiKey": "a", "state": "Active", "created": "2026-11-27T09:00:00Z" },
                { "id": "old", "apiKey": "b", "state": "Retiring", "created": "2026-11-26T09:00:00Z" },
            ],
        })
    }

    fn read(status: Value) -> ApiAccountStatus {
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn a_status_is_read_as_it_was_written() {
        let status = read(written());
        assert!(!status.is_partial);
        assert_eq!(serde_json::to_value(&status).unwrap(), written());
        assert_eq!(read(json!({})), ApiAccountStatus::default());
    }

    #[test]
    fn unreadable_fields_are_left_out_and_all_others_are_read() {
        let no_time = json!("2026-11-27T09:00:00+99:00");
        for (field, unreadable) in [
            ("nextRotation", no_time.clone()),
            ("observedGeneration", json!(1e20)),
            ("secretResourceVersion", json!(7)),
            ("drift", json!({})),
        ] {
            let mut status = written();
            status[field] = unreadable;
            let found = read(status.clone());
            assert!(found.is_partial, "{field}");
            status.as_object_mut().unwrap().remove(field);
            let rest = ApiAccountStatus { is_partial: true, ..read(status) };
            assert_eq!(found, rest, "{field}");
        }
        let mut status = written();
        status["keys"][1]["created"] = no_time;
        let keys: Vec<_> = read(status).keys.into_iter().map(|key| key.id).collect();
        assert_eq!(keys, ["new"]);
        assert!(read(json!("no status at all")).is_partial);
    }

    #[test]
    fn a_condition_with_an_unreadable_time_keeps_its_reason() {
        let mut status = written();
        status["conditions"][0]["lastTransitionTime"] = json!("2026-11-27T09:00:00+99:00");
        status["conditions"][0]["observedGeneration"] = json!(1e20);
        let status = read(status);
        let said: Vec<_> = status.conditions.iter().map(|found| (&*found.type_, &*found.reason)).collect();
        assert_eq!(said, [("Ready", "DeletionHeld")]);
        assert!(status.is_partial);
    }
}
