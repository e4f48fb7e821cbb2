//! Who requested what a resource declares, as its managed fields and the annotation `ops-admin.com/changed-by` say. Pure.
//!
//! Everybody who may write the resource may also write both. So this is for people who read the journal, and nothing
//! depends on it.

use super::managed_fields::{entries, has_annotation, has_spec};
use crate::account::Requester;
use crate::api::{
    ApiAccount, CHANGED_BY_ANNOTATION, CONFIRM_CREATION_ANNOTATION, CONFIRM_DELETION_ANNOTATION, MANAGER,
    PAUSED_ANNOTATION, ROTATE_ANNOTATION,
};
use crate::reconcile::is_confirmed;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

/// The annotations that request something, besides the spec.
const REQUESTS: [&str; 3] = [ROTATE_ANNOTATION, PAUSED_ANNOTATION, CONFIRM_CREATION_ANNOTATION];

/// Returns the field manager that wrote the resource last, of those that have set a field of the spec or an annotation
/// that requests something. If the resource is being deleted, returns the one that confirmed the deletion, because the
/// API server does not record who deletes a resource.
///
/// The annotation `ops-admin.com/changed-by` counts only if that field manager has set it. Otherwise it may be about an
/// earlier change.
///
/// The times of the API server have whole seconds. If two field managers wrote within one second, it is unknown which
/// one was the last, and the result is `None`.
pub(super) fn requester(resource: &ApiAccount) -> Option<Requester> {
    let metadata = &resource.metadata;
    let is_deletion = metadata.deletion_timestamp.is_some();
    if is_deletion && !is_confirmed(resource) {
        return None;
    }
    let requests = |entry: &&ManagedFieldsEntry| {
        if is_deletion {
            return has_annotation(entry, CONFIRM_DELETION_ANNOTATION);
        }
        has_spec(entry) || REQUESTS.iter().any(|annotation| has_annotation(entry, annotation))
    };
    let by_others = entries(metadata).filter(|entry| manager(entry) != MANAGER);
    let requests: Vec<&ManagedFieldsEntry> = by_others.filter(requests).collect();
    let wrote = requests.iter().map(|entry| entry.time.as_ref()).max()?;
    let last: Vec<&ManagedFieldsEntry> = requests.into_iter().filter(|entry| entry.time.as_ref() == wrote).collect();
    let name = manager(last.first()?);
    if last.iter().any(|entry| manager(entry) != name) {
        return None;
    }
    let claim = metadata.annotations.as_ref().and_then(|annotations| annotations.get(CHANGED_BY_ANNOTATION));
    let claim = claim.filter(|_| last.iter().any(|entry| has_annotation(entry, CHANGED_BY_ANNOTATION)));
    Some(Requester::new(name, wrote.map(|time| time.0), claim.map(String::as_str)))
}

