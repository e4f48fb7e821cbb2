//! A database that lacks existing accounts: another database, an emptied one, or one that is exchanged under a running
//! controller. The controller creates no account in it again until a user confirms that.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::drift::SWEEPING;
use super::metrics::{counted, scraped, value};
use super::planned::{Planner, manifests};
use super::scene::{SOON, Scene};
use crate::support::opsadmin::Opsadmin;
use crate::support::postgres::{TestDatabase, postgres};
use crate::support::statements::by_hand;
use crate::support::wait::eventually;

const ACCOUNTS: usize = 8;

/// The sweeps that did not fail.
const SWEPT: &str = r#"opsadmin_sweeps_total{result="done"}"#;

fn names() -> impl Iterator<Item = String> {
    (0..ACCOUNTS).map(|number| format!("a{number}"))
}

async fn create_all(scene: &Scene) {
    for name in names() {
        scene.create(&name, json!({ "enabled": true })).await;
    }
    for name in names() {
        scene.ready(&name).await;
    }
}

/// Waits until the controller holds the creation of every account. Returns the message of one of them.
async fn all_are_held(scene: &Scene) -> String {
    let mut message = String::new();
    for name in names() {
        let held = scene.condition(&name, "False", "CreationHeld").await;
        let conditions = held.status.expect("it has a status").conditions;
        assert!(conditions.iter().any(|found| found.type_ == "Stalled"), "{conditions:?}");
        message.clone_from(&conditions[0].message);
    }
    message
}

async fn keys(scene: &Scene) -> Vec<BTreeMap<String, String>> {
    let mut keys = Vec::new();
    for name in names() {
        keys.push(scene.data(&format!("{name}-opsadmin")).await);
    }
    keys
}

async fn rows(database: &TestDatabase) -> i64 {
    let pool = sqlx::PgPool::connect(database.url()).await.expect("it answers");
    let count = sqlx::query_scalar("SELECT count(*) FROM accounts").fetch_one(&pool).await.expect("a count");
    pool.close().await;
    count
}

#[tokio::test]
async fn another_database_is_refused_for_all_until_somebody_confirms_it() {
    let mut scene = Scene::with_controller("another database", &[]).await;
    create_all(&scene).await;
    let suspend = "UPDATE accounts SET suspended_at = 1790000000000000, suspended_reason = 'unpaid' WHERE name = 'a0'";
    by_hand(&scene.database, suspend).await;
    scene.condition("a0", "False", "Suspended").await;
    let before = keys(&scene).await;
    scene.stop().await;

    let other = postgres().await.database("another database, empty").await;
    scene.start_on(other.url(), &["--creation-brake", "100"]);
    let message = all_are_held(&scene).await;
    assert!(message.contains("this is a different database") && message.contains("opsadmin release"), "{message}");
    scene.create("fresh", json!({})).await;
    scene.ready("fresh").await;
    assert_eq!(rows(&other).await, 1, "what never had an account gets one");
    assert_eq!(keys(&scene).await, before);
    let planner = Planner::of(&scene, true).await;
    let declared: Vec<String> = names().collect();
    let declared: Vec<_> = declared.iter().map(|name| (name.as_str(), json!({}), json!({ "enabled": true }))).collect();
    scene.stop().await;

    // With the right database again, nothing has changed.
    scene.start(&[]);
    scene.condition("a0", "False", "Suspended").await;
    for name in names().skip(1) {
        scene.ready(&name).await;
    }
    assert_eq!(keys(&scene).await, before);
    scene.stop().await;

    // A plan with the other database reports what the controller with that database does.
    let own = std::mem::replace(&mut scene.database, other);
    let said = planner.plan(&scene, &manifests(&declared), &[]).await;
    assert_eq!(said.stdout.matches("CreationHeld: ").count(), ACCOUNTS, "{said:?}");
    planner.leave(&scene).await;

    // The user confirms the move to the other database.
    scene.start(&[]);
    all_are_held(&scene).await;
    let release = Opsadmin::new().args(["release", "-n", scene.namespace.name(), "--kubeconfig"]);
    let release = release.args([scene.cluster.kubeconfig()]).args(["--all", "--only", "creations", "--yes"]);
    let said = release.run().await.succeeded();
    assert_eq!(said.matches("released ").count(), ACCOUNTS, "{said}");
    for name in names() {
        scene.ready(&name).await;
    }
    scene.stop().await;
    drop(own);
}

#[tokio::test]
async fn creations_in_an_emptied_database_are_held_until_it_is_restored() {
    let mut scene = Scene::with_controller("emptied", &[]).await;
    create_all(&scene).await;
    let before = keys(&scene).await;
    let tables = ["accounts", "account_roles", "account_allowed_ips", "account_keys"];
    let save = tables.map(|table| format!("CREATE TABLE saved_{table} AS SELECT * FROM {table}")).join("; ");
    by_hand(&scene.database, &save).await;
    // The database sends a notification for each deleted row.
    let lose = ["account_keys", "account_allowed_ips", "account_roles", "accounts"];
    by_hand(&scene.database, &lose.map(|table| format!("DELETE FROM {table}")).join("; ")).await;
    let message = all_are_held(&scene).await;
    assert!(message.contains("too many other accounts"), "{message}");
    assert_eq!(rows(&scene.database).await, 0);

    // A restart does not create the accounts either.
    scene.stop().await;
    scene.start(&[]);
    scene.create("fresh", json!({})).await;
    scene.ready("fresh").await;
    assert_eq!(rows(&scene.database).await, 1);
    all_are_held(&scene).await;

    let restore = tables.map(|table| format!("INSERT INTO {table} SELECT * FROM saved_{table}")).join("; ");
    by_hand(&scene.database, &format!("BEGIN; {restore}; COMMIT")).await;
    for name in names() {
        scene.ready(&name).await;
    }
    assert_eq!(keys(&scene).await, before, "with the keys that they had");
    scene.stop().await;
}

