//! With `--revocation-lag`, a status reports a narrower access only when auth servers have heard of it. The tests compare
//! the time of the change in the journal with the time at which they see the report.

use jiff::{SignedDuration, Timestamp};
use kube::api::DeleteParams;
use opsadmin_operator::api::ApiAccount;
use serde_json::json;

use super::scene::{SOON, Scene};
use crate::support::opsadmin::Opsadmin;
use crate::support::wait::eventually;

const LAG: SignedDuration = SignedDuration::from_secs(4);
const WITH_LAG: [&str; 2] = ["--revocation-lag", "4s"];

/// Returns when the last change with this action was committed.
async fn committed(scene: &Scene, action: &str) -> Timestamp {
    let at: i64 = sqlx::query_scalar("SELECT max(at) FROM account_journal WHERE action = $1")
        .bind(action)
        .fetch_one(&scene.sql().await)
        .await
        .expect("it is in the journal");
    Timestamp::from_microsecond(at).expect("it is a time")
}

/// Asserts that what was seen just now came at least the lag after the change.
async fn came_after_the_lag(scene: &Scene, action: &str) {
    let (seen, changed) = (Timestamp::now(), committed(scene, action).await);
    let took = seen.duration_since(changed);
    assert!(took >= LAG, "{action} was reported after {took}\n{}", scene.log());
}

fn active_pair(account: &ApiAccount) -> Option<String> {
    account.status.as_ref()?.active_key().map(|key| key.id.clone())
}

#[tokio::test]
async fn a_narrower_access_is_reported_after_the_lag() {
    let scene = Scene::with_controller("revocation lag", &WITH_LAG).await;
    scene.create("acme", json!({ "roles": ["Customer"], "rotation": { "overlap": "0s" } })).await;
    let before = active_pair(&scene.ready("acme").await);

    scene.change("acme", json!({ "roles": [] })).await;
    scene.ready("acme").await;
    came_after_the_lag(&scene, "updated").await;
    scene.event("acme", "Updated").await;

    scene.change("acme", json!({ "enabled": false })).await;
    scene.ready("acme").await;
    came_after_the_lag(&scene, "updated").await;

    scene.annotate("acme", json!({ "ops-admin.com/rotate": "leaked" })).await;
    eventually("the new pair to be reported", SOON, async || {
        let account = scene.accounts().get("acme").await.map_err(|error| error.to_string())?;
        if active_pair(&account) == before { Err(scene.log()) } else { Ok(()) }
    })
    .await;
    came_after_the_lag(&scene, "rotated").await;
}

#[tokio::test]
async fn a_resource_goes_after_the_lag() {
    let scene = Scene::with_controller("deletion lag", &WITH_LAG).await;
    for name in ["acme", "kept"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    scene.delete("acme").await;
    came_after_the_lag(&scene, "deleted").await;
    scene.event("acme", "Disabled").await;
    let deletions: i64 = sqlx::query_scalar("SELECT count(*) FROM account_journal WHERE action = 'deleted'")
        .fetch_one(&scene.sql().await)
        .await
        .expect("a count");
    assert_eq!(deletions, 1);
    scene.ready("kept").await;
}

#[tokio::test]
async fn what_another_program_did_is_reported_after_the_lag() {
    let mut scene = Scene::with_controller("lag of others", &WITH_LAG).await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    let database = scene.database.url().to_owned();
    let suspend = async |reason: &str| {
        let call = Opsadmin::new().args(["suspend", "acme", "--reason", reason, "--database", &database]);
        call.run().await.succeeded();
    };
    suspend("unpaid").await;
    scene.condition("acme", "False", "Suspended").await;
    came_after_the_lag(&scene, "suspended").await;

    // A controller that starts does not know what changed a moment before.
    scene.stop().await;
    scene.change("acme", json!({ "description": "changed" })).await;
    suspend("still unpaid").await;
    scene.start(&WITH_LAG);
    scene.condition("acme", "False", "Suspended").await;
    came_after_the_lag(&scene, "suspended").await;

    let going = scene.accounts().delete("acme", &DeleteParams::default()).await;
    going.expect("the API server takes the deletion");
    eventually("the deletion to be committed", SOON, async || {
        let deleted: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts WHERE deleted_at IS NOT NULL")
            .fetch_one(&scene.sql().await)
            .await
            .map_err(|error| error.to_string())?;
        if deleted == 1 { Ok(()) } else { Err(scene.log()) }
    })
    .await;
    scene.kill().await;
    scene.start(&WITH_LAG);
    eventually("the resource to be gone", SOON, async || {
        let found = scene.accounts().get_opt("acme").await.map_err(|error| error.to_string())?;
        if found.is_none() { Ok(()) } else { Err(scene.log()) }
    })
    .await;
    came_after_the_lag(&scene, "deleted").await;
}
