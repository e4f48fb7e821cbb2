//! The operator's pods, as the chart installs them for production.

use serde_json::json;

use crate::scene::{Place, Scene, identity, name};
use crate::world::CONTROLLERS;

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
    let scene = Scene::set("steady").await;
    scene.apply(&account("steady", "Before.")).await;
    scene.ready("steady").await;
    let (before, pair) = (scene.secret(PLACE).await, scene.in_secret(PLACE).await);
    assert_eq!(pair, scene.in_database("steady").await);
    assert!(scene.logs_in(&pair.api_key).await);

    let release = scene.release;
    let kubectl = async |arguments: &[&str]| release.world.cluster.kubectl(release.plan.namespace, arguments).await;
    let lax = kubectl(&["run", "lax", "--image=registry.example.com/lax", "--dry-run=server"]).await;
    assert!(lax.stderr.contains("violates PodSecurity"), "the namespace is strict: {lax:?}");
    let pods = release.pods().await;
    assert_eq!(pods.len(), 2, "{pods:?}");
    let (mut leaders, mut old) = (0, Vec::new());
    for pod in &pods {
        old.push(identity(pod).0);
        assert_eq!(identity(pod).2, 0, "it was never restarted");
        let namespace = release.plan.namespace;
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
