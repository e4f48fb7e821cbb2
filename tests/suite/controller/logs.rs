//! The log: one line for each change, as text or as JSON, and no line without a change.

use serde_json::{Value, json};

use super::metrics;
use super::scene::Scene;
use crate::support::process::Folder;

/// Parses the lines, each of which must be JSON.
pub fn parsed(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Returns the account's name and the message of each line.
fn told(lines: &[Value]) -> Vec<(&str, &str)> {
    lines
        .iter()
        .map(|line| (line["name"].as_str().unwrap_or("-"), line["message"].as_str().expect("a message")))
        .collect()
}

#[tokio::test]
async fn there_is_a_line_for_each_change_and_none_after_a_restart() {
    let json_lines = ["--log-format", "json"];
    let mut scene = Scene::with_controller("log lines", &json_lines).await;
    scene.create("acme", json!({ "name": "Acme" })).await;
    scene.ready("acme").await;
    scene.create("other", json!({ "name": "Acme" })).await;
    scene.logged("has the account name").await;
    scene.change("acme", json!({ "description": "a \"portal\"\n", "roles": ["Customer"] })).await;
    scene.ready("acme").await;
    let log = scene.stop().await;
    let lines = parsed(&log);
    let namespace = scene.namespace.name();
    let refusal = format!(
        "the ApiAccount {namespace}/acme has the account name \"Acme\"; choose another spec.name, or rename or delete the holder; to swap two names, give one account a third name first"
    );
    let expected = [
        ("-", "serving metrics and probes"),
        ("-", "starting"),
        ("-", "the account database is ready"),
        ("acme", "created the account and its keys"),
        ("acme", "wrote the keys to the Secret acme-opsadmin"),
        ("other", refusal.as_str()),
        ("acme", r#"description: "" → "a \"portal\"\n"; roles: [] → [Customer]"#),
        ("-", "stopping: waiting for running reconciles"),
        ("-", "stopped"),
    ];
    assert_eq!(told(&lines), expected);
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        assert!(line["name"].is_null() || line["namespace"] == namespace, "{line}");
    }

    scene.start(&json_lines);
    // The controller reconciles a new account after those in the first list.
    scene.create("last", json!({})).await;
    scene.ready("last").await;
    let log = scene.stop().await;
    let expected = [
        ("-", "serving metrics and probes"),
        ("-", "starting"),
        ("-", "the account database is ready"),
        ("last", "created the account and its keys"),
        ("last", "wrote the keys to the Secret last-opsadmin"),
        ("-", "stopping: waiting for running reconciles"),
        ("-", "stopped"),
    ];
    assert_eq!(told(&parsed(&log)), expected);
}

#[tokio::test]
async fn a_text_line_is_plain_text_and_names_the_account() {
    let mut scene = Scene::with_controller("log text", &[]).await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    let log = scene.stop().await;
    assert!(!log.contains('\u{1b}'), "no colours where there is no terminal: {log}");
    let namespace = scene.namespace.name();
    let line =
        format!(r#" INFO created the account and its keys namespace="{namespace}" name="acme" change="Created""#);
    assert!(log.lines().any(|seen| seen.contains(&line)), "{line}\n{log}");
}

#[tokio::test]
async fn a_file_changes_the_filter_of_a_running_controller() {
    const REQUESTS: &str = "requesting";
    let folder = Folder::new("filter");
    let file = folder.path().join("filter");
    let mut scene = Scene::with_controller("log filter", &["--log-filter-file", &file.display().to_string()]).await;
    scene.create("before", json!({})).await;
    scene.logged("wrote the keys to the Secret before-opsadmin").await;
    assert!(!scene.log().contains(REQUESTS), "{}", scene.log());

    folder.write("filter", "kube_client::client::builder=debug\n");
    scene.logged("the file has changed the log filter").await;
    scene.create("acme", json!({})).await;
    scene.logged("wrote the keys to the Secret acme-opsadmin").await;
    scene.logged(REQUESTS).await;

    folder.write("filter", "kube_client=loud");
    scene.logged("the log filter stays as it is, because the file cannot be used").await;
    std::fs::remove_file(&file).expect("it is there");
    scene.logged("the log filter is as at the start again").await;
    scene.create("after", json!({})).await;
    scene.logged("wrote the keys to the Secret after-opsadmin").await;
    let log = scene.stop().await;
    let (_, last) = log.split_once("as at the start again").expect("it is there");
    // A new account takes three requests. One more may come between the line and the change.
    assert!(last.matches(REQUESTS).count() < 2, "{last}");

    // A start reads the file before it logs anything else.
    folder.write("filter", "warn");
    scene.start(&["--log-filter-file", &file.display().to_string()]);
    scene.create("last", json!({})).await;
    scene.ready("last").await;
    let log = scene.stop().await;
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("the file has changed the log filter") && log.contains("filter=\"warn\""), "{log}");
}

#[tokio::test]
async fn refusals_of_one_reason_are_limited_in_the_log_and_in_events_and_not_in_statuses() {
    const REFUSED: usize = 203;
    let mut scene = Scene::set("limited").await;
    for number in 0..=REFUSED {
        scene.create(&format!("a{number}"), json!({ "name": "the same" })).await;
    }
    // The controller then refuses all of them within seconds.
    scene.start(&[]);
    let refused = format!(r#"opsadmin_accounts{{reason="NameTaken"}} {REFUSED}"#);
    metrics::shows(&scene, &refused).await;
    metrics::shows(&scene, r#"opsadmin_events_lost_total{cause="limited"} 3"#).await;
    let log = scene.stop().await;
    assert_eq!(log.matches("ApiAccounts became NameTaken within a minute").count(), 1, "{log}");
    assert_eq!(log.matches("has the account name").count(), REFUSED - 3, "{log}");
}
