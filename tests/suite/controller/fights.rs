//! Programs that revert what the controller does: a trigger that changes what is written, and a program that changes a
//! row each second.

use serde_json::json;

use super::drift::notes;
use super::metrics::counted;
use super::scene::{SOON, Scene};
use crate::support::wait::eventually;

async fn sql(scene: &Scene, statement: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&scene.sql().await).await.expect("it is run");
}

async fn journal(scene: &Scene) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM account_journal");
    count.fetch_one(&scene.sql().await).await.expect("the database answers")
}

#[tokio::test]
async fn a_trigger_that_rewrites_a_column_causes_a_condition_and_no_loop() {
    let scene = Scene::with_controller("foreign trigger", &[]).await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    sql(
        &scene,
        "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.description := 'theirs'; RETURN NEW; END $$; \
         CREATE TRIGGER theirs BEFORE INSERT OR UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION theirs()",
    )
    .await;
    scene.change("acme", json!({ "description": "ours" })).await;
    let account = scene.condition("acme", "False", "AccountRewritten").await;
    let conditions = account.status.expect("it has a status").conditions;
    assert!(conditions[0].message.contains(r#"description: wanted "ours", stored "theirs""#), "{conditions:?}");
    let before = journal(&scene).await;
    let resource = scene.accounts().get("acme").await.expect("it is there").metadata.resource_version;
    counted(&scene, r#"opsadmin_reconciles_total{result="refused",reason="AccountRewritten"}"#, 4.0).await;
    assert_eq!(journal(&scene).await, before, "a try that comes to nothing leaves no line");
    assert_eq!(scene.accounts().get("acme").await.expect("it is there").metadata.resource_version, resource);
    let log = scene.log();
    assert_eq!(log.matches("does not keep what is written").count(), 1, "{log}");
    assert_eq!(notes(&scene, "acme", "AccountRewritten").await.len(), 1);

    sql(&scene, "DROP TRIGGER theirs ON accounts").await;
    scene.ready("acme").await;
}

#[tokio::test]
async fn drift_each_second_is_reported_and_corrected_less_often() {
    let scene = Scene::with_controller("fight", &["--sweep-interval", "1h"]).await;
    scene.create("acme", json!({ "description": "ours", "allowedIPs": ["10.0.0.0/8"] })).await;
    scene.ready("acme").await;
    let pool = scene.sql().await;
    let edit = || sqlx::query("UPDATE accounts SET description = 'theirs'").execute(&pool);
    eventually("the fight to be told", SOON, async || {
        edit().await.map_err(|error| error.to_string())?;
        let account = scene.accounts().get("acme").await.map_err(|error| error.to_string())?;
        let conditions = account.status.map(|status| status.conditions).unwrap_or_default();
        if conditions.iter().any(|found| found.reason == "RepeatedDrift") {
            Ok(())
        } else {
            Err(format!("{conditions:?}"))
        }
    })
    .await;
    let account = scene.condition("acme", "False", "RepeatedDrift").await;
    assert!(
        account.status.expect("it has a status").conditions[0]
            .message
            .contains("something else changes description again")
    );

    // Another change by another client does not wait for the backoff, and neither does a change of the spec.
    sqlx::query("UPDATE accounts SET enabled = FALSE").execute(&pool).await.expect("it is updated");
    scene.event_with("acme", "DriftCorrected", "enabled: false → true").await;
    edit().await.expect("it is updated");
    scene.change("acme", json!({ "enabled": false })).await;
    scene.event_with("acme", "Updated", "enabled: true → false").await;
    let corrections = notes(&scene, "acme", "DriftCorrected").await.len();
    assert!(corrections < 15, "{corrections}");
    assert_eq!(notes(&scene, "acme", "RepeatedDrift").await.len(), 1);
}
