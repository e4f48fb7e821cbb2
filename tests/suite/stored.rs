//! Resources that were stored under an earlier CustomResourceDefinition, with fewer fields and fewer rules.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use opsadmin_operator::api::definition;
use serde_json::{Value, json};

use crate::support::cluster::Cluster;
use crate::support::opsadmin::{Opsadmin, spawn_controller};
use crate::support::process::Folder;
use crate::support::wait::eventually;

const NAME: &str = "apiaccounts.ops-admin.com";
const SOON: Duration = Duration::from_mins(1);

/// Returns the definition without the rules in CEL, and without two fields.
fn earlier() -> Value {
    let mut earlier = serde_json::to_value(definition()).expect("it is JSON");
    let properties = &mut earlier["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    for (part, field) in [("spec", "managementPolicy"), ("status", "databaseId")] {
        let removed = properties[part]["properties"].as_object_mut().expect("an object").remove(field);
        assert!(removed.is_some(), "{part}.{field} is in the definition");
    }
    without_rules(properties);
    earlier
}

fn without_rules(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        object.remove("x-kubernetes-validations");
        object.values_mut().for_each(without_rules);
    }
}

async fn install(cluster: &Cluster, definition: &Value) {
    let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    cluster.kubectl_with("", &arguments, &definition.to_string()).await.succeeded();
    cluster.kubectl("", &["wait", "crd", NAME, "--for=condition=Established", "--timeout=60s"]).await.succeeded();
}

#[tokio::test]
async fn resources_that_an_earlier_definition_stored_are_reconciled_and_deleted() {
    let cluster = Cluster::of_its_own().await;
    install(&cluster, &earlier()).await;
    let account = |name: &str, roles: Value| {
        json!({
            "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": name },
            "spec": { "roles": roles },
        })
        .to_string()
    };
    // The present rules refuse a role that is listed twice.
    let valid = account("valid", json!(["Customer"]));
    let doubled = account("doubled", json!(["Customer", "Customer"]));
    for manifest in [&valid, &doubled] {
        eventually("the earlier definition to be in force", SOON, async || {
            let applied = cluster.kubectl_with("default", &["apply", "-f", "-"], manifest).await;
            if applied.status.success() { Ok(()) } else { Err(applied.stderr) }
        })
        .await;
    }

    install(&cluster, &serde_json::to_value(definition()).expect("it is JSON")).await;
    let another = account("another", json!(["Customer", "Customer"]));
    eventually("the new rules to be in force", SOON, async || {
        let applied = cluster.kubectl_with("default", &["apply", "--dry-run=server", "-f", "-"], &another).await;
        if applied.stderr.contains("listed twice") { Ok(()) } else { Err(format!("{applied:?}")) }
    })
    .await;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client().await);
    let stored = definitions.get(NAME).await.expect("it is there").status.and_then(|status| status.stored_versions);
    let known: Vec<_> = definition().spec.versions.into_iter().map(|version| version.name).collect();
    assert_eq!(stored, Some(known), "the program reads each version in which resources are stored");

    let folder = Folder::new("stored");
    let (url, keyring) =
        (format!("sqlite://{}", folder.path().join("opsadmin.db").display()), folder.path().join("ring"));
    Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]).run().await.succeeded();
    let controller = spawn_controller(cluster.kubeconfig(), &["default"], &url, &keyring, &[]);
    for (name, condition) in [("valid", "Ready=true"), ("doubled", "Ready=false")] {
        let wait = ["wait", "apiaccount", name, &format!("--for=condition={condition}"), "--timeout=60s"];
        cluster.kubectl("default", &wait).await.succeeded();
    }
    let read = ["get", "apiaccount", "valid", "-o", "jsonpath={.status.databaseId}"];
    assert_eq!(cluster.kubectl("default", &read).await.succeeded().len(), 36, "the new field is stored");
    let read = ["get", "apiaccount", "doubled", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].reason}"];
    assert_eq!(cluster.kubectl("default", &read).await.succeeded(), "InvalidSpec");
    cluster.kubectl("default", &["delete", "apiaccounts", "--all", "--timeout=60s"]).await.succeeded();
    let (code, log) = controller.terminate(SOON).await;
    assert_eq!(code, 0, "{log}");
}
