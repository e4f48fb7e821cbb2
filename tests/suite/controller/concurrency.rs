//! `--concurrency` limits the whole process, for all namespaces that it watches.

use std::time::{Duration, Instant};

use kube::Api;
use kube::api::PostParams;
use opsadmin_operator::api::ApiAccount;
use serde_json::json;
use sqlx::postgres::PgPool;
use tokio::time::sleep;

use super::scene::{SOON, Scene};
use crate::support::wait::eventually;

/// Returns the number of queries for an account that wait for the locked table.
async fn waiting(sql: &PgPool) -> i64 {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                 AND wait_event_type = 'Lock' AND query LIKE '%owner_name = $3%'";
    sqlx::query_scalar(query).fetch_one(sql).await.expect("the server answers")
}

#[tokio::test]
async fn one_concurrency_limit_applies_to_all_namespaces() {
    let mut scene = Scene::set("one limit").await;
    let others = [scene.cluster.namespace("one limit b").await, scene.cluster.namespace("one limit c").await];
    let namespaces = [scene.namespace.name(), others[0].name(), others[1].name()].map(str::to_owned);
    let names: Vec<&str> = namespaces.iter().map(String::as_str).collect();
    scene.start_as(scene.cluster.kubeconfig(), &names, &["--concurrency", "1"]);
    scene.create("first", json!({})).await;
    scene.ready("first").await;

    let sql = scene.sql().await;
    let mut locked = sql.begin().await.expect("a transaction");
    sqlx::query("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE").execute(&mut *locked).await.expect("it is locked");
    for namespace in &namespaces {
        let account = json!({
            "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount",
            "metadata": { "name": "acme" }, "spec": { "name": namespace },
        });
        let account: ApiAccount = serde_json::from_value(account).expect("it is an ApiAccount");
        let api: Api<ApiAccount> = Api::namespaced(scene.client.clone(), namespace);
        api.create(&PostParams::default(), &account).await.expect("the API server takes it");
    }
    eventually("one to be looked at", SOON, async || if waiting(&sql).await > 0 { Ok(()) } else { Err(scene.log()) })
        .await;
    // Without the limit, further queries would follow within milliseconds. While the table is locked, there must be
    // none.
    let began = Instant::now();
    let mut most = 0;
    while began.elapsed() < Duration::from_secs(3) {
        most = most.max(waiting(&sql).await);
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(most, 1, "one at a time, in all namespaces together\n{}", scene.log());
    locked.rollback().await.expect("it is unlocked");
    for namespace in &namespaces {
        let api: Api<ApiAccount> = Api::namespaced(scene.client.clone(), namespace);
        eventually("the account to be ready", SOON, async || {
            let account = api.get("acme").await.map_err(|error| error.to_string())?;
            let conditions = account.status.unwrap_or_default().conditions;
            if conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True") {
                Ok(())
            } else {
                Err(format!("{conditions:?}\n{}", scene.log()))
            }
        })
        .await;
    }
    scene.stop().await;
}
