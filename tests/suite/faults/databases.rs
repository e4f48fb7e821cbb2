//! Faults of the database: restarted, crashed, locked, full, out of connections, silent.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::stage::{ACME, CLUSTER, Stage};
use super::state::Keys;
use crate::controller::scene::{SOON, Scene};
use crate::support::opsadmin::spawn_confined_controller;
use crate::support::postgres::Postgres;
use crate::support::process::Folder;
use crate::support::proxy::{Call, Fault, To};
use crate::support::wait::eventually;

const ACCOUNTS: usize = 10;

fn is_commit(call: &Call) -> bool {
    call.to == To::Database && call.what == "COMMIT"
}

async fn execute(connection: &mut PgConnection, statement: &str) {
    connection.execute(AssertSqlSafe(statement)).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

async fn session(stage: &Stage) -> PgConnection {
    PgConnection::connect(stage.database_url()).await.expect("the database answers")
}

/// Waits for one account with one key pair that was created once. Checks that the Secret contains its keys, and returns
/// them.
async fn made_once(stage: &Stage) -> Keys {
    stage.scene.ready(ACME).await;
    stage.quiet().await;
    let (seen, keys) = stage.look().await;
    assert_eq!(seen.rows, (1, 1), "{seen:?}");
    let created = seen.journal[ACME].iter().filter(|line| line.starts_with("created")).count();
    assert_eq!(created, 1, "{seen:?}");
    assert!(seen.secrets["acme-opsadmin"].contains("secret key 0 of acme"), "{seen:?}");
    assert!(seen.resources[ACME].ends_with("lies []"), "{seen:?}");
    keys
}

#[tokio::test]
async fn the_database_restarts_and_crashes_under_load() {
    let mut server = Postgres::new().await;
    let database = server.database("load").await;
    let mut stage = Stage::around(Scene::set("load").await, database.url().to_owned()).await;
    stage.start().await;
    for round in 0..4 {
        for number in 0..ACCOUNTS {
            let name = format!("a{round}-{number}");
            stage.scene.create(&name, json!({})).await;
        }
        // The server fails in the middle of a commit.
        stage.proxy.trace.begin();
        assert!(stage.proxy.trace.seen(SOON, is_commit).await.is_some(), "{}", stage.calls());
        if round % 2 == 0 {
            server.crash().await;
        } else {
            server.stop().await;
        }
        server.start().await;
        for number in 0..ACCOUNTS {
            stage.scene.ready(&format!("a{round}-{number}")).await;
        }
    }
    stage.quiet().await;
    let (seen, _) = stage.look().await;
    let made = i64::try_from(4 * ACCOUNTS).expect("it is a small number");
    assert_eq!(seen.rows, (made, made), "{seen:?}");
    assert!(seen.journal.values().all(|lines| lines.len() == 1), "{:?}", seen.journal);
    assert!(seen.secrets.iter().all(|(name, holds)| {
        let account = name.trim_end_matches("-opsadmin");
        holds.contains(&format!("secret key 0 of {account}\""))
    }));
    stage.scene.kill().await;
}

/// Crashes the server while it commits the creation of an account. With `is_done`, it crashes after the commit and
/// before its answer.
async fn crashed_in_a_commit(is_done: bool) {
    let mut server = Postgres::new().await;
    let database = server.database("commit").await;
    let mut stage = Stage::around(Scene::set("commit").await, database.url().to_owned()).await;
    stage.start().await;
    stage.proxy.trace.begin();
    stage.proxy.trace.meet(is_commit, [if is_done { Fault::KeepAnswer } else { Fault::Stall }]);
    stage.scene.create(ACME, json!({})).await;
    let met = stage.proxy.trace.seen(SOON, |call| is_commit(call) && !call.answer.is_empty()).await;
    assert!(met.is_some(), "{}", stage.calls());
    server.crash().await;
    stage.scene.condition(ACME, "Unknown", "DatabaseUnavailable").await;
    stage.proxy.trace.meet_all(is_commit, Fault::Disconnect);
    server.start().await;
    let (_, keys) = stage.look().await;
    assert_eq!(keys.len(), usize::from(is_done), "before the next try");
    stage.proxy.trace.heal();
    let after = made_once(&stage).await;
    assert!(!is_done || keys == after, "the keys that were committed are the ones that count");
    stage.scene.kill().await;
}

#[tokio::test]
async fn a_database_crash_after_a_commit_and_before_its_answer() {
    crashed_in_a_commit(true).await;
}

#[tokio::test]
async fn a_database_crash_before_a_commit() {
    crashed_in_a_commit(false).await;
}

#[tokio::test]
async fn a_rotation_that_is_not_committed_writes_no_new_keys() {
    let stage = Stage::with_controller("rotation fails").await;
    stage.scene.create(ACME, json!({})).await;
    let keys = made_once(&stage).await;
    let data = stage.scene.data("acme-opsadmin").await;
    stage.proxy.trace.meet_all(is_commit, Fault::Disconnect);
    stage.scene.change(ACME, json!({ "rotation": { "trigger": "now" } })).await;
    stage.scene.condition(ACME, "Unknown", "DatabaseUnavailable").await;
    assert_eq!(stage.scene.data("acme-opsadmin").await, data, "the keys that work\n{}", stage.calls());
    stage.proxy.trace.heal();
    stage.scene.ready(ACME).await;
    stage.quiet().await;
    let (seen, now) = stage.look().await;
    assert_eq!(now[ACME].1.len(), 2, "rotated once: {seen:?}");
    assert_eq!(now[ACME].1[1], keys[ACME].1[0], "the old pair goes on working");
    assert!(seen.secrets["acme-opsadmin"].contains("secret key 0 of acme"), "{seen:?}");
}

#[tokio::test]
async fn a_silent_database_is_reported_and_waited_for() {
    let stage = Stage::with_controller("silent").await;
    stage.proxy.trace.meet(|call| call.what.contains("INSERT INTO account_keys"), [Fault::Stall]);
    stage.proxy.trace.meet(is_commit, [Fault::KeepAnswer]);
    stage.scene.create(ACME, json!({})).await;
    let account = stage.scene.condition(ACME, "Unknown", "DatabaseUnavailable").await;
    let conditions = account.status.expect("it has a status").conditions;
    assert!(conditions[0].message.contains("no answer within"), "{conditions:?}");
    made_once(&stage).await;
    assert!(!stage.proxy.trace.is_waiting(), "both faults were met\n{}", stage.calls());
}

#[tokio::test]
async fn a_deadlock_is_reported_and_retried() {
    let stage = Stage::with_controller("deadlock").await;
    stage.scene.create(ACME, json!({ "roles": ["Customer"], "allowedIPs": ["192.0.2.0/24"] })).await;
    stage.scene.ready(ACME).await;
    stage.quiet().await;
    let (_, keys) = stage.look().await;
    let (mut gate, mut theirs, mut watch) = (session(&stage).await, session(&stage).await, session(&stage).await);
    execute(&mut gate, "BEGIN; SELECT * FROM account_roles FOR UPDATE").await;
    // The session that completes the cycle detects the deadlock and is aborted. Here it is the controller, because the
    // other session detects a deadlock much later.
    execute(&mut theirs, "SET deadlock_timeout = '10min'").await;
    execute(&mut theirs, "BEGIN; SELECT * FROM account_allowed_ips FOR UPDATE").await;
    stage.proxy.trace.begin();
    stage.scene.change(ACME, json!({ "roles": [] })).await;
    let waits = |call: &Call| call.what.starts_with("DELETE FROM account_roles");
    assert!(stage.proxy.trace.seen(SOON, waits).await.is_some(), "{}", stage.calls());
    let theirs = tokio::spawn(async move {
        execute(&mut theirs, "UPDATE accounts SET description = description").await;
        theirs
    });
    eventually("them to wait for the account that the controller holds", SOON, async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND wait_event_type = 'Lock' AND query LIKE 'UPDATE accounts SET description = description%'";
        let count: i64 = sqlx::query_scalar(waiting).fetch_one(&mut watch).await.map_err(|error| error.to_string())?;
        if count == 1 { Ok(()) } else { Err(format!("{count} are waiting")) }
    })
    .await;
    execute(&mut gate, "COMMIT").await;
    let deadlock = |call: &Call| call.answer == "40P01";
    assert!(stage.proxy.trace.seen(SOON, deadlock).await.is_some(), "{}", stage.calls());
    eventually("it to be taken for what passes by itself", SOON, async || {
        let log = stage.scene.log();
        if log.contains("the account database is not available") { Ok(()) } else { Err(log) }
    })
    .await;
    let mut theirs = theirs.await.expect("the controller gave way to them");
    execute(&mut theirs, "COMMIT").await;
    assert!(made_once(&stage).await == keys, "the keys stay");
    let (seen, _) = stage.look().await;
    assert!(seen.accounts[ACME].contains("roles: {}"), "{seen:?}");
}

