//! From creation to deletion: each field reaches the database, and the deletion of a resource ends its access.

use kube::api::{Patch, PatchParams};
use opsadmin_operator::account::{ApiKey, SecretKey};
use opsadmin_operator::api::OWNER_ANNOTATION;
use serde_json::{Value, json};
use sqlx::{PgPool, Row};

use super::scene::{SOON, Scene};
use crate::support::cluster::Cluster;
use crate::support::wait::eventually;

/// Returns the fields of the account with this name in the database.
async fn stored(sql: &PgPool, name: &str) -> Value {
    let row =
        sqlx::query("SELECT * FROM accounts WHERE name = $1").bind(name).fetch_one(sql).await.expect("one account");
    let id: String = row.get("id");
    let list = async |statement: &'static str| -> Vec<String> {
        sqlx::query_scalar(statement).bind(&id).fetch_all(sql).await.expect("the table is there")
    };
    json!({
        "description": row.get::<String, _>("description"),
        "enabled": row.get::<bool, _>("enabled"),
        "useRefreshToken": row.get::<bool, _>("use_refresh_token"),
        "affiliate": row.get::<Option<String>, _>("affiliate"),
        "anyIp": row.get::<bool, _>("any_ip"),
        "roles": list("SELECT role FROM account_roles WHERE account_id = $1 ORDER BY role").await,
        "allowedIPs": list("SELECT cidr FROM account_allowed_ips WHERE account_id = $1 ORDER BY cidr").await,
    })
}

#[tokio::test]
async fn an_account_becomes_ready_with_its_secret() {
    let scene = Scene::with_controller("becomes ready", &[]).await;
    scene.create("acme", json!({})).await;
    let account = scene.ready("acme").await;
    let data = scene.data("acme-opsadmin").await;
    let keys: Vec<_> = data.keys().map(String::as_str).collect();
    assert_eq!(keys, ["OPSADMIN_API_KEY", "OPSADMIN_SECRET_KEY"]);
    ApiKey::parse(&data["OPSADMIN_API_KEY"]).expect("it is an API key");
    SecretKey::parse(&data["OPSADMIN_SECRET_KEY"]).expect("it is a secret key");

    let status = account.status.expect("it has a status");
    assert_eq!(status.secret_name.as_deref(), Some("acme-opsadmin"));
    assert_eq!(status.keys.len(), 1);
    assert_eq!(status.keys[0].api_key, data["OPSADMIN_API_KEY"]);
    assert_eq!(status.conditions.len(), 1, "kstatus: neither Stalled nor Reconciling on a ready resource");
    let id: String =
        sqlx::query_scalar("SELECT id FROM accounts").fetch_one(&scene.sql().await).await.expect("one account");
    assert_eq!(status.account_id, Some(id));

    let secret = scene.secrets().get("acme-opsadmin").await.expect("the Secret is there");
    assert_eq!(secret.metadata.owner_references, None, "no garbage collector has a say");
    let annotations = secret.metadata.annotations.expect("it has annotations");
    assert!(annotations[OWNER_ANNOTATION].ends_with(&format!("/{}/acme", scene.namespace.name())), "{annotations:?}");
    let created = scene.event("acme", "Created").await;
    assert_eq!(created, "created the account and its keys; wrote the keys to the Secret acme-opsadmin");
}

#[tokio::test]
async fn defaults_are_visible_in_the_stored_object() {
    let scene = Scene::set("defaults").await;
    let account = scene.create("acme", json!({})).await;
    let spec = serde_json::to_value(account.spec).expect("it serializes");
    assert_eq!(
        spec,
        json!({
            "description": "", "enabled": true, "useRefreshToken": false, "affiliate": "*", "roles": [],
            "allowedIPs": ["0.0.0.0/0", "::/0"],
            "secret": { "keys": { "apiKey": "OPSADMIN_API_KEY", "secretKey": "OPSADMIN_SECRET_KEY" } },
            "adoptionPolicy": "Never", "managementPolicy": "Enforce", "deletionPolicy": "Delete",
        })
    );
}

