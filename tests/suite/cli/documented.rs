//! The pages of the commands list exactly the JSON fields that the commands print.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::staff_database::StaffDatabase;
use crate::support::opsadmin::Opsadmin;

/// The pages that have a section for each command.
const PAGES: [&str; 3] = [
    include_str!("../../../docs/commands-accounts.md"),
    include_str!("../../../docs/commands-files.md"),
    include_str!("../../../docs/commands-running.md"),
];

/// The head of a table of JSON fields. Other tables of a section, such as tables of options, have another head.
const FIELDS: &str = "| field | meaning |";

/// Returns the fields that a command's section lists.
pub fn documented(command: &str) -> BTreeSet<String> {
    let heading = format!("\n## `{command}`\n");
    let found = PAGES.iter().find_map(|page| page.split_once(&heading));
    let (_, section) = found.unwrap_or_else(|| panic!("no section {heading:?}"));
    let section = section.split("\n## ").next().expect("there is a first");
    let tables = section.split(FIELDS).skip(1);
    let rows = tables.flat_map(|table| table.lines().skip(1).take_while(|line| line.starts_with('|')));
    let rows = rows.filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    rows.map(|(field, _)| field.to_owned()).collect()
}

/// Returns the paths of the fields of a value. Each path in `whole` counts as one field, because the fields below it
/// are documented elsewhere.
pub fn fields(value: &Value, whole: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(value, "", whole, &mut found);
    found
}

fn collect(value: &Value, path: &str, whole: &[&str], found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if whole.contains(&path.as_str()) || !matches!(value, Value::Object(_)) || is_optional(&path) {
                    found.insert(path.clone());
                }
                if !whole.contains(&path.as_str()) {
                    collect(value, &path, whole, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, &format!("{path}[]"), whole, found)),
        _ => {}
    }
}

/// Whether a field is an object that may be null. Such an object has its own line, beside the lines of its fields.
fn is_optional(path: &str) -> bool {
    ["suspension", "owner", "waiting"].contains(&path)
}

#[tokio::test]
async fn the_pages_have_every_field_of_the_commands_that_show_accounts() {
    let office = StaffDatabase::sqlite().await;
    office.apply(&[("acme", json!({ "roles": ["Customer"], "affiliate": "Bright" })), ("other", json!({}))]).await;
    office.by_hand("UPDATE accounts SET suspended_at = 5, suspended_reason = 'unpaid' WHERE name = 'acme'").await;
    let secret = office.call_with_keyring(&["get", "acme", "--show-secret", "-o", "json"]).run_on_terminal().await;
    let one: Value = serde_json::from_str(&secret.succeeded()).expect("it is JSON");
    let list = office.json(&["get"]).await;
    assert_eq!(&(&fields(&one, &[]) | &fields(&list, &["accounts"])), &documented("get"));
    assert_eq!(fields(&office.json(&["check", "acme"]).await, &[]), documented("check"));
    assert_eq!(fields(&office.json(&["history", "acme"]).await, &[]), documented("history"));
    let journal = office.run(&["journal"]).await.succeeded();
    let first: Value = serde_json::from_str(journal.lines().next().expect("a line")).expect("it is JSON");
    assert_eq!(fields(&first, &[]), documented("journal"));
    let affiliates = [office.json(&["affiliates", "list"]).await, office.json(&["affiliates", "add", "X"]).await];
    assert_eq!(&(&fields(&affiliates[0], &[]) | &fields(&affiliates[1], &[])), &documented("affiliates"));
}

#[tokio::test]
async fn the_pages_have_every_field_of_suspend_resume_and_rotate() {
    let office = StaffDatabase::sqlite().await;
    office.apply(&[("acme", json!({}))]).await;
    let suspended = office.json(&["suspend", "acme", "--reason", "unpaid"]).await;
    assert_eq!(fields(&suspended, &["account"]), documented("suspend"));
    assert_eq!(fields(&office.json(&["resume", "acme"]).await, &["account"]), documented("resume"));
    let rotated = office.call_with_keyring(&["rotate", "acme", "-o", "json"]).run().await.succeeded();
    let rotated: Value = serde_json::from_str(&rotated).expect("it is JSON");
    assert_eq!(fields(&rotated, &["account"]), documented("rotate"));
    let one = office.json(&["get", "acme"]).await;
    assert_eq!(rotated["account"], one);
}

#[tokio::test]
async fn the_pages_have_every_field_of_plan_validate_keyring_and_import() {
    let office = StaffDatabase::sqlite().await;
    office.apply(&[("acme", json!({})), ("gone", json!({})), ("observed", json!({})), ("stray", json!({}))]).await;
    office
        .by_hand(
            "UPDATE accounts SET owner_cluster = NULL, owner_namespace = NULL, owner_name = NULL WHERE name = 'stray'",
        )
        .await;
    let desired = [
        ("acme", json!({ "enabled": false, "rotation": { "trigger": "x" }, "secret": { "labels": { "a": "b" } } })),
        ("observed", json!({ "managementPolicy": "Observe", "description": "other" })),
        ("new", json!({ "roles": ["Administrator"] })),
        ("refused", json!({ "affiliate": "Nowhere" })),
        ("adopting", json!({ "name": "stray", "adoptionPolicy": "IfUnowned" })),
    ];
    let planned = office.plan(&desired, &["--prune"]).await;
    // This plan revokes no key, and it compares Secrets, so it lacks these two fields.
    let mut printed = fields(&planned, &[]);
    printed.extend(["accounts[].actions[].keys", "summary.secretsNotCompared"].map(str::to_owned));
    assert_eq!(printed, documented("plan"));

    let wrong = "kind: ApiAccount\napiVersion: ops-admin.com/v1\nmetadata:\n  name: a\nspec:\n  roles: [Admin]\n---\n\
                 kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: c\n";
    let call = Opsadmin::new().args(["validate", "-f", "-", "-o", "json"]).stdin(wrong).run().await;
    let found: Value = serde_json::from_str(&call.stdout).expect("it is JSON");
    assert_eq!(fields(&found, &[]), documented("validate"));
    let mut keyring = BTreeSet::new();
    for command in ["status", "rotate"] {
        let keys = office.call_with_keyring(&["keyring", command, "-o", "json"]).run().await.succeeded();
        keyring.extend(fields(&serde_json::from_str(&keys).expect("it is JSON"), &[]));
    }
    let init = Opsadmin::new().args(["keyring", "init", "-o", "json"]).run().await.succeeded();
    keyring.extend(fields(&serde_json::from_str(&init).expect("it is JSON"), &[]));
    assert_eq!(keyring, documented("keyring"));

    let office_import = "{\"name\": \"Old\", \"apiKey\": \"legacy-1\", \"secretKey\": \"legacy-secret-0123456789\"}\n";
    office.call_with_keyring(&["import", "-"]).stdin(office_import).run().await.succeeded();
    let allowed = office.json(&["allow-adoption", "Old", "--to", "partners", "--cluster-id", "here"]).await;
    assert_eq!(fields(&allowed, &["accounts"]), documented("allow-adoption"));
    let import = office.call_with_keyring(&["import", "-", "-o", "json"]).stdin("{}\n").run().await;
    let import: Value = serde_json::from_str(&import.stdout).expect("it is JSON");
    assert_eq!(fields(&import, &[]), documented("import"));
    assert_eq!(fields(&office.json(&["migrate", "--status"]).await, &[]), documented("migrate"));
}