#[tokio::test]
async fn a_locked_row_is_reported_and_waited_for() {
    let stage = Stage::with_controller("locked").await;
    stage.scene.create(ACME, json!({})).await;
    stage.scene.ready(ACME).await;
    let mut theirs = session(&stage).await;
    execute(&mut theirs, "BEGIN").await;
    execute(&mut theirs, "SELECT * FROM accounts FOR UPDATE").await;
    stage.scene.change(ACME, json!({ "enabled": false })).await;
    let account = stage.scene.condition(ACME, "Unknown", "DatabaseUnavailable").await;
    let conditions = account.status.expect("it has a status").conditions;
    assert!(conditions[0].message.contains("statement timeout"), "{conditions:?}");
    assert_eq!(conditions[1].type_, "Reconciling", "it passes by itself");
    execute(&mut theirs, "COMMIT").await;
    made_once(&stage).await;
}

#[tokio::test]
async fn exhausted_connections_are_reported_and_waited_for() {
    let server = Postgres::new().await;
    let database = server.database("limit").await;
    let mut admin = PgConnection::connect(&server.url("postgres")).await.expect("the database answers");
    execute(&mut admin, "CREATE ROLE app LOGIN PASSWORD 'app'").await;
    execute(&mut admin, &format!(r#"ALTER DATABASE "{}" OWNER TO app"#, database.name())).await;
    let mut url = url::Url::parse(database.url()).expect("it is a URL");
    url.set_username("app").expect("it has a host");
    url.set_password(Some("app")).expect("it has a host");
    let mut stage = Stage::around(Scene::set("limit").await, url.to_string()).await;
    stage.start().await;
    stage.scene.create(ACME, json!({})).await;
    let keys = made_once(&stage).await;

    execute(&mut admin, "ALTER ROLE app CONNECTION LIMIT 0").await;
    execute(&mut admin, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'app'").await;
    stage.scene.change(ACME, json!({ "enabled": false })).await;
    let account = stage.scene.condition(ACME, "Unknown", "DatabaseUnavailable").await;
    let message = account.status.expect("it has a status").conditions[0].message.clone();
    assert!(message.contains("too many connections for role"), "{message}");
    execute(&mut admin, "ALTER ROLE app CONNECTION LIMIT -1").await;
    assert!(made_once(&stage).await == keys, "the keys stay");
    stage.scene.kill().await;
}

#[tokio::test]
async fn an_sqlite_file_that_cannot_grow_is_reported_and_waited_for() {
    let folder = Folder::new("sqlite");
    let mut stage = Stage::on_sqlite("cannot grow", &folder).await;
    let namespace = stage.scene.namespace.name().to_owned();
    let (controller, confinement) = spawn_confined_controller(
        stage.proxy.kubeconfig(),
        &[&namespace],
        stage.proxy.database_url(),
        &stage.scene.keyring,
        &["--cluster-id", CLUSTER],
    );
    stage.scene.controller = Some(controller);
    stage.watching().await;
    stage.scene.create(ACME, json!({})).await;
    let keys = made_once(&stage).await;

    let log = fs::metadata(folder.path().join("accounts.db-wal")).expect("SQLite keeps a log").len();
    confinement.set(Some(log)).await;
    stage.scene.change(ACME, json!({ "enabled": false })).await;
    stage.scene.condition(ACME, "Unknown", "DatabaseUnavailable").await;
    stage.scene.create("second", json!({})).await;
    stage.scene.condition("second", "Unknown", "DatabaseUnavailable").await;
    let (seen, now) = stage.look().await;
    assert_eq!(seen.rows, (1, 1), "{seen:?}");
    assert!(seen.accounts[ACME].contains("enabled: true") && now == keys, "all of a change, or none: {seen:?}");

    confinement.set(None).await;
    stage.scene.ready(ACME).await;
    stage.scene.ready("second").await;
    stage.quiet().await;
    let (seen, now) = stage.look().await;
    assert_eq!((seen.rows, &now[ACME]), ((2, 2), &keys[ACME]), "{seen:?}");
    eventually("the change to be there", SOON, async || {
        let (seen, _) = stage.look().await;
        if seen.accounts[ACME].contains("enabled: false") { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

/// Sets the version that a program needs to write the file. SQLite only reads a file with an unknown version. File
/// permissions would not work, because root ignores them.
fn set_write_version(file: &Path, version: u8) {
    let file = File::options().write(true).open(file).expect("the file is there");
    file.write_all_at(&[version], 18).expect("the file can be written");
}

#[tokio::test]
async fn a_read_only_sqlite_file_is_reported_and_waited_for() {
    let folder = Folder::new("sqlite");
    let file = folder.path().join("accounts.db");
    let mut stage = Stage::on_sqlite("read only", &folder).await;
    stage.start().await;
    stage.scene.create(ACME, json!({})).await;
    stage.scene.ready(ACME).await;
    let data = stage.scene.data("acme-opsadmin").await;
    stage.scene.stop().await;
    set_write_version(&file, 3);

    stage.start().await;
    stage.scene.change(ACME, json!({ "enabled": false })).await;
    let account = stage.scene.condition(ACME, "Unknown", "DatabaseUnavailable").await;
    let conditions = account.status.expect("it has a status").conditions;
    assert!(conditions[0].message.contains("attempt to write a readonly database"), "{conditions:?}");
    assert_eq!(conditions[1].type_, "Reconciling", "it passes by itself");

    set_write_version(&file, 2);
    made_once(&stage).await;
    let (seen, _) = stage.look().await;
    assert!(seen.accounts[ACME].contains("enabled: false"), "{seen:?}");
    assert_eq!(stage.scene.data("acme-opsadmin").await, data, "the keys stay");
}
