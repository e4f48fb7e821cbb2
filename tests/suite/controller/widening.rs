//! An account gets no additional rights when a field of its resource is lost.

use serde_json::{Value, json};

use super::scene::Scene;

/// Returns the account's settings that grant more when they are omitted.
async fn settings(scene: &Scene) -> (bool, bool, Option<String>, bool, Vec<String>) {
    let sql = scene.sql().await;
    let (enabled, refresh, affiliate, any) =
        sqlx::query_as("SELECT enabled, use_refresh_token, affiliate, any_ip FROM accounts")
            .fetch_one(&sql)
            .await
            .expect("one account");
    let list = sqlx::query_scalar("SELECT cidr FROM account_allowed_ips").fetch_all(&sql).await.expect("its list");
    (enabled, refresh, affiliate, any, list)
}

fn manifest(spec: &Value) -> String {
    json!({ "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": "acme" }, "spec": spec })
        .to_string()
}

async fn apply(scene: &Scene, spec: &Value) {
    let applied = scene.cluster.kubectl_with(scene.namespace.name(), &["apply", "-f", "-"], &manifest(spec)).await;
    applied.succeeded();
}

#[tokio::test]
async fn a_null_field_is_refused_until_it_has_a_value_or_is_removed() {
    let scene = Scene::with_controller("nulls applied", &["--unknown-affiliate", "register"]).await;
    let narrow = json!({
        "affiliate": "North", "enabled": false, "useRefreshToken": true, "allowedIPs": ["203.0.113.7"],
    });
    apply(&scene, &narrow).await;
    scene.ready("acme").await;
    let before = settings(&scene).await;
    for field in ["affiliate", "enabled", "useRefreshToken", "allowedIPs"] {
        let mut lost = narrow.clone();
        lost[field] = Value::Null;
        apply(&scene, &lost).await;
        let account = scene.condition("acme", "False", "InvalidSpec").await;
        let message = &account.status.expect("it has a status").conditions[0].message;
        assert!(
            message.contains(&format!("spec.{field}: has no value in the manifest that kubectl applied")),
            "{message}"
        );
        assert_eq!(settings(&scene).await, before, "{field}");
        apply(&scene, &narrow).await;
        scene.ready("acme").await;
    }
    // Without the field, there is nothing to refuse, even if the rest stays the same.
    let mut without = narrow.clone();
    without["enabled"] = Value::Null;
    apply(&scene, &without).await;
    scene.condition("acme", "False", "InvalidSpec").await;
    without.as_object_mut().expect("an object").remove("enabled");
    apply(&scene, &without).await;
    scene.ready("acme").await;
}

#[tokio::test]
async fn a_lost_list_of_addresses_is_kept_and_an_empty_list_means_any_address() {
    let scene = Scene::with_controller("list lost", &[]).await;
    scene.create("acme", json!({ "allowedIPs": ["203.0.113.7"] })).await;
    scene.ready("acme").await;
    scene.change("acme", json!({ "allowedIPs": null, "description": "changed", "enabled": false })).await;
    let account = scene.condition("acme", "False", "AllowedIPsMissing").await;
    let message = &account.status.expect("it has a status").conditions[0].message;
    assert!(message.contains("203.0.113.7/32 only") && message.contains("[] to allow any address"), "{message}");
    scene.event("acme", "AllowedIPsMissing").await;
    let (enabled, _, _, any, list) = settings(&scene).await;
    assert_eq!((enabled, any, list), (false, false, vec!["203.0.113.7/32".to_owned()]), "all the rest is done");
    scene.change("acme", json!({ "allowedIPs": [] })).await;
    scene.ready("acme").await;
    let (.., any, list) = settings(&scene).await;
    assert_eq!((any, list), (true, Vec::new()));
    let note = scene.event_with("acme", "Updated", "allowedIPs").await;
    assert!(note.contains("[203.0.113.7/32] → any"), "{note}");
}