#[tokio::test]
async fn a_single_lost_row_is_restored_with_its_keys() {
    let mut scene = Scene::with_controller("one lost", &[]).await;
    create_all(&scene).await;
    let before = keys(&scene).await;
    let lose = "DELETE FROM account_keys WHERE account_id = (SELECT id FROM accounts WHERE name = 'a3'); \
         DELETE FROM accounts WHERE name = 'a3'";
    by_hand(&scene.database, lose).await;
    scene.event("a3", "Recovered").await;
    scene.ready("a3").await;
    assert_eq!(keys(&scene).await, before);
    scene.stop().await;
}

#[tokio::test]
async fn a_database_exchanged_under_a_running_controller_is_detected() {
    let mut scene = Scene::with_controller("swapped", &SWEEPING).await;
    create_all(&scene).await;
    let before = keys(&scene).await;
    let server = postgres().await;
    let other = server.database("swapped, other").await;
    Opsadmin::new().args(["migrate", "--database", other.url()]).run().await.succeeded();
    swap(&server.url("postgres"), scene.database.name(), other.name()).await;
    let message = all_are_held(&scene).await;
    assert!(message.contains("this is a different database"), "{message}");
    assert!(scene.log().contains("the account database is not the same as before"), "{}", scene.log());
    assert_eq!(rows(&scene.database).await, 0);

    swap(&server.url("postgres"), scene.database.name(), other.name()).await;
    for name in names() {
        scene.ready(&name).await;
    }
    assert_eq!(keys(&scene).await, before);
    scene.stop().await;
}

#[tokio::test]
async fn an_older_copy_in_place_of_the_database_is_brought_up_to_date() {
    let mut scene = Scene::with_controller("older copy", &SWEEPING).await;
    create_all(&scene).await;
    let server = postgres().await;
    let (url, own, copy) = (server.url("postgres"), scene.database.name().to_owned(), server.database("copy").await);
    // The copy has the same accounts in the same rows, so nothing in it has changed since.
    copied(&url, &own, copy.name()).await;
    scene.change("a3", json!({ "enabled": false })).await;
    scene.ready("a3").await;
    // Two sweeps with the database as it is: the next one asks only for what changed since.
    let swept = value(&scraped(&scene).await, SWEPT).unwrap_or_default();
    counted(&scene, SWEPT, swept + 2.0).await;
    swap(&url, &own, copy.name()).await;
    let enabled = "SELECT enabled::text FROM accounts WHERE name = 'a3'";
    eventually("the account to be disabled in the copy too", SOON, async || {
        let pool = sqlx::PgPool::connect(scene.database.url()).await.map_err(|error| error.to_string())?;
        let enabled: String = sqlx::query_scalar(enabled).fetch_one(&pool).await.map_err(|error| error.to_string())?;
        pool.close().await;
        if enabled == "false" { Ok(()) } else { Err(scene.log()) }
    })
    .await;
    scene.stop().await;
}

/// Makes the database `copy` a copy of the other one, even if clients are connected.
async fn copied(maintenance: &str, original: &str, copy: &str) {
    let pool = sqlx::PgPool::connect(maintenance).await.expect("it answers");
    run(&pool, format!(r#"DROP DATABASE "{copy}""#)).await.expect("it is dropped");
    run(&pool, format!(r#"ALTER DATABASE "{original}" WITH ALLOW_CONNECTIONS false"#)).await.expect("it is altered");
    eventually("the database to be copied", SOON, async || {
        run(&pool, ended(original)).await?;
        run(&pool, format!(r#"CREATE DATABASE "{copy}" TEMPLATE "{original}""#)).await
    })
    .await;
    run(&pool, format!(r#"ALTER DATABASE "{original}" WITH ALLOW_CONNECTIONS true"#)).await.expect("it is altered");
    pool.close().await;
}

/// Returns the statement that ends all connections to a database.
fn ended(database: &str) -> String {
    format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
}

/// Exchanges the names of two databases, even if clients are connected.
async fn swap(maintenance: &str, one: &str, other: &str) {
    let pool = sqlx::PgPool::connect(maintenance).await.expect("it answers");
    for name in [one, other] {
        run(&pool, format!(r#"ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false"#)).await.expect("it is altered");
    }
    for (from, to) in [(one, "swapping"), (other, one), ("swapping", other)] {
        eventually("the database to be renamed", SOON, async || {
            run(&pool, ended(from)).await?;
            run(&pool, format!(r#"ALTER DATABASE "{from}" RENAME TO "{to}""#)).await
        })
        .await;
    }
    for name in [one, other] {
        run(&pool, format!(r#"ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true"#)).await.expect("it is altered");
    }
    pool.close().await;
}

async fn run(pool: &sqlx::PgPool, statement: String) -> Result<(), String> {
    let ran = sqlx::query(AssertSqlSafe(statement)).execute(pool).await;
    ran.map(|_| ()).map_err(|error| error.to_string())
}
