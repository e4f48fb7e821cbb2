//! Accounts that somebody else changed in the database: noticed, put back and told, at once on PostgreSQL and by a sweep on
//! SQLite.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::scene::{SOON, Scene};
use crate::database_contract::fixture::{Cell, Fresh};
use crate::support::postgres::Postgres;
use crate::support::wait::eventually;

/// Only a notification can be the reason of anything.
const NEVER: [&str; 4] = ["--unknown-affiliate", "register", "--sweep-interval", "1h"];
/// Nothing but the sweep can be the reason of anything: SQLite tells nothing.
const SWEEPING: [&str; 4] = ["--unknown-affiliate", "register", "--sweep-interval", "1s"];

struct Stage {
    scene: Scene,
    database: Fresh,
}

impl Stage {
    async fn postgres(test_name: &str) -> Self {
        Self::on(test_name, Fresh::postgres(test_name).await, &NEVER).await
    }

    async fn sqlite(test_name: &str) -> Self {
        Self::on(test_name, Fresh::sqlite(), &SWEEPING).await
    }

    async fn on(test_name: &str, database: Fresh, arguments: &[&str]) -> Self {
        let mut scene = Scene::set(test_name).await;
        scene.start_on(database.url(), arguments);
        Self { scene, database }
    }

    /// Everything of the account with this name that its resource declares.
    async fn declared(&self, resource: &str) -> Vec<Vec<Cell>> {
        let mine = format!("(SELECT id FROM accounts WHERE owner_name = '{resource}')");
        let account = format!(
            "SELECT name, name_key, description, enabled, use_refresh_token, affiliate, any_ip FROM accounts WHERE id = {mine}"
        );
        let mut all = self.rows(&account).await;
        for (table, column) in [("account_roles", "role"), ("account_allowed_ips", "cidr")] {
            let parts = format!("SELECT {column} FROM {table} WHERE account_id = {mine} ORDER BY {column}");
            all.extend(self.rows(&parts).await);
        }
        all
    }

    async fn rows(&self, sql: &str) -> Vec<Vec<Cell>> {
        self.database.by_hand(sql).await.expect("the database answers")
    }

    /// Waits until the account is as it was.
    async fn is_again(&self, resource: &str, before: &[Vec<Cell>], after: &str) {
        eventually(&format!("{resource} to be put back after {after}"), SOON, async || {
            let now = self.declared(resource).await;
            if now == before { Ok(()) } else { Err(format!("{now:?}\n{}", self.scene.log())) }
        })
        .await;
    }

    /// Waits until there is an event with this reason and this note.
    async fn event(&self, account: &str, reason: &str, note: &str) {
        eventually(&format!("an event {reason}: {note}"), SOON, async || {
            let notes = notes(&self.scene, account, reason).await;
            if notes.iter().any(|found| found == note) { Ok(()) } else { Err(notes.join("\n")) }
        })
        .await;
    }
}

async fn notes(scene: &Scene, account: &str, reason: &str) -> Vec<String> {
    let events: Api<Event> = Api::namespaced(scene.client.clone(), scene.namespace.name());
    let events = events.list(&ListParams::default()).await.expect("the API server lists events");
    let about = |event: &Event| {
        event.regarding.as_ref().and_then(|object| object.name.as_deref()) == Some(account)
            && event.reason.as_deref() == Some(reason)
    };
    events.into_iter().filter(about).filter_map(|event| event.note).collect()
}

macro_rules! on_each_database {
    ($($case:ident),* $(,)?) => {
        mod at_once_on_postgres {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Stage::postgres(stringify!($case)).await).await;
            })*
        }
        mod by_the_sweep_on_sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Stage::sqlite(stringify!($case)).await).await;
            })*
        }
    };
}

on_each_database!(
    each_declared_field_is_put_back_and_told,
    a_row_deleted_by_hand_comes_back_with_its_keys,
    a_key_row_deleted_by_hand_comes_back_from_the_secret,
);