fn manager(entry: &ManagedFieldsEntry) -> &str {
    entry.manager.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const SPEC: &str = "spec";

    /// An entry of a field manager that wrote at this second and has these annotations, or the spec.
    fn entry(manager: &str, second: u8, fields: &[&str]) -> Value {
        let mut owned = json!({});
        for field in fields {
            match *field {
                SPEC => owned["f:spec"] = json!({ "f:roles": {} }),
                annotation => owned["f:metadata"]["f:annotations"][format!("f:{annotation}")] = json!({}),
            }
        }
        let time = format!("2026-01-01T00:00:{second:02}Z");
        json!({ "manager": manager, "operation": "Update", "time": time, "fieldsV1": owned })
    }

    fn resource(entries: &[Value], more: &Value) -> ApiAccount {
        let mut resource = json!({
            "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "spec": {},
            "metadata": { "name": "acme", "managedFields": entries,
                          "annotations": { CHANGED_BY_ANNOTATION: "alice", CONFIRM_DELETION_ANNOTATION: "true" } },
        });
        for (name, value) in more.as_object().unwrap() {
            resource["metadata"][name] = value.clone();
        }
        serde_json::from_value(resource).unwrap()
    }

    fn of(entries: &[Value]) -> String {
        shown(&resource(entries, &json!({})))
    }

    fn shown(resource: &ApiAccount) -> String {
        requester(resource).map_or_else(|| "nobody".to_owned(), |requester| requester.as_str().to_owned())
    }

    fn by(manager: &str, second: u8) -> String {
        format!("manager={manager} wrote=2026-01-01T00:00:{second:02}Z")
    }

    fn claimed(manager: &str, second: u8) -> String {
        by(manager, second) + " claim=alice"
    }

    #[test]
    fn the_last_manager_of_the_spec_or_of_a_request_counts() {
        let argo = entry("argo", 5, &[SPEC]);
        assert_eq!(of(&[entry("kubectl", 1, &[SPEC]), argo.clone()]), by("argo", 5));
        assert_eq!(of(&[argo.clone(), entry("kubectl", 1, &[SPEC])]), by("argo", 5), "in any order");
        assert_eq!(of(&[argo.clone(), entry("kubectl-label", 9, &["other"])]), by("argo", 5));
        for request in REQUESTS {
            assert_eq!(of(&[argo.clone(), entry("bob", 9, &[request])]), by("bob", 9), "{request}");
        }
        assert_eq!(of(&[argo, entry("bob", 9, &[CONFIRM_DELETION_ANNOTATION])]), by("argo", 5));
        assert_eq!(of(&[]), "nobody");
    }

    #[test]
    fn this_program_and_writers_of_the_status_do_not_count() {
        let mut status = entry("forger", 9, &[SPEC]);
        status["subresource"] = json!("status");
        assert_eq!(of(&[entry("argo", 5, &[SPEC]), status, entry(MANAGER, 9, &[SPEC])]), by("argo", 5));
    }

    #[test]
    fn a_claim_counts_only_for_the_manager_that_made_it() {
        let ci = entry("ci", 5, &[SPEC, CHANGED_BY_ANNOTATION]);
        assert_eq!(of(std::slice::from_ref(&ci)), claimed("ci", 5));
        assert_eq!(of(&[ci.clone(), entry("kubectl-edit", 9, &[SPEC])]), by("kubectl-edit", 9), "a stale claim");
        let annotate = entry("kubectl-annotate", 9, &[CHANGED_BY_ANNOTATION]);
        assert_eq!(of(&[entry("argo", 5, &[SPEC]), annotate]), by("argo", 5), "somebody else's claim");
        assert_eq!(of(&[ci, entry("bob", 9, &[ROTATE_ANNOTATION, CHANGED_BY_ANNOTATION])]), claimed("bob", 9));
    }

    #[test]
    fn two_managers_within_one_second_are_not_told_apart() {
        assert_eq!(of(&[entry("ci", 5, &[SPEC, CHANGED_BY_ANNOTATION]), entry("bob", 5, &[SPEC])]), "nobody");
        let mut applied = entry("ci", 5, &[SPEC, CHANGED_BY_ANNOTATION]);
        applied["operation"] = json!("Apply");
        assert_eq!(of(&[entry("ci", 5, &[SPEC]), applied]), claimed("ci", 5), "one manager, two operations");
    }

    #[test]
    fn an_entry_without_a_time_is_the_oldest() {
        let mut timeless = entry("old", 9, &[SPEC]);
        timeless["time"] = Value::Null;
        assert_eq!(of(std::slice::from_ref(&timeless)), "manager=old");
        assert_eq!(of(&[timeless, entry("argo", 1, &[SPEC])]), by("argo", 1));
    }

    #[test]
    fn only_the_confirmation_of_a_deletion_names_somebody() {
        let confirmed = [
            entry("argo", 5, &[SPEC]),
            entry("bob", 7, &[CONFIRM_DELETION_ANNOTATION, CHANGED_BY_ANNOTATION]),
            entry("argo", 9, &[ROTATE_ANNOTATION]),
        ];
        let deleted = |more: &Value| shown(&resource(&confirmed, more));
        let time = "2026-01-01T00:00:10Z";
        assert_eq!(deleted(&json!({ "deletionTimestamp": time })), claimed("bob", 7));
        let unconfirmed = json!({ CONFIRM_DELETION_ANNOTATION: "false" });
        assert_eq!(deleted(&json!({ "deletionTimestamp": time, "annotations": unconfirmed })), "nobody");
    }
}
