//! Decides which annotations of a resource stay when a manifest that does not name them is applied. An annotation is
//! removed only if an earlier apply of the manifest has set it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::Value;

/// The annotation in which a client-side `kubectl apply` stores the manifest that it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The field manager of Flux. Flux takes over the fields that kubectl has set, and removes those that the manifest does
/// not name.
const FLUX: &str = "kustomize-controller";

/// Returns whether this annotation stays.
pub fn outlives(metadata: &ObjectMeta, annotation: &str) -> bool {
    !was_applied(metadata, annotation) && !is_set_by_appliers_only(metadata, annotation)
}

/// Returns whether a client-side apply has set the annotation. The next client-side apply then removes it.
fn was_applied(metadata: &ObjectMeta, annotation: &str) -> bool {
    let last = metadata.annotations.as_ref().and_then(|annotations| annotations.get(LAST_APPLIED));
    // An apply that finds no valid JSON here removes nothing.
    let last: Option<Value> = last.and_then(|last| serde_json::from_str(last).ok());
    last.is_some_and(|last| last["metadata"]["annotations"].get(annotation).is_some())
}

/// Returns whether only field managers that apply the spec server-side have set the annotation. The next server-side
/// apply then removes it. With Flux, the field managers of kubectl count as well.
fn is_set_by_appliers_only(metadata: &ObjectMeta, annotation: &str) -> bool {
    let fields =
        |entry: &ManagedFieldsEntry| entry.fields_v1.as_ref().map(|fields| fields.0.clone()).unwrap_or_default();
    let applies = |entry: &&ManagedFieldsEntry| {
        entry.operation.as_deref() == Some("Apply") && fields(entry).get("f:spec").is_some()
    };
    let name = |entry: &ManagedFieldsEntry| entry.manager.clone().unwrap_or_default();
    let managers = || metadata.managed_fields.iter().flatten();
    let is_flux = managers().filter(applies).any(|entry| name(entry) == FLUX);
    let has = |entry: &&ManagedFieldsEntry| {
        fields(entry)["f:metadata"]["f:annotations"].get(format!("f:{annotation}")).is_some()
    };
    let mut owners = managers().filter(has).peekable();
    owners.peek().is_some() && owners.all(|entry| applies(&entry) || (is_flux && name(entry).starts_with("kubectl")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PAUSED_ANNOTATION as PAUSED;
    use serde_json::json;

    fn manager(name: &str, operation: &str, spec: bool) -> Value {
        let mut fields = json!({ "f:metadata": { "f:annotations": { ".": {}, format!("f:{PAUSED}"): {} } } });
        if spec {
            fields["f:spec"] = json!({ "f:enabled": {} });
        }
        json!({ "manager": name, "operation": operation, "fieldsV1": fields })
    }

    fn stays(last_applied: Option<&str>, managers: &[Value]) -> bool {
        let mut annotations = json!({ PAUSED: "true" });
        if let Some(last) = last_applied {
            annotations[LAST_APPLIED] = last.into();
        }
        let metadata = json!({ "annotations": annotations, "managedFields": managers });
        outlives(&serde_json::from_value(metadata).unwrap(), PAUSED)
    }

    #[test]
    fn an_annotation_of_another_field_manager_stays() {
        let annotate = manager("kubectl-annotate", "Update", false);
        assert!(stays(None, &[]));
        assert!(stays(None, std::slice::from_ref(&annotate)));
        assert!(stays(
            Some(r#"{"metadata":{"annotations":{"other":"x"}},"spec":{}}"#),
            std::slice::from_ref(&annotate)
        ));
        assert!(stays(None, &[annotate.clone(), manager("argocd-controller", "Apply", true)]), "both have set it");
        assert!(stays(None, &[manager("on-call", "Apply", false)]), "who applies nothing else");
        assert!(stays(Some("{"), &[annotate]));
    }

    #[test]
    fn an_applied_annotation_is_removed_when_the_manifest_no_longer_names_it() {
        let last = format!(r#"{{"metadata":{{"annotations":{{"{PAUSED}":"true"}}}},"spec":{{}}}}"#);
        assert!(!stays(Some(&last), &[manager("kubectl-client-side-apply", "Update", true)]));
        assert!(!stays(None, &[manager("argocd-controller", "Apply", true)]));
    }

    #[test]
    fn flux_removes_an_annotation_of_kubectl() {
        let flux = json!({ "manager": FLUX, "operation": "Apply", "fieldsV1": { "f:spec": {} } });
        assert!(!stays(None, &[manager("kubectl-annotate", "Update", false), flux.clone()]));
        assert!(stays(None, &[manager("flux-client-side-apply", "Update", false), flux]));
    }
}
