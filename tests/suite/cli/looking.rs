//! The commands that show accounts and affiliates: `get`, `check`, `history` and `affiliates`.

use std::fs;

use serde_json::{Value, json};

use super::office::{Office, refused};

/// Creates an office with one account of each kind.
async fn office_with_each_kind() -> Office {
    let office = Office::sqlite().await;
    let accounts = [
        ("portal", json!({ "name": "Acme portal", "roles": ["Customer"], "allowedIPs": ["203.0.113.0/24"] })),
        ("bright", json!({ "roles": ["PlansAndRates"], "affiliate": "Bright", "description": "two\nlines" })),
        ("old", json!({ "enabled": false })),
        ("stopped", json!({})),
        ("gone", json!({})),
        ("left", json!({})),
    ];
    office.apply(&accounts).await;
    office
        .by_hand("UPDATE accounts SET suspended_at = 5000000, suspended_reason = 'unpaid' WHERE name = 'stopped'")
        .await;
    office.by_hand("UPDATE accounts SET enabled = FALSE, deleted_at = 6000000 WHERE name = 'gone'").await;
    let disown =
        "UPDATE accounts SET owner_cluster = NULL, owner_namespace = NULL, owner_name = NULL WHERE name = 'left'";
    office.by_hand(disown).await;
    office
}

fn names(list: &Value) -> Vec<&str> {
    list["accounts"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|account| account["name"].as_str().expect("a name"))
        .collect()
}

async fn id_of(office: &Office, name: &str) -> String {
    office.database.column(&format!("SELECT id FROM accounts WHERE name = '{name}'")).await.remove(0)
}

