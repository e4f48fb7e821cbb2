//! Finds fields that have no value in the manifest and that `kubectl apply` therefore removed from the resource.
//!
//! The API server refuses such a field (`api/definition.rs`), but client-side apply does not send it: apply removes the
//! field's former value. The applied manifest is in an annotation. Only users who may write the resource can set the
//! annotation, and its only effect here is that the resource is refused.

use crate::account::EVERY_AFFILIATE;
use crate::api::{ApiAccount, ApiAccountSpec, EVERY_ADDRESS};
use serde_json::{Map, Value, json};

/// The annotation in which `kubectl apply` keeps the manifest as it was applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The error for such a field.
pub(super) const NO_VALUE: &str = "has no value in the manifest that kubectl applied, and kubectl takes that for a field \
                                   that is removed: give it one, or leave the field out, and apply the manifest again";

/// Returns whether this annotation may make [`fields_applied_as_null`] return any field.
pub fn may_have_nulls(annotation: &str, value: &str) -> bool {
    annotation == LAST_APPLIED && value.contains("null")
}

/// Returns the fields of `spec` that are null in the applied manifest, except those that have been given a value since.
pub fn fields_applied_as_null(resource: &ApiAccount) -> Vec<String> {
    let annotations = resource.metadata.annotations.as_ref();
    let applied = annotations.and_then(|annotations| annotations.get(LAST_APPLIED));
    // Most resources have no such field. Parsing is skipped for them, because this function runs for every event.
    let Some(applied) = applied.filter(|applied| may_have_nulls(LAST_APPLIED, applied)) else {
        return Vec::new();
    };
    let Ok(applied) = serde_json::from_str::<Value>(applied) else {
        return Vec::new();
    };
    let (Ok(empty_spec), Ok(found)) = (empty_spec(), serde_json::to_value(&resource.spec)) else {
        return Vec::new();
    };
    let server_defaults = json!({ "affiliate": EVERY_AFFILIATE, "allowedIPs": EVERY_ADDRESS });
    let fields = applied.get("spec").and_then(Value::as_object).into_iter().flatten();
    let is_removed = |field: &&String| {
        let value = found.get(field.as_str());
        // The API server sets these defaults for fields that the manifest leaves out.
        value == empty_spec.get(field.as_str()) || value.is_some() && value == server_defaults.get(field.as_str())
    };
    fields.filter(|(_, value)| value.is_null()).map(|(field, _)| field).filter(is_removed).cloned().collect()
}

/// Returns the spec of a resource that leaves out every field.
fn empty_spec() -> serde_json::Result<Value> {
    serde_json::to_value(serde_json::from_value::<ApiAccountSpec>(Value::Object(Map::new()))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn applied(manifest: &Value, spec: &Value) -> ApiAccount {
        let annotations = json!({ LAST_APPLIED: json!({ "spec": manifest }).to_string() });
        let metadata = json!({ "name": "acme", "namespace": "ns", "annotations": annotations });
        let resource =
            json!({ "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": metadata, "spec": spec });
        serde_json::from_value(resource).unwrap()
    }

    #[test]
    fn a_field_that_was_applied_as_null_is_found() {
        for field in ["allowedIPs", "affiliate", "enabled", "useRefreshToken", "roles", "rotation", "deletionPolicy"] {
            assert_eq!(fields_applied_as_null(&applied(&json!({ field: null }), &json!({}))), [field], "{field}");
        }
        for (field, default) in [("allowedIPs", json!(EVERY_ADDRESS)), ("affiliate", json!(EVERY_AFFILIATE))] {
            assert_eq!(
                fields_applied_as_null(&applied(&json!({ field: null }), &json!({ field: default }))),
                [field],
                "{field}"
            );
        }
        assert_eq!(
            fields_applied_as_null(&applied(&json!({ "description": "null" }), &json!({}))),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_field_that_was_given_a_value_later_is_not_found() {
        for (field, value) in [("allowedIPs", json!([])), ("enabled", json!(false)), ("affiliate", json!("North"))] {
            let resource = applied(&json!({ field: null }), &json!({ field: value }));
            assert_eq!(fields_applied_as_null(&resource), Vec::<String>::new(), "{field}");
        }
    }
}
