//! A resource without what decides nothing, packed into one small text.
//!
//! A resource of 2 KiB in the API server is about 3 KiB of objects in memory, and half a KiB packed.

use super::phrases::{restore, shorten};
use crate::api::{ApiAccount, GROUP};
use crate::reconcile::may_have_nulls;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A packed resource.
#[derive(Clone)]
pub(super) struct Packed(Form);

#[derive(Clone)]
enum Form {
    Text {
        text: Arc<[u8]>,
        is_partial: bool,
    },
    /// A resource that reads differently after it was packed. None is known.
    Whole(Arc<ApiAccount>),
}

impl Packed {
    /// Packs a resource.
    pub fn new(resource: &ApiAccount) -> Self {
        let resource = trimmed(resource);
        let is_partial = resource.status.as_ref().is_some_and(|status| status.is_partial);
        let text = serde_json::to_vec(&resource).map(|json| Arc::from(shorten(&json)));
        match text.map(|text| Form::Text { text, is_partial }) {
            Ok(form) if form.unpack().is_ok_and(|read| *read == resource) => Self(form),
            _ => Self(Form::Whole(Arc::new(resource))),
        }
    }

    /// Returns the resource.
    ///
    /// # Errors
    /// The text cannot be read. That never happens, because it was read once when the resource was packed.
    pub fn unpack(&self) -> serde_json::Result<Arc<ApiAccount>> {
        self.0.unpack()
    }
}

impl Form {
    fn unpack(&self) -> serde_json::Result<Arc<ApiAccount>> {
        match self {
            Self::Text { text, is_partial } => {
                let mut resource: ApiAccount = serde_json::from_slice(&restore(text))?;
                if let Some(status) = &mut resource.status {
                    status.is_partial = *is_partial;
                }
                Ok(Arc::new(resource))
            }
            Self::Whole(resource) => Ok(Arc::clone(resource)),
        }
    }
}

/// Returns the resource with the metadata that a reconcile uses.
fn trimmed(resource: &ApiAccount) -> ApiAccount {
    let found = &resource.metadata;
    let decides = |(name, value): &(&String, &String)| is_ours(name) || may_have_nulls(name, value);
    let annotations = found.annotations.iter().flatten().filter(decides);
    let annotations: BTreeMap<_, _> = annotations.map(|(name, value)| (name.clone(), value.clone())).collect();
    let metadata = ObjectMeta {
        annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
        deletion_timestamp: found.deletion_timestamp.clone(),
        finalizers: found.finalizers.clone(),
        generation: found.generation,
        name: found.name.clone(),
        namespace: found.namespace.clone(),
        resource_version: found.resource_version.clone(),
        uid: found.uid.clone(),
        ..ObjectMeta::default()
    };
    ApiAccount { metadata, spec: resource.spec.clone(), status: resource.status.clone() }
}

fn is_ours(annotation: &str) -> bool {
    annotation.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{FINALIZER, ROTATE_ANNOTATION};
    use serde_json::{Value, json};

    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

    fn resource() -> Value {
        json!({
            "apiVersion": "ops-admin.com/v1",
            "kind": "ApiAccount",
            "metadata": {
                "name": "partner-12345",
                "namespace": "partners",
                "uid": "0b7bdc42-6ad4-4e55-8a3c-63a0a3f0a7c1",
                "resourceVersion": "1234567",
                "generation": 1,
                "creationTimestamp": "2026-11-29T10:00:00Z",
                "finalizers": [FINALIZER],
                "labels": { "team": "partners" },
                "annotations": { ROTATE_ANNOTATION: "once", LAST_APPLIED: "{\"spec\":{}}", "other": "null" },
                "managedFields": [{ "manager": "kubectl" }],
            },
            "spec": {
                "description": "Partner 12345, who reads plans and enrolls customers",
                "roles": ["Customer", "PlansAndRates"],
                "allowedIPs": ["203.0.113.7/32", "198.51.100.0/24"],
                "rotation": { "interval": "720h", "overlap": "24h" },
            },
            "status": {
                "observedGeneration": 1,
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Reconciled", "message": "account and Secret are as declared",
                    "lastTransitionTime": "2026-11-29T10:00:01Z", "observedGeneration": 1,
                }],
                "accountId": "5f0c8a52-1111-4e55-8a3c-63a0a3f0a7c1",
                "databaseId": "5f0c8a52-2222-4e55-8a3c-63a0a3f0a7c1",
                "secretName": "partner-12345-opsadmin",
                "secretResourceVersion": "1234566",
                "nextRotation": "2026-12-29T10:00:01Z",
                "keys": [{
                    "id": "5f0c8a52-3333-4e55-8a3c-63a0a3f0a7c1", "apiKey": "opsa_pk_0123456789abcdefghijklmnopqr",
                    "state": "Active", "created": "2026-11-29T10:00:01Z",
                }],
            },
        })
    }

    fn read(resource: Value) -> ApiAccount {
        serde_json::from_value(resource).unwrap()
    }

    #[test]
    fn what_decides_is_kept() {
        let packed = Packed::new(&read(resource())).unpack().unwrap();
        let mut expected = resource();
        let metadata = expected["metadata"].as_object_mut().unwrap();
        for left_out in ["creationTimestamp", "labels", "managedFields"] {
            metadata.remove(left_out);
        }
        metadata.insert("annotations".to_owned(), json!({ ROTATE_ANNOTATION: "once" }));
        assert_eq!(*packed, read(expected));
    }

    #[test]
    fn fields_that_kubectl_removed_are_still_found() {
        let mut applied = resource();
        applied["metadata"]["annotations"][LAST_APPLIED] = json!("{\"spec\":{\"affiliate\":null}}");
        let resource = read(applied);
        let found = crate::reconcile::fields_applied_as_null(&Packed::new(&resource).unpack().unwrap());
        assert_eq!(found, crate::reconcile::fields_applied_as_null(&resource));
        assert_eq!(found, ["affiliate"]);
    }

    #[test]
    fn odd_values_are_kept() {
        let mut odd = resource();
        odd["spec"]["deletionPolicy"] = json!("Later");
        odd["spec"]["description"] = json!("\u{1}\u{1f} \"apiVersion\":\"ops-admin.com/v1\"");
        odd["status"]["nextRotation"] = json!("no time");
        let resource = read(odd);
        assert!(resource.status.as_ref().unwrap().is_partial);
        let packed = Packed::new(&resource);
        assert!(matches!(packed.0, Form::Text { .. }));
        let unpacked = packed.unpack().unwrap();
        assert_eq!((&unpacked.spec, &unpacked.status), (&resource.spec, &resource.status));
    }

    #[test]
    fn a_resource_takes_little_memory() {
        let mut usual = resource();
        usual["metadata"]["annotations"] = json!({});
        let Packed(Form::Text { text, .. }) = Packed::new(&read(usual)) else { panic!("it is packed") };
        assert!(text.len() < 550, "{} bytes: {}", text.len(), String::from_utf8_lossy(&text));
    }
}