fn full() -> Value {
    json!({
        "name": "Acme Energy", "description": "the portal", "enabled": true, "useRefreshToken": false,
        "affiliate": "North", "roles": ["Customer"], "allowedIPs": ["10.0.0.0/8"],
    })
}

async fn each_declared_field_is_put_back_and_told(stage: Stage) {
    stage.scene.create("acme", full()).await;
    stage.scene.create("other", json!({})).await;
    stage.scene.ready("acme").await;
    stage.scene.ready("other").await;
    let before = stage.declared("acme").await;
    let other = stage.rows("SELECT version FROM accounts WHERE owner_name = 'other'").await;
    let keys = stage.scene.data("acme-opsadmin").await;
    let mine = "account_id = (SELECT id FROM accounts WHERE owner_name = 'acme')";
    let put_in = |table: &str, value: &str| {
        format!("INSERT INTO {table} SELECT id, '{value}' FROM accounts WHERE owner_name = 'acme'")
    };
    let set = |set: &str| format!("UPDATE accounts SET {set} WHERE owner_name = 'acme'");
    for (edit, note) in [
        (set("name = 'By Hand', name_key = 'by hand'"), r#"name: "By Hand" → "Acme Energy""#),
        (set("description = 'by hand'"), r#"description: "by hand" → "the portal""#),
        (set("enabled = FALSE"), "enabled: false → true"),
        (set("use_refresh_token = TRUE"), "useRefreshToken: true → false"),
        (set("affiliate = NULL"), r#"affiliate: none → "North""#),
        (put_in("account_roles", "Administrator"), "roles: [Administrator, Customer] → [Customer]"),
        (
            format!("UPDATE account_roles SET role = 'PlansAndRates' WHERE {mine}"),
            "roles: [PlansAndRates] → [Customer]",
        ),
        (format!("DELETE FROM account_roles WHERE {mine}"), "roles: [] → [Customer]"),
        (set("any_ip = TRUE"), "allowedIPs: any, beside [10.0.0.0/8] → [10.0.0.0/8]"),
        (put_in("account_allowed_ips", "0.0.0.0/0"), "allowedIPs: [0.0.0.0/0, 10.0.0.0/8] → [10.0.0.0/8]"),
        (format!("UPDATE account_allowed_ips SET cidr = '::/0' WHERE {mine}"), "allowedIPs: [::/0] → [10.0.0.0/8]"),
        (format!("DELETE FROM account_allowed_ips WHERE {mine}"), "allowedIPs: none → [10.0.0.0/8]"),
        (
            format!("BEGIN; {}; {}; COMMIT", set("description = 'x', enabled = FALSE"), put_in("account_roles", "x")),
            r#"description: "x" → "the portal"; enabled: false → true; roles: [Customer, x] → [Customer]"#,
        ),
    ] {
        stage.rows(&edit).await;
        stage.is_again("acme", &before, &edit).await;
        stage.event("acme", "DriftCorrected", note).await;
    }
    assert_eq!(notes(&stage.scene, "acme", "Updated").await, Vec::<String>::new(), "the spec did not change");
    assert_eq!(stage.rows("SELECT version FROM accounts WHERE owner_name = 'other'").await, other);
    assert_eq!(stage.scene.data("acme-opsadmin").await, keys);

    stage.scene.change("acme", json!({ "description": "another portal" })).await;
    stage.scene.ready("acme").await;
    stage.event("acme", "Updated", r#"description: "the portal" → "another portal""#).await;
}

async fn a_row_deleted_by_hand_comes_back_with_its_keys(stage: Stage) {
    stage.scene.create("acme", full()).await;
    // A sweep that finds nothing at all is not believed.
    stage.scene.create("other", json!({})).await;
    stage.scene.ready("acme").await;
    stage.scene.ready("other").await;
    let before = stage.declared("acme").await;
    let key = "SELECT api_key FROM account_keys WHERE account_id = (SELECT id FROM accounts WHERE owner_name = 'acme')";
    let api_key = stage.rows(key).await;
    let secret = stage.scene.secrets().get("acme-opsadmin").await.expect("the Secret is there");
    let mine = "account_id = (SELECT id FROM accounts WHERE owner_name = 'acme')";
    let delete: Vec<_> = ["account_keys", "account_roles", "account_allowed_ips"]
        .map(|table| format!("DELETE FROM {table} WHERE {mine}"))
        .into();
    stage.rows(&format!("BEGIN; {}; DELETE FROM accounts WHERE owner_name = 'acme'; COMMIT", delete.join("; "))).await;

    stage.is_again("acme", &before, "its deletion").await;
    assert_eq!(stage.rows(key).await, api_key);
    stage.event("acme", "Recovered", "made the account anew, with the keys from its Secret").await;
    let after = stage.scene.secrets().get("acme-opsadmin").await.expect("the Secret is there");
    assert_eq!(after.metadata.resource_version, secret.metadata.resource_version, "it was right all along");
}

async fn a_key_row_deleted_by_hand_comes_back_from_the_secret(mut stage: Stage) {
    for name in ["acme", "other"] {
        stage.scene.create(name, json!({})).await;
        stage.scene.ready(name).await;
    }
    let keys = "SELECT a.owner_name, k.api_key FROM account_keys k JOIN accounts a ON a.id = k.account_id ORDER BY 1";
    let before = stage.rows(keys).await;
    let secret = stage.scene.secrets().get("acme-opsadmin").await.expect("the Secret is there");
    let delete = "DELETE FROM account_keys WHERE account_id = (SELECT id FROM accounts WHERE owner_name = 'acme')";
    stage.rows(delete).await;
    eventually("the key to be given back", SOON, async || {
        let now = stage.rows(keys).await;
        if now == before { Ok(()) } else { Err(format!("{now:?}\n{}", stage.scene.log())) }
    })
    .await;
    let note = "gave the account the keys back that the Secret acme-opsadmin still holds";
    stage.event("acme", "KeyRestored", note).await;
    stage.scene.ready("acme").await;
    let journal = "SELECT action FROM account_journal ORDER BY id DESC LIMIT 1";
    assert_eq!(stage.rows(journal).await, [[Some("restored key".to_owned())]]);
    let after = stage.scene.secrets().get("acme-opsadmin").await.expect("the Secret is there");
    assert_eq!(after.metadata.resource_version, secret.metadata.resource_version, "it was right all along");

    // Sealed as ever: a Secret that is deleted now is written from it.
    stage.scene.secrets().delete("acme-opsadmin", &kube::api::DeleteParams::default()).await.expect("it is deleted");
    let uid = secret.metadata.uid;
    let written = stage.scene.secret_where("acme-opsadmin", "to come back", |found| found.metadata.uid != uid).await;
    assert_eq!(written.data, secret.data);

    // With neither, there is no telling what they were.
    stage.scene.stop().await;
    stage.rows(delete).await;
    stage.scene.secrets().delete("acme-opsadmin", &kube::api::DeleteParams::default()).await.expect("it is deleted");
    stage.scene.start_on(stage.database.url(), &NEVER);
    let refused = stage.scene.condition("acme", "Unknown", "DatabaseUnavailable").await;
    let message = &refused.status.expect("it has a status").conditions[0].message;
    assert!(message.contains("has no active key pair in the database"), "{message}");
}

#[tokio::test]
async fn a_connection_that_was_lost_misses_nothing() {
    let stage = Stage::postgres("deaf for a moment").await;
    stage.scene.create("acme", full()).await;
    stage.scene.ready("acme").await;
    let before = stage.declared("acme").await;
    for _ in 0..3 {
        // Listening takes up again a tenth of a second later at the earliest.
        let meanwhile = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                         WHERE datname = current_database() AND query LIKE 'LISTEN%'; \
                         UPDATE accounts SET description = 'while nobody listened'";
        stage.rows(meanwhile).await;
        stage.is_again("acme", &before, "a change that nobody heard of").await;
    }
}

/// Statements that the server was asked for, one a line, with their parameters, since `mark` bytes of its log.
fn asked(server: &Postgres, mark: usize) -> Vec<String> {
    let log = server.log();
    let mut statements: Vec<String> = Vec::new();
    for line in log[mark..].lines() {
        if let Some((_, statement)) = line.split_once("LOG:  ").and_then(|(_, said)| said.split_once(": ")) {
            statements.push(statement.to_owned());
        } else if let (Some((_, parameters)), Some(last)) = (line.split_once("DETAIL:  "), statements.last_mut()) {
            last.push_str(" -- ");
            last.push_str(parameters);
        }
    }
    statements
}

/// How often the account of this resource was looked at.
fn looks(statements: &[String], resource: &str) -> usize {
    let parameters = format!("$3 = '{resource}'");
    let is_look = |asked: &&String| asked.starts_with("SELECT id, version, name") && asked.contains(&parameters);
    statements.iter().filter(is_look).count()
}

/// A server of its own, which writes down what it is asked.
async fn talkative() -> (Postgres, crate::support::postgres::TestDatabase) {
    let server = Postgres::new().await;
    let database = server.database("accounts").await;
    let mut connection = sqlx::postgres::PgConnection::connect(database.url()).await.expect("it answers");
    let every = format!(r#"ALTER DATABASE "{}" SET log_statement = 'all'"#, database.name());
    connection.execute(AssertSqlSafe(every)).await.expect("it is set");
    connection.close().await.expect("it is closed");
    (server, database)
}

#[tokio::test]
async fn its_own_writes_are_no_reason_to_look_again() {
    const CHANGES: usize = 8;
    let mut scene = Scene::set("echoes").await;
    let (server, database) = talkative().await;
    scene.start_on(database.url(), &NEVER);
    for name in ["acme", "other"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    // What was heard before this has been put back was heard.
    let pass_the_time = async |text: &str| {
        let mut connection = sqlx::postgres::PgConnection::connect(database.url()).await.expect("it answers");
        let edit = format!("UPDATE accounts SET description = '{text}' WHERE owner_name = 'other'");
        connection.execute(AssertSqlSafe(edit)).await.expect("it is taken");
        let note = format!(r#"description: "{text}" → """#);
        eventually("the other account to be put back", SOON, async || {
            let notes = notes(&scene, "other", "DriftCorrected").await;
            if notes.contains(&note) { Ok(()) } else { Err(scene.log()) }
        })
        .await;
    };
    pass_the_time("first").await;
    let mark = server.log().len();
    for number in 0..CHANGES {
        scene.change("acme", json!({ "description": number.to_string() })).await;
        scene.ready("acme").await;
    }
    pass_the_time("last").await;
    scene.stop().await;

    let statements = asked(&server, mark);
    let all = statements.join("\n");
    assert_eq!(looks(&statements, "acme"), CHANGES, "one for each change\n{all}");
    assert_eq!(looks(&statements, "other"), 1, "one for the change by another\n{all}");
}

#[tokio::test]
async fn a_sweep_over_unchanged_accounts_does_nothing() {
    let mut scene = Scene::set("silent sweeps").await;
    let (server, database) = talkative().await;
    scene.start_on(database.url(), &SWEEPING);
    for number in 0..5 {
        scene.create(&format!("a{number}"), full_of(number)).await;
    }
    for number in 0..5 {
        scene.ready(&format!("a{number}")).await;
    }
    let sweeps = |statements: &[String]| {
        let is_sweep = |asked: &&String| asked.starts_with("SELECT owner_namespace, owner_name, version");
        statements.iter().filter(is_sweep).count()
    };
    let pass = async |mark: usize, count: usize| {
        eventually("sweeps", SOON, async || {
            let statements = asked(&server, mark);
            if sweeps(&statements) >= count { Ok(()) } else { Err(scene.log()) }
        })
        .await;
    };
    // The last echo of a resource's own finalizer and status may be on its way still.
    pass(0, 3).await;
    let (mark, calls) = (server.log().len(), scene.cluster.audit(scene.namespace.name()));
    pass(mark, 4).await;
    scene.stop().await;

    let statements = asked(&server, mark);
    let is_idle = |asked: &&String| {
        // Versions; live accounts, for orphans; deleted ones, to purge. One of each, however many accounts.
        asked.starts_with("SELECT owner_namespace, owner_name")
            || asked.starts_with("SELECT id FROM accounts WHERE owner_cluster = $1 AND deleted_at < $2")
            || asked.starts_with("BEGIN")
            || ["COMMIT", "ROLLBACK", "SELECT 1", "UNLISTEN *"].contains(&asked.as_str())
    };
    let busy: Vec<_> = statements.iter().filter(|asked| !is_idle(asked)).collect();
    assert!(busy.is_empty(), "{busy:#?}");
    if let (Some(before), Some(after)) = (calls, scene.cluster.audit(scene.namespace.name())) {
        let since: Vec<_> =
            after[before.len()..].iter().filter(|call| call.user_agent.starts_with("opsadmin/")).collect();
        assert!(since.iter().all(|call| call.verb == "watch"), "{since:#?}");
    }
}

fn full_of(number: usize) -> Value {
    let mut spec = full();
    spec["name"] = json!(format!("Account {number}"));
    spec
}

#[tokio::test]
async fn sweeps_that_fail_are_told_once_and_made_up_for() {
    let mut scene = Scene::set("failing sweeps").await;
    let mut server = Postgres::new().await;
    let database = server.database("accounts").await;
    scene.start_on(database.url(), &SWEEPING);
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    server.stop().await;
    let failed = "a sweep for changes by others failed";
    eventually("a sweep to fail", SOON, async || {
        let log = scene.log();
        if log.contains(failed) { Ok(()) } else { Err(log) }
    })
    .await;
    // Long enough for another: each waits five seconds for a connection.
    tokio::time::sleep(Duration::from_secs(8)).await;
    server.start().await;
    let mut connection = sqlx::postgres::PgConnection::connect(database.url()).await.expect("it answers");
    connection.execute("UPDATE accounts SET description = 'by hand'").await.expect("it is taken");
    eventually("the edit to be put back", SOON, async || {
        let now: String = sqlx::query_scalar("SELECT description FROM accounts").fetch_one(&mut connection).await?;
        if now.is_empty() { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
    })
    .await;
    let log = scene.stop().await;
    assert_eq!(log.matches(failed).count(), 1, "{log}");
}

#[tokio::test]
async fn a_sweep_that_finds_no_account_at_all_is_not_believed() {
    let mut stage = Stage::sqlite("empty sweep").await;
    stage.scene.create("acme", json!({})).await;
    stage.scene.ready("acme").await;
    stage.rows("BEGIN; DELETE FROM account_keys; DELETE FROM accounts; COMMIT").await;
    let empty = "a sweep for changes by others found no account at all";
    eventually("a sweep to find nothing", SOON, async || {
        let log = stage.scene.log();
        if log.contains(empty) { Ok(()) } else { Err(log) }
    })
    .await;
    // Time for two more.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(stage.rows("SELECT count(*) FROM accounts").await, [[Some("0".to_owned())]]);
    stage.scene.change("acme", json!({ "description": "looked at again" })).await;
    stage.scene.ready("acme").await;
    stage.event("acme", "Recovered", "made the account anew, with the keys from its Secret").await;
    let log = stage.scene.stop().await;
    assert_eq!(log.matches(empty).count(), 1, "{log}");
}