#[tokio::test]
async fn every_field_reaches_the_database_and_the_keys_stay() {
    let scene = Scene::with_controller("every field", &["--unknown-affiliate", "register"]).await;
    let sql = scene.sql().await;
    scene.create("acme", json!({ "name": "Acme Energy" })).await;
    scene.ready("acme").await;
    let keys = scene.data("acme-opsadmin").await;
    assert_eq!(
        stored(&sql, "Acme Energy").await,
        json!({
            "description": "", "enabled": true, "useRefreshToken": false, "affiliate": null, "anyIp": true,
            "roles": [], "allowedIPs": [],
        })
    );

    for (change, field, value) in [
        (json!({ "description": "the portal\nof Acme" }), "description", json!("the portal\nof Acme")),
        (json!({ "enabled": false }), "enabled", json!(false)),
        (json!({ "enabled": true }), "enabled", json!(true)),
        (json!({ "useRefreshToken": true }), "useRefreshToken", json!(true)),
        (json!({ "affiliate": "North" }), "affiliate", json!("North")),
        (json!({ "affiliate": null }), "affiliate", json!(null)),
        (json!({ "roles": ["Customer", "Administrator"] }), "roles", json!(["Administrator", "Customer"])),
        (json!({ "roles": [] }), "roles", json!([])),
        (json!({ "allowedIPs": ["203.0.113.7", "10.0.0.0/8"] }), "allowedIPs", json!(["10.0.0.0/8", "203.0.113.7/32"])),
        (json!({ "allowedIPs": ["2001:db8::/32"] }), "anyIp", json!(false)),
        (json!({ "allowedIPs": [] }), "anyIp", json!(true)),
    ] {
        scene.change("acme", change.clone()).await;
        scene.ready("acme").await;
        // When the account is ready, the database has the change at once.
        assert_eq!(stored(&sql, "Acme Energy").await[field], value, "{change}");
    }
    assert_eq!(scene.data("acme-opsadmin").await, keys);

    scene.change("acme", json!({ "name": "Acme Power" })).await;
    scene.ready("acme").await;
    assert_eq!(stored(&sql, "Acme Power").await["useRefreshToken"], json!(true));
    let accounts: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts").fetch_one(&sql).await.expect("a count");
    assert_eq!(accounts, 1, "renamed, not made again");
    assert_eq!(scene.data("acme-opsadmin").await, keys);
    scene.event_with("acme", "Updated", r#"description: "" → "the portal\nof Acme""#).await;
    scene.event_with("acme", "Updated", "Acme Power").await;
}

#[tokio::test]
async fn a_deleted_account_no_longer_authenticates_and_is_restored_with_its_keys() {
    let scene = Scene::with_controller("deleted", &[]).await;
    let sql = scene.sql().await;
    scene.create("acme", json!({ "roles": ["Customer"] })).await;
    let id = scene.ready("acme").await.status.and_then(|status| status.account_id);
    let keys = scene.data("acme-opsadmin").await;

    scene.delete("acme").await;
    // When the resource is gone, the account is disabled at once.
    let (enabled, deleted): (bool, Option<i64>) =
        sqlx::query_as("SELECT enabled, deleted_at FROM accounts").fetch_one(&sql).await.expect("the row stays");
    assert!(!enabled && deleted.is_some());
    scene.no_secret("acme-opsadmin").await;

    scene.create("acme", json!({ "roles": ["Customer"] })).await;
    let account = scene.ready("acme").await;
    assert_eq!(account.status.and_then(|status| status.account_id), id);
    assert_eq!(scene.data("acme-opsadmin").await, keys);
    let actions: Vec<String> =
        sqlx::query_scalar("SELECT action FROM account_journal ORDER BY id").fetch_all(&sql).await.expect("a journal");
    assert_eq!(actions, ["created", "deleted", "restored"]);
}

#[tokio::test]
async fn a_resource_with_a_spec_that_is_no_longer_valid_can_be_deleted() {
    let cluster = Cluster::of_its_own().await;
    cluster.install_definitions().await;
    let mut scene = Scene::set_on(cluster.0, "no longer valid").await;
    scene.start(&[]);
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    // After an update of the definition, a value may be invalid that the API server accepted before.
    let anything = r#"[{ "op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
        "value": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } }]"#;
    let crd = "apiaccounts.ops-admin.com";
    cluster.kubectl("", &["patch", "crd", crd, "--type=json", "--patch", anything]).await.succeeded();
    eventually("the API server to take anything", SOON, async || {
        let patch = Patch::Merge(json!({ "spec": { "allowedIPs": ["nowhere"], "secret": { "name": "NO NAME" } } }));
        let patched = scene.accounts().patch("acme", &PatchParams::default(), &patch).await;
        patched.map(drop).map_err(|error| error.to_string())
    })
    .await;
    scene.condition("acme", "False", "InvalidSpec").await;
    scene.delete("acme").await;
    let left: (bool, bool) = sqlx::query_as("SELECT enabled, any_ip FROM accounts")
        .fetch_one(&scene.sql().await)
        .await
        .expect("one account");
    assert_eq!(left, (false, true), "disabled, and otherwise as it was");
    scene.stop().await;
}

#[tokio::test]
async fn a_retained_account_and_its_secret_outlive_the_resource() {
    let scene = Scene::with_controller("retained", &[]).await;
    let sql = scene.sql().await;
    scene.create("acme", json!({ "deletionPolicy": "Retain", "roles": ["Customer"] })).await;
    scene.ready("acme").await;
    let keys = scene.data("acme-opsadmin").await;

    scene.delete("acme").await;
    let secret = scene.secrets().get("acme-opsadmin").await.expect("the Secret stays");
    assert_eq!(secret.metadata.owner_references, None, "nothing will collect it");
    assert_eq!(scene.data("acme-opsadmin").await, keys);
    assert_eq!(stored(&sql, "acme").await["enabled"], json!(true));

    scene.create("acme", json!({ "roles": ["Customer"] })).await;
    scene.ready("acme").await;
    assert_eq!(scene.data("acme-opsadmin").await, keys);
    // The resource owns the account again, and its deletion deletes the account.
    scene.delete("acme").await;
    assert_eq!(scene.secrets().get_opt("acme-opsadmin").await.expect("an answer"), None);
}
