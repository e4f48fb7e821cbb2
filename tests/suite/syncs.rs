//! Server-side apply, which Argo CD and Flux use to sync: it replaces changes by hand with the state in git.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use opsadmin_operator::api::{ApiAccount, definition};
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, cluster};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_mins(1);

type Lists = (Vec<String>, Vec<String>);

fn in_git() -> Lists {
    (vec!["Customer".to_owned()], vec!["203.0.113.0/24".to_owned()])
}

fn widened() -> Lists {
    let (roles, addresses) = in_git();
    ([roles, vec!["Administrator".to_owned()]].concat(), [addresses, vec!["0.0.0.0/0".to_owned()]].concat())
}

async fn patch<P: serde::Serialize + std::fmt::Debug>(
    accounts: &Api<ApiAccount>,
    params: &PatchParams,
    patch: &Patch<P>,
) -> Lists {
    let spec = accounts.patch("acme", params, patch).await.expect("the API server takes it").spec;
    (spec.roles, spec.allowed_ips.unwrap_or_default())
}

/// Applies the manifest from git, as Argo CD and Flux do repeatedly. Returns the roles and addresses of the result.
async fn sync(accounts: &Api<ApiAccount>) -> Lists {
    let (roles, addresses) = in_git();
    let manifest = json!({
        "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": "acme" },
        "spec": { "roles": roles, "allowedIPs": addresses },
    });
    patch(accounts, &PatchParams::apply("argocd-controller").force(), &Patch::Apply(manifest)).await
}

async fn widen(accounts: &Api<ApiAccount>) -> Lists {
    let (roles, addresses) = widened();
    let by_hand = PatchParams { field_manager: Some("kubectl-patch".to_owned()), ..PatchParams::default() };
    patch(accounts, &by_hand, &Patch::Merge(json!({ "spec": { "roles": roles, "allowedIPs": addresses } }))).await
}

#[tokio::test]
async fn a_sync_removes_roles_and_addresses_that_were_added_by_hand() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("sync").await;
    let accounts = Api::namespaced(cluster.client().await, namespace.name());
    assert_eq!(sync(&accounts).await, in_git());
    assert_eq!(widen(&accounts).await, widened());
    assert_eq!(sync(&accounts).await, in_git());
}

/// Returns the definition with set lists, in which each field manager keeps its own items.
fn with_sets() -> Value {
    let mut sets = serde_json::to_value(definition()).expect("it is JSON");
    let spec = &mut sets["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    for list in ["roles", "allowedIPs"] {
        spec[list]["x-kubernetes-list-type"] = json!("set");
        spec[list].as_object_mut().expect("a schema").remove("x-kubernetes-validations");
    }
    sets
}

async fn install(client: &Client, definition: &Value) {
    let definitions: Api<DynamicObject> =
        Api::all_with(client.clone(), &ApiResource::erase::<CustomResourceDefinition>(&()));
    let params = PatchParams::apply("kubectl").force();
    let installed = definitions.patch("apiaccounts.ops-admin.com", &params, &Patch::Apply(definition)).await;
    installed.expect("the API server takes the definition");
}

/// Waits until the API server refuses an account with a duplicate role for this reason.
async fn until_refused(accounts: &Api<ApiAccount>, reason: &str) {
    let twice = json!({
        "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": "twice" },
        "spec": { "roles": ["Customer", "Customer"] },
    });
    let twice: ApiAccount = serde_json::from_value(twice).expect("it is an ApiAccount");
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the definition to be in force", SOON, async || match accounts.create(&dry_run, &twice).await {
        Err(kube::Error::Api(status)) if status.message.contains(reason) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_sync_removes_items_once_the_definition_has_no_set_lists() {
    let cluster = Cluster::of_its_own().await;
    let client = cluster.client().await;
    let accounts = Api::namespaced(client.clone(), "default");
    install(&client, &with_sets()).await;
    until_refused(&accounts, "Duplicate value").await;
    sync(&accounts).await;
    widen(&accounts).await;
    assert_eq!(sync(&accounts).await, widened(), "a set keeps what others added");

    install(&client, &serde_json::to_value(definition()).expect("it is JSON")).await;
    until_refused(&accounts, "Customer is listed twice").await;
    assert_eq!(sync(&accounts).await, in_git());
    assert_eq!(widen(&accounts).await, widened());
    assert_eq!(sync(&accounts).await, in_git());
}
