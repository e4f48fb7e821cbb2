//! A resource without what decides nothing, packed into one small text.
//!
//! A resource of 2 KiB in the API server is about 3 KiB of objects in memory, and half a KiB packed.

use super::phrases::{restore, shorten};
use crate::api::{ApiAccount, GROUP};
use crate::reconcile::may_have_nulls;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A packed resource. Times are whole seconds, as the API server and this program write them.
#[derive(Clone)]
pub(super) struct Packed(Form);

#[derive(Clone)]
enum Form {
    Text {
        text: Arc<[u8]>,
        is_partial: bool,
    },
    /// A resource that cannot be written as text. None is known.
    Whole(Arc<ApiAccount>),
}

impl Packed {
    /// Packs a resource.
    pub fn new(resource: &ApiAccount) -> Self {
        let resource = trimmed(resource);
        let is_partial = resource.status.as_ref().is_some_and(|status| status.is_partial);
        match serde_json::to_vec(&resource) {
            Ok(json) => Self(Form::Text { text: Arc::from(shorten(&json)), is_partial }),
            Err(_) => Self(Form::Whole(Arc::new(resource))),
        }
    }

    /// Returns the resource.
    ///
    /// # Errors
    /// The text cannot be read. No such text is known: whatever the API server shows reads the same after it was packed.
    pub fn unpack(&self) -> serde_json::Result<Arc<ApiAccount>> {
        match &self.0 {
            Form::Text { text, is_partial } => {
                let mut resource: ApiAccount = serde_json::from_slice(&restore(text))?;
                if let Some(status) = &mut resource.status {
                    status.is_partial = *is_partial;
                }
                Ok(Arc::new(resource))
            }
            Form::Whole(resource) => Ok(Arc::clone(resource)),
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
    use proptest::prelude::*;
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

    /// The fields whose values the properties replace.
    const FIELDS: [&str; 33] = [
        "/metadata/uid",
        "/metadata/resourceVersion",
        "/metadata/finalizers/0",
        "/metadata/annotations/ops-admin.com~1rotate",
        "/spec",
        "/spec/description",
        "/spec/enabled",
        "/spec/useRefreshToken",
        "/spec/affiliate",
        "/spec/roles",
        "/spec/roles/0",
        "/spec/allowedIPs",
        "/spec/allowedIPs/1",
        "/spec/secret",
        "/spec/rotation",
        "/spec/rotation/interval",
        "/spec/rotation/overlap",
        "/spec/adoptionPolicy",
        "/spec/managementPolicy",
        "/spec/deletionPolicy",
        "/status",
        "/status/observedGeneration",
        "/status/conditions",
        "/status/conditions/0",
        "/status/conditions/0/reason",
        "/status/conditions/0/lastTransitionTime",
        "/status/accountId",
        "/status/secretResourceVersion",
        "/status/nextRotation",
        "/status/drift",
        "/status/keys",
        "/status/keys/0/state",
        "/status/keys/0/created",
    ];

    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![any::<String>(), Just("Never".to_owned()), Just("2026-12-29T10:00:02Z".to_owned())];
        let text = text.prop_map(Value::from);
        let number = prop_oneof![any::<i64>().prop_map(Value::from), any::<f64>().prop_map(Value::from)];
        let plain = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number, text];
        let list = proptest::collection::vec(plain.clone(), 0..3).prop_map(Value::from);
        let map = proptest::collection::btree_map("[a-z]{1,3}|keys|name|state", plain.clone(), 0..3);
        prop_oneof![plain, list, map.prop_map(|map| json!(map))]
    }

    proptest! {
        #[test]
        fn whatever_can_be_read_reads_the_same_after_it_was_packed(
            changes in proptest::collection::vec((0..FIELDS.len(), value()), 0..6)
        ) {
            let mut odd = resource();
            for (field, value) in changes {
                let (parent, name) = FIELDS[field].rsplit_once('/').unwrap();
                match odd.pointer_mut(parent) {
                    Some(Value::Object(parent)) => _ = parent.insert(name.replace("~1", "/"), value),
                    Some(Value::Array(parent)) if !parent.is_empty() => parent[0] = value,
                    _ => {}
                }
            }
            if let Ok(resource) = serde_json::from_value::<ApiAccount>(odd) {
                let packed = Packed::new(&resource);
                prop_assert!(!matches!(packed.0, Form::Whole(_)));
                prop_assert_eq!(&*packed.unpack().unwrap(), &trimmed(&resource));
            }
        }
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
