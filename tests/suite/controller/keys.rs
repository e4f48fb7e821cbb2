//! The life of keys on a cluster: rotated with an overlap, revoked on time, and never rotated twice for one request.

use opsadmin_operator::api::ApiAccount;
use serde_json::json;

use super::scene::{SOON, Scene};
use crate::support::opsadmin::Opsadmin;
use crate::support::wait::eventually;

/// Returns the ids and states of the account's key pairs, the newest first.
fn pairs(account: &ApiAccount) -> Vec<(String, String)> {
    let keys = account.status.iter().flat_map(|status| &status.keys);
    keys.map(|key| (key.id.clone(), key.state.clone())).collect()
}

async fn pairs_where(scene: &Scene, name: &str, what: &str, is: impl Fn(&[(String, String)]) -> bool) -> ApiAccount {
    eventually(&format!("the account {name} to have {what}"), SOON, async || {
        let account = scene.accounts().get(name).await.map_err(|error| error.to_string())?;
        if is(&pairs(&account)) { Ok(account) } else { Err(format!("{:?}\n{}", pairs(&account), scene.log())) }
    })
    .await
}

#[tokio::test]
async fn a_new_trigger_rotates_and_the_old_pair_works_for_the_overlap() {
    let scene = Scene::with_controller("trigger", &[]).await;
    let sql = scene.sql().await;
    scene.create("acme", json!({ "rotation": { "trigger": "one", "overlap": "24h" } })).await;
    let first = scene.ready("acme").await;
    let keys = scene.data("acme-opsadmin").await;

    scene.change("acme", json!({ "rotation": { "trigger": "two" } })).await;
    let second = scene.ready("acme").await;
    let (before, after) = (pairs(&first), pairs(&second));
    assert_eq!(after.len(), 2, "{after:?}");
    assert_eq!((after[0].1.as_str(), after[1].1.as_str()), ("Active", "Retiring"));
    assert_eq!(after[1].0, before[0].0);
    let rotated = scene.data("acme-opsadmin").await;
    assert_ne!(rotated["OPSADMIN_API_KEY"], keys["OPSADMIN_API_KEY"]);
    assert_ne!(rotated["OPSADMIN_SECRET_KEY"], keys["OPSADMIN_SECRET_KEY"]);
    let status = second.status.expect("it has a status");
    assert_eq!(status.keys[0].api_key, rotated["OPSADMIN_API_KEY"]);
    assert!(status.keys[1].expires.is_some());
    let valid: i64 =
        sqlx::query_scalar("SELECT count(*) FROM account_keys WHERE expires_at IS NOT NULL AND api_key = $1")
            .bind(&keys["OPSADMIN_API_KEY"])
            .fetch_one(&sql)
            .await
            .expect("a count");
    assert_eq!(valid, 1, "the old pair goes on working");
    let note = scene.event("acme", "Rotated").await;
    assert!(note.contains("spec.rotation.trigger changed") && note.contains(&after[0].0), "{note}");

    // Neither another edit nor a new resource of the same name rotates again.
    scene.change("acme", json!({ "description": "changed" })).await;
    assert_eq!(pairs(&scene.ready("acme").await), after);
    scene.delete("acme").await;
    scene.no_secret("acme-opsadmin").await;
    scene.create("acme", json!({ "rotation": { "trigger": "two" } })).await;
    assert_eq!(pairs(&scene.ready("acme").await), after);
    assert_eq!(scene.data("acme-opsadmin").await, rotated);
}

#[tokio::test]
async fn without_an_overlap_the_old_pair_is_revoked_at_once() {
    let scene = Scene::with_controller("leak", &[]).await;
    scene.create("acme", json!({ "rotation": { "overlap": "0s" } })).await;
    let before = pairs(&scene.ready("acme").await);
    let keys = scene.data("acme-opsadmin").await;
    scene.annotate("acme", json!({ "ops-admin.com/rotate": "leaked" })).await;
    let rotated = pairs_where(&scene, "acme", "another pair", |pairs| pairs.first() != before.first()).await;
    assert_eq!(pairs(&rotated).len(), 1);
    let found: i64 = sqlx::query_scalar("SELECT count(*) FROM account_keys WHERE api_key = $1")
        .bind(&keys["OPSADMIN_API_KEY"])
        .fetch_one(&scene.sql().await)
        .await
        .expect("a count");
    assert_eq!(found, 0);
    assert!(scene.event("acme", "Rotated").await.contains("the annotation ops-admin.com/rotate changed"));
}

#[tokio::test]
async fn keys_are_rotated_on_schedule_and_old_pairs_are_revoked_on_time() {
    let often = ["--least-rotation-interval", "1s"];
    let mut scene = Scene::with_controller("schedule", &often).await;
    scene.create("acme", json!({ "rotation": { "interval": "3s", "overlap": "1s" } })).await;
    let first = scene.ready("acme").await;
    assert!(first.status.as_ref().is_some_and(|status| status.next_rotation.is_some()));
    let before = pairs(&first);
    let rotated = pairs_where(&scene, "acme", "a pair of its schedule", |pairs| pairs.first() != before.first()).await;
    let second = pairs(&rotated);
    pairs_where(&scene, "acme", "only pairs of its time", |pairs| {
        !pairs.contains(&(before[0].0.clone(), "Retiring".to_owned()))
    })
    .await;
    scene.event("acme", "Revoked").await;
    // What fell due while no controller ran is done at the next start.
    scene.stop().await;
    scene.start(&often);
    pairs_where(&scene, "acme", "a pair made since", |pairs| pairs.first().is_some_and(|pair| pair.0 != second[0].0))
        .await;
    let data = scene.data("acme-opsadmin").await;
    assert!(data["OPSADMIN_SECRET_KEY"].starts_with("opsa_sk_"));
}

