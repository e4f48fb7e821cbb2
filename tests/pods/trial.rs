//! The chart with its default values, as a newcomer tries it: installed, used, and removed without a trace.
//!
//! This release watches all namespaces and owns the CustomResourceDefinition. So the other releases come after it.

use std::time::Instant;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::support::helm::{chart, first_account};
use crate::support::wait::eventually;
use crate::world::{IMAGE, SOON, World, once, world};

const NAMESPACE: &str = "trial-system";
/// A namespace of a user of the operator.
const USER: &str = "trial-user";
const DEPLOYMENT: &str = "opsadmin-opsadmin-operator";
/// Where the notes of the chart create the first account.
const FIRST: (&str, &str) = ("default", "first-account");

/// Waits until the trial is over. The first test that calls this function does it.
pub async fn tried() {
    static TRIED: OnceCell<Option<()>> = OnceCell::const_new();
    once(&TRIED, try_it().boxed_local()).await;
}

/// Follows the chart's README: install, first account, uninstall, and remove everything. Only the namespaces may take
/// longer.
pub async fn the_defaults_reach_a_first_account_that_survives_its_pod_and_leave_nothing() {
    tried().await;
    let namespaces: Api<Namespace> = Api::all(world().await.client.clone());
    for namespace in [NAMESPACE, USER] {
        eventually(&format!("the namespace {namespace} to be gone"), SOON, async || {
            match namespaces.get_opt(namespace).await {
                Ok(None) => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        })
        .await;
    }
}

async fn try_it() {
    let world = world().await;
    let began = Instant::now();
    for namespace in [NAMESPACE, USER] {
        world.create_namespace(namespace).await;
    }
    world.volume(NAMESPACE, &format!("{DEPLOYMENT}-database")).await;
    let notes = install(world).await;
    world.rolled_out(NAMESPACE, DEPLOYMENT).await;
    world.apply(FIRST.0, &first_account(&notes)).await;
    ready(world, FIRST).await;
    println!("the chart's defaults have a first account after {:.1} s", began.elapsed().as_secs_f64());

    the_next_pod_has_the_same_keys(world).await;
    remove(world).await;
}

async fn install(world: &World) -> String {
    let image = format!("--set=image.repository={IMAGE}");
    let install = ["install", "opsadmin", &chart(), "--namespace", NAMESPACE, &image];
    world.helm.run(&install).await.succeeded()
}

async fn ready(world: &World, (namespace, name): (&str, &str)) {
    let account = format!("apiaccount/{name}");
    let said = world.cluster.kubectl(namespace, &["wait", "--for=condition=Ready", &account, "--timeout=50s"]).await;
    assert!(said.status.success(), "{said:?}\n{}", world.state(NAMESPACE).await);
}

/// Deletes the pod, and then the Secret of the account. The next pod must write the same keys from the volume.
async fn the_next_pod_has_the_same_keys(world: &World) {
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), FIRST.0);
    let name = format!("{}-opsadmin", FIRST.1);
    let before = secrets.get(&name).await.expect("the account is ready");
    world.cluster.kubectl(NAMESPACE, &["delete", "pod", "--all"]).await.succeeded();
    world.rolled_out(NAMESPACE, DEPLOYMENT).await;
    let unchanged = secrets.get(&name).await.expect("the pod has nothing to do with it");
    assert_eq!(unchanged.metadata.resource_version, before.metadata.resource_version);

    secrets.delete(&name, &DeleteParams::default()).await.expect("it is there");
    let after = eventually("the Secret to be written again", SOON, async || match secrets.get_opt(&name).await {
        Ok(Some(secret)) => Ok(secret),
        seen => Err(format!("{seen:?}\n{}", world.state(NAMESPACE).await)),
    })
    .await;
    assert!(after.data == before.data, "the Secret has other keys than before");
}

/// Removes everything in the order of the README. A namespace with an account of its own must not stay either.
async fn remove(world: &World) {
    let account = json!({
        "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": "other" }, "spec": {},
    });
    world.apply(USER, &account.to_string()).await;
    ready(world, (USER, "other")).await;
    let all = ["delete", "apiaccounts", "--all", "--all-namespaces", "--timeout=50s"];
    world.cluster.kubectl("", &all).await.succeeded();
    world.helm.run(&["uninstall", "opsadmin", "--namespace", NAMESPACE]).await.succeeded();
    world.controllers_gone(NAMESPACE).await;
    let volume = format!("{DEPLOYMENT}-database");
    world.cluster.kubectl(NAMESPACE, &["get", "pvc", &volume]).await.succeeded();
    let definition = ["delete", "crd", "apiaccounts.ops-admin.com", "--timeout=50s"];
    world.cluster.kubectl("", &definition).await.succeeded();
    world.cluster.kubectl("", &["delete", "namespace", "--wait=false", NAMESPACE, USER]).await.succeeded();
}
