//! Tests of invalid resources that the API server accepted: they can be read, and nothing is done unless its meaning is
//! certain.

use super::generators::owner;
use crate::api::{ApiAccount, ApiAccountStatus};
use crate::reconcile::{DeletionPolicy, Desired, Outcome, deletion_policy, is_held, status};
use jiff::Timestamp;
use serde_json::{Value, json};

fn resource(spec: &Value, status: &Value) -> ApiAccount {
    let resource = json!({
        "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": "acme" },
        "spec": spec, "status": status,
    });
    serde_json::from_value(resource).unwrap()
}

#[test]
fn an_unknown_policy_is_refused_with_its_field() {
    let spec = json!({ "adoptionPolicy": "Ask", "managementPolicy": "Watch", "deletionPolicy": "Archive" });
    let invalid = Desired::parse(&resource(&spec, &Value::Null), &owner("acme").cluster).unwrap_err();
    let fields: Vec<_> = invalid.errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["spec.adoptionPolicy", "spec.managementPolicy", "spec.deletionPolicy"]);
    let said = invalid.to_string();
    assert!(said.contains("must be Never or IfUnowned, and this is \"Ask\", which opsadmin"), "{said}");
}

#[test]
fn an_unknown_policy_deletes_no_account() {
    let policy = |management: &str, deletion: &str| {
        let spec = json!({ "managementPolicy": management, "deletionPolicy": deletion });
        let fields = |error: &crate::reconcile::FieldError| error.field.clone();
        deletion_policy(&resource(&spec, &Value::Null).spec)
            .map_err(|invalid| invalid.errors.iter().map(fields).collect::<Vec<_>>())
    };
    assert_eq!(policy("Enforce", "Delete"), Ok(DeletionPolicy::Delete));
    assert_eq!(policy("Enforce", "Retain"), Ok(DeletionPolicy::Retain));
    assert_eq!(policy("Observe", "Archive"), Ok(DeletionPolicy::Retain));
    let unknown = |field: &str| Err(vec![field.to_owned()]);
    assert_eq!(policy("Enforce", "Archive"), unknown("spec.deletionPolicy"));
    assert_eq!(policy("Watch", "Delete"), unknown("spec.managementPolicy"));
}

#[test]
fn an_unreadable_status_is_rebuilt_and_a_held_deletion_stays_held() {
    let held = json!({
        "type": "Ready", "status": "True", "reason": "DeletionHeld", "message": "held",
        "lastTransitionTime": "2026-11-27T09:00:00+99:00",
    });
    let found = resource(&json!({}), &json!({ "conditions": [held], "accountId": "id" })).status.unwrap();
    assert!(is_held(Some(&found)));
    let now = Timestamp::from_second(60).unwrap();
    let made = status(Some(1), "s", &Outcome::default(), Some(&found), now);
    assert_eq!(made.conditions[0].last_transition_time.0, now, "and not since when nobody knows");
    assert_eq!(made.account_id.as_deref(), Some("id"));
    let as_written: ApiAccountStatus = serde_json::from_value(json!(made)).unwrap();
    assert_eq!(made, as_written);
    assert_ne!(ApiAccountStatus { is_partial: true, ..made.clone() }, made, "what differs is written");
}
