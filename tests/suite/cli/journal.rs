//! `opsadmin journal`: every entry of the journal as a JSON line, at least once, across restarts and late commits.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};

use super::staff_database::{StaffDatabase, refused};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_mins(1);

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn actions(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["action"].as_str().expect("an action")).collect()
}

/// Waits until the file has an entry with each of these actions.
async fn written(file: &Path, wanted: &[&str]) {
    eventually(&format!("the entries {wanted:?}"), SOON, async || {
        let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
        let all = lines(&text);
        if wanted.iter().all(|wanted| actions(&all).contains(wanted)) { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test]
async fn each_change_is_one_json_line_without_keys() {
    let office = StaffDatabase::sqlite().await;
    office.apply(&[("acme", json!({ "roles": ["Customer"] })), ("bolt", json!({}))]).await;
    office.run(&["suspend", "acme", "--reason", "unpaid since May", "--actor", "maria"]).await.succeeded();
    office.by_hand("UPDATE account_journal SET changes = 'by hand' || char(27) WHERE action = 'suspended'").await;
    let text = office.run(&["journal"]).await.succeeded();
    let all = lines(&text);
    assert_eq!(actions(&all), ["created", "created", "suspended"]);
    let history = office.json(&["history", "acme"]).await;
    let of_acme: Vec<&Value> = all.iter().filter(|line| line["account"] == history["account"]).collect();
    assert_eq!(of_acme.len(), 2);
    for (line, entry) in of_acme.iter().zip(history["entries"].as_array().expect("entries")) {
        for field in ["at", "actor", "generation", "requestedBy", "action", "changes", "note"] {
            assert_eq!(line[field], entry[field], "{field}");
        }
    }
    assert_eq!(of_acme[1]["note"], "by hand\u{1b}");
    assert!(!text.contains("opsa_sk_") && !text.contains('\u{1b}'), "{text}");
}

#[tokio::test]
async fn a_follower_of_the_journal_continues_after_a_restart() {
    let office = StaffDatabase::sqlite().await;
    office.apply(&[("acme", json!({}))]).await;
    let (file, cursor) = (office.secrets().with_extension("jsonl"), office.secrets().with_extension("cursor"));
    let call = office.call(&["journal", "--follow"]).args(["--to"]).args([&file]).args(["--cursor"]).args([&cursor]);
    let running = call.spawn();
    written(&file, &["created"]).await;
    office.run(&["suspend", "acme", "--reason", "unpaid"]).await.succeeded();
    written(&file, &["created", "suspended"]).await;
    let (code, log) = running.terminate(SOON).await;
    assert_eq!(code, 0, "{log}");
    office.run(&["resume", "acme"]).await.succeeded();
    let running = call.spawn();
    written(&file, &["resumed"]).await;
    running.kill().await;
    let text = fs::read_to_string(&file).expect("it was written");
    assert_eq!(actions(&lines(&text)), ["created", "suspended", "resumed"]);

    let other = StaffDatabase::sqlite().await;
    let elsewhere = other.call(&["journal"]).args(["--cursor"]).args([&cursor]).run().await;
    refused(&elsewhere, 1, "is about another database");
}

#[tokio::test]
async fn an_entry_that_is_committed_late_is_written() {
    let office = StaffDatabase::postgres("late journal").await;
    office.apply(&[("acme", json!({}))]).await;
    let file = office.secrets().with_extension("jsonl");
    let mut late = PgConnection::connect(office.database.url()).await.expect("the database answers");
    late.execute("BEGIN").await.expect("a transaction");
    let entry = "INSERT INTO account_journal (account_id, at, actor, action, changes)
        VALUES ('a', (extract(epoch FROM now()) * 1000000)::bigint, 'somebody', 'late', '[]')";
    late.execute(entry).await.expect("it is inserted");
    office.run(&["suspend", "acme", "--reason", "unpaid"]).await.succeeded();
    let call = office.call(&["journal", "--follow"]).args(["--to"]).args([&file]);
    let running = call.spawn();
    written(&file, &["created", "suspended"]).await;
    late.execute("COMMIT").await.expect("it is committed");
    written(&file, &["late"]).await;
    running.kill().await;
    let text = fs::read_to_string(&file).expect("it was written");
    assert_eq!(actions(&lines(&text)), ["created", "suspended", "late"]);
}
