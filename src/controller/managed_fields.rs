//! Reads from the managed fields of a resource who has set which of its fields.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

/// Returns the entries of writes to the resource itself, not to its status.
pub(super) fn entries(metadata: &ObjectMeta) -> impl Iterator<Item = &ManagedFieldsEntry> {
    let all = metadata.managed_fields.iter().flatten();
    all.filter(|entry| entry.subresource.as_deref().is_none_or(str::is_empty))
}

/// Returns whether the entry has a field of the spec.
pub(super) fn has_spec(entry: &ManagedFieldsEntry) -> bool {
    entry.fields_v1.as_ref().is_some_and(|fields| fields.0.get("f:spec").is_some())
}

/// Returns whether the entry has this annotation.
pub(super) fn has_annotation(entry: &ManagedFieldsEntry, annotation: &str) -> bool {
    let annotations = entry.fields_v1.as_ref().map(|fields| &fields.0["f:metadata"]["f:annotations"]);
    annotations.is_some_and(|annotations| annotations.get(format!("f:{annotation}")).is_some())
}
