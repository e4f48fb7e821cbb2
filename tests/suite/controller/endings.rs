//! The deletion of a resource that is only observed or paused. Its account and its Secret are treated according to its
//! policy.

use kube::api::{DeleteParams, Patch, PatchParams};
use opsadmin_operator::api::{ACCOUNT_LABEL, FINALIZER, MANAGED_BY_LABEL};
use serde_json::json;

use super::scene::Scene;

/// Returns the account's state in the database: whether it is enabled, and since when it is retained and deleted.
async fn acme(scene: &Scene) -> (bool, Option<i64>, Option<i64>) {
    let row = sqlx::query_as("SELECT enabled, retained_at, deleted_at FROM accounts WHERE name = 'acme'");
    row.fetch_one(&scene.sql().await).await.expect("it is there")
}

/// Creates an account, rebuilds its cluster, and declares the resource again.
async fn rebuilt(test_name: &str, spec: serde_json::Value, annotations: serde_json::Value) -> Scene {
    let mut scene = Scene::with_controller(test_name, &[]).await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    scene.stop().await;
    scene.strip_finalizers("acme").await;
    scene.accounts().delete("acme", &DeleteParams::default()).await.expect("it goes at once");
    scene.create("acme", spec).await;
    scene.annotate("acme", annotations).await;
    scene.start(&[]);
    scene
}

#[tokio::test]
async fn an_account_observed_after_a_rebuild_is_retained_after_its_deletion() {
    let scene = rebuilt("observed again", json!({ "managementPolicy": "Observe" }), json!({})).await;
    let observed = scene.ready("acme").await;
    assert_eq!(observed.metadata.finalizers.as_deref(), Some(&[FINALIZER.to_owned()][..]));
    scene.delete("acme").await;
    let (enabled, retained_at, deleted_at) = acme(&scene).await;
    assert!(enabled && retained_at.is_some() && deleted_at.is_none(), "else it would be an orphan");
}

#[tokio::test]
async fn an_account_paused_after_a_rebuild_is_disabled_when_its_deletion_returns() {
    let scene = rebuilt("paused again", json!({}), json!({ "ops-admin.com/paused": "true" })).await;
    let paused = scene.condition("acme", "Unknown", "Paused").await;
    assert_eq!(paused.metadata.finalizers.as_deref(), Some(&[FINALIZER.to_owned()][..]));
    assert!(acme(&scene).await.0, "nothing is done until then");
    scene.delete("acme").await;
    let (enabled, _, deleted_at) = acme(&scene).await;
    assert!(!enabled && deleted_at.is_some());
}

#[tokio::test]
async fn the_secret_of_a_retained_account_stays_even_without_its_label() {
    let mut scene = Scene::with_controller("relabelled", &[]).await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    scene.change("acme", json!({ "managementPolicy": "Observe" })).await;
    scene.ready("acme").await;
    let keys = scene.data("acme-opsadmin").await;
    scene.stop().await;
    let theirs = Patch::Merge(json!({ "metadata": { "labels": { MANAGED_BY_LABEL: "Helm", ACCOUNT_LABEL: null } } }));
    let patched = scene.secrets().patch("acme-opsadmin", &PatchParams::default(), &theirs).await;
    patched.expect("the API server takes the label");
    scene.accounts().delete("acme", &DeleteParams::default()).await.expect("the API server takes the deletion");
    scene.start(&[]);
    scene.delete("acme").await;
    let (enabled, retained_at, _) = acme(&scene).await;
    assert!(enabled && retained_at.is_some());
    let secret = scene.secrets().get("acme-opsadmin").await.expect("the Secret is there");
    assert_eq!(secret.metadata.owner_references, None, "nothing has it collected");
    assert_eq!(scene.data("acme-opsadmin").await, keys);
}
