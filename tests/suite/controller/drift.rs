//! Accounts that another client changed in the database. The controller detects the drift, corrects it and reports it:
//! at once on PostgreSQL, and by a sweep on SQLite.

use std::time::Instant;

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::scene::{SOON, Scene};
use crate::database_contract::fixture::{Cell, Fresh};
use crate::support::wait::eventually;

/// With these arguments, only a notification can cause a reconcile.
pub const NEVER: [&str; 4] = ["--unknown-affiliate", "register", "--sweep-interval", "1h"];
/// With these arguments, only a sweep can cause a reconcile on SQLite, because SQLite sends no notifications.
pub const SWEEPING: [&str; 4] = ["--unknown-affiliate", "register", "--sweep-interval", "1s"];

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

    /// Returns all fields of the account of this resource that the resource declares.
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

    /// Waits until the account has its declared fields again.
    async fn wait_until_restored(&self, resource: &str, before: &[Vec<Cell>], after: &str) {
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

pub async fn notes(scene: &Scene, account: &str, reason: &str) -> Vec<String> {
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
    each_declared_field_is_corrected_and_reported,
    a_row_deleted_by_hand_is_restored_with_its_keys,
    a_key_row_deleted_by_hand_is_restored_from_the_secret,
    drift_while_no_controller_ran_is_corrected_at_the_start,
);

pub fn full() -> Value {
    json!({
        "name": "Acme Energy", "description": "the portal", "enabled": true, "useRefreshToken": false,
        "affiliate": "North", "roles": ["Customer"], "allowedIPs": ["10.0.0.0/8"],
    })
}

async fn each_declared_field_is_corrected_and_reported(stage: Stage) {
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
        stage.wait_until_restored("acme", &before, &edit).await;
        stage.event("acme", "DriftCorrected", note).await;
    }
    assert_eq!(notes(&stage.scene, "acme", "Updated").await, Vec::<String>::new(), "the spec did not change");
    assert_eq!(stage.rows("SELECT version FROM accounts WHERE owner_name = 'other'").await, other);
    assert_eq!(stage.scene.data("acme-opsadmin").await, keys);

    stage.scene.change("acme", json!({ "description": "another portal" })).await;
    stage.scene.ready("acme").await;
    stage.event("acme", "Updated", r#"description: "the portal" → "another portal""#).await;
}

async fn drift_while_no_controller_ran_is_corrected_at_the_start(mut stage: Stage) {
    stage.scene.create("acme", full()).await;
    stage.scene.ready("acme").await;
    let before = stage.declared("acme").await;
    stage.scene.stop().await;
    let edit = "UPDATE accounts SET any_ip = TRUE, description = 'by hand'";
    stage.rows(edit).await;
    stage.scene.start_on(stage.database.url(), &NEVER);
    stage.wait_until_restored("acme", &before, edit).await;
}

async fn a_row_deleted_by_hand_is_restored_with_its_keys(stage: Stage) {
    stage.scene.create("acme", full()).await;
    // The controller does not trust a sweep that finds no account at all. So there is a second account.
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

    stage.wait_until_restored("acme", &before, "its deletion").await;
    assert_eq!(stage.rows(key).await, api_key);
    stage.event("acme", "Recovered", "created the account again, with the keys from its Secret").await;
    let after = stage.scene.secrets().get("acme-opsadmin").await.expect("the Secret is there");
    assert_eq!(after.metadata.resource_version, secret.metadata.resource_version, "it was right all along");
}

async fn a_key_row_deleted_by_hand_is_restored_from_the_secret(mut stage: Stage) {
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
    let note = "restored the account's keys from the Secret acme-opsadmin";
    stage.event("acme", "KeyRestored", note).await;
    stage.scene.ready("acme").await;
    let journal = "SELECT action FROM account_journal ORDER BY id DESC LIMIT 1";
    assert_eq!(stage.rows(journal).await, [[Some("restored key".to_owned())]]);
    let after = stage.scene.secrets().get("acme-opsadmin").await.expect("the Secret is there");
    assert_eq!(after.metadata.resource_version, secret.metadata.resource_version, "it was right all along");

    // The key is encrypted as before: after a deletion, the Secret is written from the database.
    stage.scene.secrets().delete("acme-opsadmin", &kube::api::DeleteParams::default()).await.expect("it is deleted");
    let uid = secret.metadata.uid;
    let written = stage.scene.secret_where("acme-opsadmin", "to come back", |found| found.metadata.uid != uid).await;
    assert_eq!(written.data, secret.data);

    // Without the row and without the Secret, the keys cannot be restored.
    stage.scene.stop().await;
    stage.rows(delete).await;
    stage.scene.secrets().delete("acme-opsadmin", &kube::api::DeleteParams::default()).await.expect("it is deleted");
    stage.scene.start_on(stage.database.url(), &NEVER);
    let refused = stage.scene.condition("acme", "False", "KeysMissing").await;
    let message = &refused.status.expect("it has a status").conditions[0].message;
    assert!(message.contains("has no active key pair in the database"), "{message}");
}

#[tokio::test]
async fn drift_on_postgres_is_corrected_each_time_without_a_sweep() {
    let stage = Stage::postgres("each time").await;
    stage.scene.create("acme", full()).await;
    stage.scene.ready("acme").await;
    let before = stage.declared("acme").await;
    for _ in 0..5 {
        let edit = "UPDATE accounts SET description = 'by hand'";
        stage.rows(edit).await;
        let edited = Instant::now();
        stage.wait_until_restored("acme", &before, edit).await;
        eprintln!("the account was as declared {:?} after the edit", edited.elapsed());
    }
}

#[tokio::test]
async fn drift_during_a_lost_listening_connection_is_corrected() {
    let stage = Stage::postgres("deaf for a moment").await;
    stage.scene.create("acme", full()).await;
    stage.scene.ready("acme").await;
    let before = stage.declared("acme").await;
    for _ in 0..3 {
        // The controller listens again after a tenth of a second at the earliest.
        let meanwhile = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                         WHERE datname = current_database() AND query LIKE 'LISTEN%'; \
                         UPDATE accounts SET description = 'while nobody listened'";
        stage.rows(meanwhile).await;
        stage.wait_until_restored("acme", &before, "a change that nobody heard of").await;
    }
}
