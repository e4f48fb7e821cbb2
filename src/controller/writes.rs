//! The writes of the controller to a resource: its finalizer and its status.
//!
//! A status is patched field by field, so that fields of a newer version of this program are kept.

use super::context::Context;
use crate::api::{ApiAccount, ApiAccountStatus, FINALIZER, Lenient, MANAGER};
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

/// The fields of a status that this program writes.
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

impl Context {
    /// Adds or removes the finalizer. If the resource has changed since it was read, the API server refuses the patch,
    /// and the next reconcile decides.
    pub(super) async fn patch_finalizers(&self, resource: &ApiAccount, wanted: bool) -> Result<(), kube::Error> {
        let mut finalizers = resource.finalizers().to_vec();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        if wanted {
            finalizers.push(FINALIZER.to_owned());
        }
        let patch = json!({
            "metadata": { "resourceVersion": resource.resource_version(), "finalizers": finalizers }
        });
        let accounts: Api<ApiAccount> = self.api(resource);
        accounts.patch_metadata(&resource.name_any(), &as_manager(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    pub(super) async fn patch_status(
        &self,
        resource: &ApiAccount,
        status: &ApiAccountStatus,
    ) -> Result<(), kube::Error> {
        let has_status = self.memory.status(resource).is_some();
        let patch = status_patch(resource.metadata.uid.as_deref(), has_status, status)
            .and_then(serde_json::from_value)
            .map_err(kube::Error::SerdeError)?;
        let patch = Patch::Json::<()>(patch);
        let accounts: Api<Lenient<ApiAccount>> = self.api(resource);
        let Lenient(written) = accounts.patch_status(&resource.name_any(), &as_manager(), &patch).await?;
        self.memory.status_written(&written);
        Ok(())
    }

    fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self, resource: &ApiAccount) -> Api<K> {
        Api::namespaced(self.client.clone(), &resource.namespace().unwrap_or_default())
    }
}

fn as_manager() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

/// Returns a JSON patch for the status of the resource with this UID. `has_status`: the resource already has a status.
///
/// A resource may have been deleted and created again under its name. The API server does not compare UIDs when it
/// writes a status, so the patch tests the UID.
///
/// # Errors
/// The status cannot be written as JSON.
fn status_patch(uid: Option<&str>, has_status: bool, status: &ApiAccountStatus) -> Result<Value, serde_json::Error> {
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
            // Only a field that exists can be removed, so it is added first.
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
        let key = KeyStatus {
            id: text(),
            api_key: text(),
            state: text(),
            created: time.clone(),
            expires: None,
            last_used: None,
        };
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
