//! From creation to deletion.

use opsadmin_operator::account::{ApiKey, SecretKey};
use serde_json::json;

use super::scene::Scene;

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
}