#[tokio::test]
async fn keys_are_not_rotated_more_often_than_the_installation_allows() {
    let scene = Scene::with_controller("least interval", &[]).await;
    scene.create("acme", json!({ "rotation": { "interval": "1s", "overlap": "0s" } })).await;
    let refused = scene.condition("acme", "False", "InvalidSpec").await;
    let message = &refused.status.expect("it has a status").conditions[0].message;
    assert!(
        message.contains("spec.rotation.interval: must be at least 10m here") && message.contains("write 10m or more"),
        "{message}"
    );
    scene.change("acme", json!({ "rotation": { "interval": "10m" } })).await;
    scene.ready("acme").await;
}

#[tokio::test]
async fn rotations_and_revocations_due_while_no_controller_ran_are_done_at_the_start() {
    let mut scene = Scene::with_controller("downtime", &[]).await;
    let sql = scene.sql().await;
    scene.create("expiring", json!({ "rotation": { "trigger": "one" } })).await;
    scene.create("due", json!({ "rotation": { "interval": "24h", "overlap": "1h" } })).await;
    scene.ready("expiring").await;
    let due = pairs(&scene.ready("due").await);
    scene.change("expiring", json!({ "rotation": { "trigger": "two" } })).await;
    let expiring = pairs(&scene.ready("expiring").await);
    assert_eq!(expiring.len(), 2, "{expiring:?}");
    scene.stop().await;
    // Two days pass.
    for passed in [
        "UPDATE account_keys SET expires_at = expires_at - 172800000000 WHERE expires_at IS NOT NULL",
        "UPDATE account_keys SET created_at = created_at - 172800000000",
    ] {
        sqlx::query(passed).execute(&sql).await.expect("the times are changed");
    }
    scene.start(&[]);
    let left = pairs_where(&scene, "expiring", "only the new pair", |pairs| pairs.len() == 1).await;
    assert_eq!(pairs(&left)[0], expiring[0]);
    scene.event("expiring", "Revoked").await;
    let rotated = pairs_where(&scene, "due", "a new pair", |pairs| pairs.first() != due.first()).await;
    let states: Vec<_> = pairs(&rotated).into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["Active", "Retiring"], "the old one works for its overlap all the same");
}

#[tokio::test]
async fn keys_are_not_rotated_while_the_secret_cannot_be_written() {
    let scene = Scene::with_controller("rotation held", &[]).await;
    scene.create("acme", json!({})).await;
    let before = pairs(&scene.ready("acme").await);
    let foreign = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "taken" } });
    let foreign = serde_json::from_value(foreign).expect("it is a Secret");
    scene.secrets().create(&kube::api::PostParams::default(), &foreign).await.expect("it is made");
    scene.change("acme", json!({ "secret": { "name": "taken" }, "rotation": { "trigger": "now" } })).await;
    let refused = scene.condition("acme", "False", "SecretConflict").await;
    assert_eq!(pairs(&refused), before);
    scene.change("acme", json!({ "secret": { "name": "free" } })).await;
    assert_eq!(pairs(&scene.ready("acme").await).len(), 2, "asked for, and done once it can be");
}

#[tokio::test]
async fn an_imported_secret_key_that_is_too_short_is_reported_until_the_keys_are_rotated() {
    let scene = Scene::with_controller("short secret", &["--unassigned-accounts", "adopt"]).await;
    let legacy = r#"{"name": "acme", "apiKey": "legacy-1", "secretKey": "legacy-secret-0123456789"}"#;
    let import = Opsadmin::new().args(["import", "-", "--database", scene.database.url(), "--keyring"]);
    import.args([&scene.keyring]).stdin(format!("{legacy}\n")).run().await.succeeded();
    scene.create("acme", json!({ "adoptionPolicy": "IfUnowned" })).await;
    let conditions = |account: &ApiAccount| -> Vec<(String, String, String)> {
        let told = account.status.iter().flat_map(|status| &status.conditions);
        told.map(|found| (found.type_.clone(), found.status.clone(), found.reason.clone())).collect()
    };
    let ready = || ("Ready".to_owned(), "True".to_owned(), "Reconciled".to_owned());
    let cannot = ("CannotLogIn".to_owned(), "True".to_owned(), "SecretKeyTooShort".to_owned());
    assert_eq!(conditions(&scene.ready("acme").await), [ready(), cannot]);

    scene.annotate("acme", json!({ "ops-admin.com/rotate": "for a longer one" })).await;
    eventually("the condition to end", SOON, async || {
        let account = scene.accounts().get("acme").await.map_err(|error| error.to_string())?;
        if conditions(&account) == [ready()] { Ok(()) } else { Err(format!("{account:?}\n{}", scene.log())) }
    })
    .await;
}
