//! The patch that writes a status: it touches the fields that this program knows, and leaves those of a newer one.

use crate::api::ApiAccountStatus;
use serde_json::{Value, json};

/// Every field of a status.
const FIELDS: [&str; 9] = [
    "observedGeneration",
    "conditions",
    "accountId",
    "databaseId",
    "secretName",
    "secretResourceVersion",
    "nextRotation",
    "drift",
    "keys",
];

/// A JSON patch of the resource with this UID; `has_status`: it has a status already.
///
/// A resource may have been made again under its name. The API server compares no UID of a status, but tests what it is told
/// to.
///
/// # Errors
/// The status cannot be written as JSON.
pub(super) fn status_patch(
    uid: Option<&str>,
    has_status: bool,
    status: &ApiAccountStatus,
) -> Result<Value, serde_json::Error> {
    let written = serde_json::to_value(status)?;
    let mut steps = vec![json!({ "op": "test", "path": "/metadata/uid", "value": uid })];
    if !has_status {
        steps.push(json!({ "op": "add", "path": "/status", "value": written }));
        return Ok(Value::Array(steps));
    }
    for field in FIELDS {
        let path = format!("/status/{field}");
        let value = written.get(field);
        steps.push(json!({ "op": "add", "path": path, "value": value }));
        if value.is_none() {
            // Only what is there can be removed, so it was added first.
            steps.push(json!({ "op": "remove", "path": path }));
        }
    }
    Ok(Value::Array(steps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{DriftStatus, KeyStatus};
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn full() -> ApiAccountStatus {
        let time = Time(Timestamp::UNIX_EPOCH);
        let text = || "text".to_owned();
        let key = KeyStatus { id: text(), api_key: text(), state: text(), created: time.clone(), expires: None };
        ApiAccountStatus {
            observed_generation: Some(1),
            conditions: Vec::new(),
            account_id: Some(text()),
            database_id: Some(text()),
            secret_name: Some(text()),
            secret_resource_version: Some(text()),
            next_rotation: Some(time),
            drift: vec![DriftStatus { field: text(), declared: text(), actual: text() }],
            keys: vec![key],
            is_partial: false,
        }
    }

    #[test]
    fn every_field_that_this_program_writes_is_known() {
        let Value::Object(written) = serde_json::to_value(full()).unwrap() else { panic!("it is an object") };
        let mut written: Vec<_> = written.keys().map(String::as_str).collect();
        let mut known = FIELDS.to_vec();
        written.sort_unstable();
        known.sort_unstable();
        assert_eq!(written, known);
    }

    #[test]
    fn a_status_that_is_there_is_not_replaced_as_a_whole() {
        let patch = status_patch(Some("u"), true, &ApiAccountStatus::default()).unwrap();
        let steps = patch.as_array().unwrap();
        assert!(steps.iter().all(|step| step["path"] != "/status"), "{patch}");
        let of = |path: &str| -> Vec<_> {
            steps.iter().filter(|step| step["path"] == path).map(|step| step["op"].as_str().unwrap()).collect()
        };
        assert_eq!(of("/status/conditions"), ["add"]);
        assert_eq!(of("/status/nextRotation"), ["add", "remove"]);
        assert_eq!(of("/metadata/uid"), ["test"]);
        let first = status_patch(Some("u"), false, &full()).unwrap();
        assert_eq!(first[1]["path"], "/status");
    }
}