#[tokio::test]
async fn accounts_are_listed_and_filtered() {
    let office = office_with_each_kind().await;
    let listed = office.run(&["get"]).await.succeeded();
    let rows: Vec<Vec<&str>> =
        listed.lines().map(|line| line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(rows[0], ["NAME", "STATE", "ROLES", "AFFILIATE", "ADDRESSES", "OWNER", "ID"]);
    assert_eq!(
        rows[1][..6],
        ["Acme portal", "enabled", "Customer", "every", "203.0.113.0/24", "local/partners/portal"]
    );
    assert_eq!(rows[2][..6], ["bright", "enabled", "PlansAndRates", "Bright", "any", "local/partners/bright"]);
    assert_eq!(rows[3][..6], ["left", "enabled", "none", "every", "any", "nobody"]);
    assert_eq!(rows[4][..2], ["old", "disabled"]);
    assert_eq!(rows[5][..2], ["stopped", "suspended"]);
    assert_eq!(rows.len(), 6);
    for (narrowed, expected) in [
        (&["--unowned"][..], &["left"][..]),
        (&["--suspended"], &["stopped"]),
        (&["--deleted"], &["gone"]),
        (&["--cluster-id", "local"], &["Acme portal", "bright", "old", "stopped"]),
        (&["--cluster-id", "elsewhere"], &[]),
        (&["--cluster-id", "local", "-n", "partners", "--suspended"], &["stopped"]),
        (&["--cluster-id", "local", "-n", "other"], &[]),
    ] {
        assert_eq!(names(&office.json(&[&["get"], narrowed].concat()).await), expected, "{narrowed:?}");
    }
    let nothing = office.run(&["get", "--cluster-id", "elsewhere"]).await;
    assert_eq!((nothing.stdout.as_str(), nothing.status.code()), ("", Some(0)));
    assert!(nothing.stderr.contains("there are no such accounts"), "{nothing:?}");
}

#[tokio::test]
async fn get_finds_an_account_by_name_id_or_resource_and_shows_all_of_it() {
    let office = office_with_each_kind().await;
    let id = id_of(&office, "bright").await;
    let text = office.run(&["get", "BRIGHT"]).await.succeeded();
    for line in [
        "Name:            bright",
        "Owner:           local/partners/bright",
        "State:           enabled",
        r#"Description:     "two\nlines""#,
        "Affiliate:       Bright",
        "Addresses:       any",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(text.contains("opsa_pk_") && text.contains("Active"), "{text}");
    let by_resource = ["get", "-n", "partners", "bright", "--cluster-id", "local"];
    for arguments in [&["get", &id][..], &by_resource] {
        assert_eq!(office.run(arguments).await.succeeded(), text);
    }
    let json = office.json(&["get", "bright"]).await;
    let yaml = office.run(&["get", "bright", "-o", "yaml"]).await.succeeded();
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).expect("it is YAML"), json);
    assert_eq!(json["owner"], json!({ "cluster": "local", "namespace": "partners", "name": "bright" }));
    assert_eq!(
        (&json["anyIP"], &json["life"], &json["keys"][0]["state"]),
        (&json!(true), &json!("live"), &json!("Active"))
    );

    let suspended = office.run(&["get", "stopped"]).await.succeeded();
    assert!(suspended.contains(r#"suspended since 1970-01-01T00:00:05Z, enabled: "unpaid""#), "{suspended}");
    let gone = id_of(&office, "gone").await;
    assert!(office.run(&["get", &gone]).await.succeeded().contains("deleted since 1970-01-01T00:00:06Z"));

    refused(&office.run(&["get", "nobody"]).await, 1, r#"there is no account "nobody""#);
    refused(&office.run(&["get", "gone"]).await, 1, &format!("a deleted one had the name, and its id is {gone}"));
    refused(&office.run(&["get", "portal"]).await, 1, "the ApiAccount partners/portal declares Acme portal");
    let elsewhere = office.run(&["get", "-n", "other", "bright", "--cluster-id", "local"]).await;
    refused(&elsewhere, 1, "no account of the ApiAccount other/bright of the cluster local");
}

#[tokio::test]
async fn an_affiliate_named_every_is_not_shown_as_all_affiliates() {
    let office = Office::sqlite().await;
    office.apply(&[("free", json!({})), ("tied", json!({ "affiliate": "every" }))]).await;
    let listed = office.run(&["get"]).await.succeeded();
    let shown = |account: &str| listed.lines().find(|line| line.starts_with(account)).expect("it is listed").to_owned();
    assert!(shown("free").contains(" every ") && shown("tied").contains(r#" "every" "#), "{listed}");
    let text = office.run(&["get", "tied"]).await.succeeded();
    assert!(text.contains("Affiliate:       \"every\"\n"), "{text}");
}

#[tokio::test]
async fn an_id_finds_its_account_even_if_it_is_the_name_of_another() {
    let office = office_with_each_kind().await;
    let id = id_of(&office, "bright").await;
    office.apply(&[("impostor", json!({ "name": id }))]).await;
    assert_eq!(office.json(&["get", &id]).await["name"], "bright");
}

#[tokio::test]
async fn a_secret_key_is_shown_on_a_terminal_and_nowhere_else() {
    let office = office_with_each_kind().await;
    let secret = office.secret("bright-opsadmin");
    let shown = office.call_with_keyring(&["get", "bright", "--show-secret"]).run_on_terminal().await.succeeded();
    let secret_key =
        shown.split_whitespace().find(|word| word.starts_with("opsa_sk_")).expect("it is shown").to_owned();
    let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &secret_key);
    assert!(secret.contains(&encoded) || secret.contains(&secret_key), "it is the one in the Secret");
    let as_json = office.call_with_keyring(&["get", "bright", "--show-secret", "-o", "json"]).run_on_terminal().await;
    assert!(as_json.succeeded().contains(&format!(r#""secretKey": "{secret_key}""#)));

    let piped = office.call_with_keyring(&["get", "bright", "--show-secret"]).run().await;
    refused(&piped, 1, "on a terminal only");
    assert_eq!(piped.stdout, "");
    let without = office.call(&["get", "bright"]).run_on_terminal().await.succeeded();
    assert!(!without.contains("opsa_sk_"), "{without}");
    let list = office.call_with_keyring(&["get", "--show-secret"]).run_on_terminal().await;
    assert_eq!(list.status.code(), Some(2), "of one account, never of all: {list:?}");
    fs::remove_file(office.keyring()).expect("it can be removed");
    let keyless = office.call_with_keyring(&["get", "bright", "--show-secret"]).run_on_terminal().await;
    assert!(keyless.stdout.contains("there is no keyring") && !keyless.status.success(), "{keyless:?}");
    assert!(!office.keyring().exists());
}

#[tokio::test]
async fn history_shows_time_actor_and_change_also_of_purged_accounts() {
    let office = office_with_each_kind().await;
    office
        .apply(&[("portal", json!({ "name": "Acme portal", "allowedIPs": ["203.0.113.0/24"], "enabled": false }))])
        .await;
    let id = id_of(&office, "Acme portal").await;
    let json = office.json(&["history", "acme portal"]).await;
    let actions: Vec<_> = json["entries"].as_array().expect("a list").iter().map(|entry| &entry["action"]).collect();
    assert_eq!((&json["account"], actions), (&json!(id), vec![&json!("created"), &json!("updated")]));
    let changes = json!([
        { "field": "enabled", "old": "true", "new": "false" },
        { "field": "roles", "old": "[Customer]", "new": "[]" },
    ]);
    assert_eq!((&json["entries"][1]["changes"], &json["entries"][1]["actor"]), (&changes, &json!("apply")));
    let text = office.run(&["history", &id]).await.succeeded();
    assert!(text.contains("updated   enabled: true → false\n") && text.contains(" roles: [Customer] → []\n"), "{text}");
    assert!(text.lines().all(|line| !line.contains("opsa_")), "{text}");

    for table in ["account_keys", "account_roles", "account_allowed_ips"] {
        office.by_hand(&format!("DELETE FROM {table} WHERE account_id = '{id}'")).await;
    }
    office.by_hand(&format!("DELETE FROM accounts WHERE id = '{id}'")).await;
    assert_eq!(office.run(&["history", &id]).await.succeeded(), text, "the journal outlives the account");
    let never = "00000000-0000-4000-8000-000000000000";
    refused(&office.run(&["history", never]).await, 1, "the journal tells nothing of the account");
    refused(&office.run(&["history", "Acme portal"]).await, 1, "there is no account");
}

#[tokio::test]
async fn check_prints_each_rule_and_has_an_exit_code_for_scripts() {
    let office = office_with_each_kind().await;
    let inside =
        ["check", "acme portal", "--ip", "::ffff:203.0.113.9", "--endpoint", "my-account", "--affiliate", "North"];
    let text = office.run(&inside).await.succeeded();
    assert!(text.ends_with("Acme portal is let in\n"), "{text}");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[5], "address      pass      203.0.113.9 lies in 203.0.113.0/24");
    let json = office.json(&inside).await;
    assert_eq!((&json["letIn"], &json["plans"]["all"]), (&json!(true), &json!(true)));
    assert_eq!(json["asked"]["ip"], "::ffff:203.0.113.9");

    for (arguments, why) in [
        (&["acme portal", "--ip", "192.0.2.1"][..], "192.0.2.1 lies in none of the networks 203.0.113.0/24"),
        (&["acme portal", "--endpoint", "plans"], "the account is Customer, which does not open Plans"),
        (&["bright", "--role", "Customer"], "does not open all that Customer opens"),
        (&["bright", "--affiliate", "bright"], r#"it sees the plans of "Bright" alone"#),
        (&["old"], "the account is disabled"),
        (&["stopped"], r#"suspended since 1970-01-01T00:00:05Z: "unpaid""#),
    ] {
        let finished = office.run(&[&["check"], arguments].concat()).await;
        assert_eq!(finished.status.code(), Some(3), "{finished:?}");
        let last = finished.stdout.lines().last().expect("a conclusion");
        assert!(last.contains("is not let in: ") && last.contains(why), "{last}");
        let json = office.json(&[&["check"], arguments].concat()).await;
        assert_eq!(json["letIn"], false);
        assert!(json["rules"].as_array().expect("rules").iter().any(|rule| rule["verdict"] == "fail"), "{json}");
    }
    refused(&office.run(&["check", "nobody"]).await, 1, "there is no account");
    for wrong in [
        &["bright", "--ip", "1.2.3"][..],
        &["bright", "--role", "Admin"],
        &["bright", "--role", "Customer", "--endpoint", "plans"],
    ] {
        assert_eq!(office.run(&[&["check"], wrong].concat()).await.status.code(), Some(2), "{wrong:?}");
    }
}

#[tokio::test]
async fn colours_are_printed_only_on_a_terminal_that_wants_them() {
    let office = office_with_each_kind().await;
    let check = || office.call(&["check", "bright"]).env("TERM", "xterm");
    assert!(check().run_on_terminal().await.succeeded().contains("\u{1b}[1m"));
    let unwanted = check().env("NO_COLOR", "1").run_on_terminal().await.succeeded();
    for plain in [unwanted, check().run().await.succeeded()] {
        assert!(plain.contains("let in") && !plain.contains('\u{1b}'), "{plain:?}");
    }
}

#[tokio::test]
async fn affiliates_are_listed_and_added_once() {
    let office = office_with_each_kind().await;
    assert_eq!(office.run(&["affiliates", "list"]).await.succeeded(), "Bright\n");
    assert!(office.run(&["affiliates", "add", "North"]).await.succeeded().contains("North now"));
    assert!(office.run(&["affiliates", "add", "North"]).await.succeeded().contains("North already"));
    assert_eq!(office.json(&["affiliates", "add", "South"]).await, json!({ "affiliate": "South", "added": true }));
    assert_eq!(office.json(&["affiliates", "list"]).await, json!({ "affiliates": ["Bright", "North", "South"] }));
    assert!(office.run(&["affiliates", "add", " North"]).await.succeeded().contains("North already"));
    for call in [&["affiliates", "add", ""][..], &["check", "bright", "--affiliate", ""]] {
        let refused = office.run(call).await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(refused.stderr.contains(": an affiliate must not be blank\n"), "{refused:?}");
    }
}

#[tokio::test]
async fn texts_from_the_database_cannot_print_lines_or_colours() {
    let office = Office::sqlite().await;
    office.apply(&[("acme", json!({}))]).await;
    let id = id_of(&office, "acme").await;
    let evil = "evil\u{1b}[31mred\nnobody   enabled\u{9b}2J\u{202e}\r";
    for sql in [
        format!("UPDATE accounts SET name = '{evil}', description = '{evil}', any_ip = FALSE"),
        format!("UPDATE accounts SET suspended_at = 1, suspended_reason = '{evil}', owner_namespace = '{evil}'"),
        format!("INSERT INTO account_roles VALUES ('{id}', '{evil}')"),
        format!("INSERT INTO account_allowed_ips VALUES ('{id}', '{evil}')"),
        format!("INSERT INTO affiliates VALUES ('{evil}', 0)"),
        format!("UPDATE accounts SET affiliate = '{evil}'"),
        format!(
            "INSERT INTO account_journal (account_id, at, actor, action, changes) VALUES ('{id}', 1, '{evil}', '{evil}', '{evil}')"
        ),
    ] {
        office.by_hand(&sql).await;
    }
    for look in [
        &["get"][..],
        &["get", &id],
        &["check", &id, "--ip", "10.0.0.1", "--affiliate", "A"],
        &["history", &id],
        &["affiliates", "list"],
        &["get", "acme"],
    ] {
        for format in ["text", "json", "yaml"] {
            let finished = office.run(&[look, &["-o", format]].concat()).await;
            let said = format!("{}{}", finished.stdout, finished.stderr);
            assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{look:?} {format}: {said:?}");
            assert!(!said.lines().any(|line| line.starts_with("nobody   enabled")), "{look:?} {format}: {said}");
            let shown = office.run(&[look, &["-o", format]].concat()).await;
            assert_eq!(shown.stdout, finished.stdout, "the same each time");
        }
    }
    let list = office.json(&["get"]).await;
    assert_eq!(names(&list), [evil], "and JSON says exactly what is there");
}

#[tokio::test]
async fn an_account_that_cannot_be_read_hides_no_other() {
    let office = Office::sqlite().await;
    office.apply(&[("acme", json!({})), ("bent", json!({}))]).await;
    let key = office.json(&["get", "bent"]).await["keys"][0]["id"].as_str().unwrap().to_owned();
    office.by_hand(&format!("UPDATE account_keys SET api_key = 'hush' WHERE id = '{key}'")).await;
    let complaint = format!(
        "left out an account: the account database holds a value that cannot be read: account_keys.api_key of {key}: "
    );
    let disown = "UPDATE accounts SET owner_cluster = NULL, owner_namespace = NULL, owner_name = NULL";
    for (look, shown) in [(["get"], "acme"), (["get"], "acme"), (["export"], "name: acme")] {
        let finished = office.run(&look).await;
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        assert!(finished.stdout.contains(shown), "{finished:?}");
        assert!(finished.stderr.contains(&complaint) && !finished.stderr.contains("hush"), "{finished:?}");
        office.by_hand(disown).await;
    }
}
