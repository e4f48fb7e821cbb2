//! Admission policies that change Secrets while the controller writes them. The controller still watches the Secrets
//! that it depends on. It reports a lasting change as a condition, and does not write in a loop.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use opsadmin_operator::api::{ACCOUNT_LABEL, MANAGED_BY_LABEL};
use serde_json::{Value, json};

use super::stage::{ACME, Stage};
use crate::support::proxy::Call;

const SECRET: &str = "acme-opsadmin";

/// More writes of one Secret within the time of a test are a loop.
const FEW: usize = 12;

fn sets_the_common_label(secret: &mut Value) {
    secret["metadata"]["labels"][MANAGED_BY_LABEL] = json!("platform");
}

fn strips_our_label(secret: &mut Value) {
    secret["metadata"]["labels"].as_object_mut().expect("it has labels").remove(ACCOUNT_LABEL);
}

fn writes(stage: &Stage) -> usize {
    let is_write = |call: &&Call| call.what == "POST secrets" || call.what == "PUT secrets";
    stage.proxy.trace.calls().iter().filter(is_write).count()
}

fn message(account: &opsadmin_operator::api::ApiAccount) -> &str {
    &account.status.as_ref().expect("it has a status").conditions[0].message
}

async fn delete_secret(stage: &Stage) -> Option<String> {
    let secret = stage.scene.secrets().get(SECRET).await.expect("it is there");
    stage.scene.secrets().delete(SECRET, &DeleteParams::default()).await.expect("it is deleted");
    secret.metadata.uid
}

async fn back(stage: &Stage, uid: Option<&str>) {
    stage.scene.secret_where(SECRET, "to come back", |secret| secret.metadata.uid.as_deref() != uid).await;
}

async fn merge(stage: &Stage, patch: Value) {
    let merged = stage.scene.secrets().patch(SECRET, &PatchParams::default(), &Patch::Merge(patch)).await;
    merged.expect("the API server takes the patch");
}

#[tokio::test]
async fn the_watch_still_shows_a_secret_whose_common_label_a_policy_changes() {
    let mut stage = Stage::with_controller("policy on the common label").await;
    stage.proxy.policy.set(sets_the_common_label);
    stage.scene.create(ACME, json!({})).await;
    let account = stage.scene.ready(ACME).await;
    let said = "something else sets the Secret's label app.kubernetes.io/managed-by";
    assert!(message(&account).contains(said), "{}", message(&account));
    stage.quiet().await;
    let keys = stage.scene.data(SECRET).await;

    let uid = delete_secret(&stage).await;
    back(&stage, uid.as_deref()).await;
    assert!(stage.scene.data(SECRET).await == keys, "the keys stay");
    merge(&stage, json!({ "stringData": { "OPSADMIN_SECRET_KEY": "wrong" } })).await;
    stage.scene.secret_where(SECRET, "to be right", |secret| crate::controller::scene::texts(secret) == keys).await;
    stage.quiet().await;
    assert!(writes(&stage) <= 3, "{}", stage.calls());

    let before = stage.scene.accounts().get(ACME).await.expect("it is there");
    stage.restart().await;
    assert_eq!(writes(&stage), 0, "a restart writes nothing: {}", stage.calls());
    let after = stage.scene.accounts().get(ACME).await.expect("it is there");
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    assert!(message(&after).contains(said), "{}", message(&after));
}

#[tokio::test]
async fn a_policy_that_removes_our_label_causes_a_condition_and_the_secret_is_still_restored() {
    let stage = Stage::with_controller("policy on our label").await;
    stage.proxy.policy.set(strips_our_label);
    stage.scene.create(ACME, json!({})).await;
    let account = stage.scene.condition(ACME, "False", "SecretRewritten").await;
    assert!(message(&account).contains("label ops-admin.com/account"), "{}", message(&account));
    let keys = stage.scene.data(SECRET).await;

    // No watch shows this Secret.
    let uid = delete_secret(&stage).await;
    back(&stage, uid.as_deref()).await;
    assert!(stage.scene.data(SECRET).await == keys, "the keys stay");
    stage.scene.condition(ACME, "False", "SecretRewritten").await;
    stage.proxy.trace.quiet(Duration::from_secs(1)).await;
    assert!(writes(&stage) <= FEW, "{}", stage.calls());
    let log = stage.scene.log();
    assert_eq!(log.matches("is not stored as it was written").count(), 1, "{log}");
    assert!(!log.contains("right: label") && !log.contains("back: label"), "nothing was: {log}");

    stage.proxy.policy.lift();
    stage.scene.ready(ACME).await;
    assert!(stage.scene.data(SECRET).await == keys, "the keys stay");
}

#[tokio::test]
async fn secrets_of_an_earlier_version_get_the_label_with_one_write_each() {
    let mut stage = Stage::with_controller("secrets of before").await;
    stage.scene.create(ACME, json!({})).await;
    stage.scene.ready(ACME).await;
    let keys = stage.scene.data(SECRET).await;
    stage.scene.kill().await;
    merge(&stage, json!({ "metadata": { "labels": { ACCOUNT_LABEL: null } } })).await;
    let before = stage.scene.secrets().get(SECRET).await.expect("it is there");
    stage.start().await;
    let secret = stage.scene.secrets().get(SECRET).await.expect("it is there");
    assert_eq!(secret.metadata.labels.as_ref().expect("it has labels")[ACCOUNT_LABEL], "true");
    assert_eq!(secret.metadata.uid, before.metadata.uid);
    assert!(stage.scene.data(SECRET).await == keys, "the keys stay");
    let taken = |call: &&Call| call.what.ends_with(" secrets") && call.answer.starts_with('2') && !call.is_read();
    assert_eq!(stage.proxy.trace.calls().iter().filter(taken).count(), 1, "{}", stage.calls());
    stage.scene.ready(ACME).await;
    let uid = delete_secret(&stage).await;
    back(&stage, uid.as_deref()).await;
}
