//! The operator's pods, as the chart installs them for production.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tokio::sync::Mutex;

use crate::release::Release;
use crate::scene::{Place, Scene, identity, name};
use crate::support::wait::eventually;
use crate::world::{CONTROLLERS, SOON};

/// These tests concern the same pods, so one runs after the other.
static PODS: Mutex<()> = Mutex::const_new(());

const PLACE: Place =
    Place { secret: "steady-opsadmin", api_key: "OPSADMIN_API_KEY", secret_key: "OPSADMIN_SECRET_KEY" };

/// Returns the manifest of an account with this description.
fn account(name: &str, description: &str) -> String {
    json!({
        "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": name },
        "spec": { "roles": ["Customer"], "description": description },
    })
    .to_string()
}

/// Deletes the operator's pod. The next pod continues, and does not even write the Secret again.
pub async fn runs_as_the_chart_says_and_is_replaced_without_a_key_changing() {
    let _pods = PODS.lock().await;
    let scene = Scene::set("steady").await;
    scene.apply(&account("steady", "Before.")).await;
    scene.ready("steady").await;
    let (before, pair) = (scene.secret(PLACE).await, scene.in_secret(PLACE).await);
    assert_eq!(pair, scene.in_database("steady").await);
    assert!(scene.logs_in(&pair.api_key).await);

    let release = scene.release;
    let kubectl =
        async |arguments: &[&str]| release.world.cluster.kubectl(release.installation.namespace, arguments).await;
    let lax = kubectl(&["run", "lax", "--image=registry.example.com/lax", "--dry-run=server"]).await;
    assert!(lax.stderr.contains("violates PodSecurity"), "the namespace is strict: {lax:?}");
    let pods = release.pods().await;
    assert_eq!(pods.len(), 2, "{pods:?}");
    let (mut leaders, mut old) = (0, Vec::new());
    for pod in &pods {
        old.push(identity(pod).0);
        assert_eq!(identity(pod).2, 0, "it was never restarted");
        let namespace = release.installation.namespace;
        let metrics = format!("/api/v1/namespaces/{namespace}/pods/{}:8080/proxy/metrics", name(pod));
        let metrics = kubectl(&["get", "--raw", &metrics]).await.succeeded();
        let leads = metrics.contains("opsadmin_leader 1");
        leaders += usize::from(leads);
        let log = kubectl(&["logs", name(pod)]).await.succeeded();
        assert!(log.contains("the account database is ready") == leads && !log.contains(&pair.secret_key), "{log}");
    }
    assert_eq!(leaders, 1);

    kubectl(&["delete", "pod", "-l", CONTROLLERS]).await.succeeded();
    release.rolled_out().await;
    let pods = release.pods().await;
    assert!(pods.iter().all(|pod| !old.contains(&identity(pod).0)), "other pods");

    scene.apply(&account("steady", "After.")).await;
    scene.ready("steady").await;
    let after = scene.secret(PLACE).await;
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version, "it was left alone");
    assert_eq!(scene.in_database("steady").await, pair);
    assert!(scene.logs_in(&pair.api_key).await);
}

/// The `ConfigMap` reaches the running pods, and so does its deletion.
pub async fn a_config_map_changes_the_log_filter_without_a_restart() {
    let _pods = PODS.lock().await;
    let scene = Scene::set("logged").await;
    let release = scene.release;
    scene.apply(&account("logged", "Before.")).await;
    scene.ready("logged").await;
    let pods = release.pods().await;
    let kubectl =
        async |arguments: &[&str]| release.world.cluster.kubectl(release.installation.namespace, arguments).await;

    let config_map = format!("{}-log-filter", release.full_name());
    let filter = "--from-literal=filter=opsadmin_operator=debug";
    kubectl(&["create", "configmap", &config_map, filter]).await.succeeded();
    each_logs(release, &pods, "the file has changed the log filter").await;
    // The leader reports on this level that somebody else has changed an account.
    scene.release.opsadmin(&["suspend", "logged", "--reason", "a test"]).run().await.succeeded();
    eventually("a line of the level DEBUG", SOON, async || {
        let log = release.log().await;
        if log.contains(r#""level":"DEBUG""#) { Ok(()) } else { Err(log) }
    })
    .await;

    kubectl(&["delete", "configmap", &config_map]).await.succeeded();
    each_logs(release, &pods, "the log filter is as at the start again").await;
    scene.release.opsadmin(&["resume", "logged"]).run().await.succeeded();
    scene.ready("logged").await;
    for pod in &pods {
        let log = kubectl(&["logs", name(pod)]).await.succeeded();
        let (_, afterwards) = log.split_once("as at the start again").expect("the line was there");
        assert!(!afterwards.contains(r#""level":"DEBUG""#), "{afterwards}");
    }
    let same = release.pods().await;
    let identities = |pods: &[Pod]| pods.iter().map(|pod| format!("{:?}", identity(pod))).collect::<Vec<_>>();
    assert_eq!(identities(&same), identities(&pods), "nothing was restarted");
}

/// Waits until the log of each pod has this text. The kubelet refreshes the files of a pod when the pod changes, and
/// otherwise only about once a minute.
async fn each_logs(release: &Release, pods: &[Pod], text: &str) {
    let cluster = &release.world.cluster;
    let mut times = 0;
    eventually(text, SOON, async || {
        times += 1;
        let annotate = ["annotate", "pods", "-l", CONTROLLERS, "--overwrite", &format!("reload={times}")];
        cluster.kubectl(release.installation.namespace, &annotate).await.succeeded();
        for pod in pods {
            let log = cluster.kubectl(release.installation.namespace, &["logs", name(pod)]).await.succeeded();
            if !log.contains(text) {
                return Err(log);
            }
        }
        Ok(())
    })
    .await;
}
