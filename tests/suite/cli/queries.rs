//! The commands that show accounts and affiliates: `get`, `check`, `history` and `affiliates`.

use std::fs;

use serde_json::{Value, json};

use super::staff_database::{StaffDatabase, refused};
use super::working_folder::WorkingFolder;
use crate::support::opsadmin::Opsadmin;

/// Creates an office with one account of each kind.
async fn office_with_each_kind() -> StaffDatabase {
    let office = StaffDatabase::sqlite().await;
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

async fn id_of(office: &StaffDatabase, name: &str) -> String {
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
    assert_eq!(rows[3][..6], ["left", "enabled", "none", "every", "any", "none"]);
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
    let elsewhere = office.run(&["get", "-n", "other", "bright", "--cluster-id", "local"]).await;
    refused(&elsewhere, 1, "no account of the ApiAccount other/bright of the cluster local");
}

/// An ApiAccount of the namespace `partners` of a cluster, with its account's name.
async fn declare(office: &StaffDatabase, cluster: &str, resource: &str, name: &str) {
    let metadata = json!({ "name": resource, "namespace": "partners" });
    let manifest = json!({
        "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": metadata, "spec": { "name": name }
    });
    let call = office.call_with_keyring(&["apply", "-f", "-", "--cluster-id", cluster]);
    call.args(["--secrets"])
        .args([office.secrets().with_file_name(cluster)])
        .stdin(manifest.to_string())
        .run()
        .await
        .succeeded();
}

#[tokio::test]
async fn after_the_quick_start_an_account_is_found_as_apply_prints_it() {
    let desk = WorkingFolder::with_quickstart();
    let applied = desk.apply(&["--unknown-affiliate", "register"]).await.succeeded();
    assert!(applied.contains("default/acme-portal"), "{applied}");
    let call =
        async |arguments: &[&str]| Opsadmin::new().args(arguments).args(["--database", &desk.database]).run().await;
    let whole = call(&["get", "Acme customer portal"]).await.succeeded();
    assert!(whole.contains("local/default/acme-portal"), "{whole}");
    let api_key = whole.split_whitespace().find(|word| word.starts_with("opsa_pk_")).expect("it is shown");
    let ways: [&[&str]; 5] = [
        &[api_key],
        &["acme-portal"],
        &["default/acme-portal"],
        &["local/default/acme-portal"],
        &["acme-portal", "-n", "default"],
    ];
    for way in ways {
        assert_eq!(call(&[&["get"], way].concat()).await.succeeded(), whole, "{way:?}");
    }
    for way in ways {
        for command in [&["check"][..], &["history"], &["suspend", "--reason", "unpaid"], &["resume"]] {
            call(&[command, way].concat()).await.succeeded();
        }
        let rotated = call(&[&["rotate"], way].concat()).await.succeeded();
        assert!(rotated.starts_with("Acme customer portal has a new key pair"), "{rotated}");
    }
    let listed = call(&["get", "-n", "default"]).await.succeeded();
    assert!(listed.contains("Acme customer portal"), "{listed}");
}

#[tokio::test]
async fn an_account_of_several_is_never_guessed() {
    let office = StaffDatabase::sqlite().await;
    declare(&office, "east", "portal", "Eastern").await;
    declare(&office, "west", "portal", "Western").await;
    let (east, west) = (id_of(&office, "Eastern").await, id_of(&office, "Western").await);
    for way in [&["portal"][..], &["partners/portal"], &["portal", "-n", "partners"]] {
        let several = office.run(&[&["get"], way].concat()).await;
        refused(&several, 1, "names 2 accounts, and none was chosen: add --cluster-id ID, or give the id");
        for said in [&east, &west, "east/partners/portal", "west/partners/portal"] {
            assert!(several.stderr.contains(said), "{said}: {several:?}");
        }
        // What it says is done.
        for (cluster, name) in [("east", "Eastern"), ("west", "Western")] {
            let one = office.json(&[&["get", "--cluster-id", cluster], way].concat()).await;
            assert_eq!(one["name"], name, "{way:?}");
        }
        let nowhere = office.run(&[&["suspend", "--reason", "x", "--cluster-id", "north"], way].concat()).await;
        assert_eq!(nowhere.status.code(), Some(1), "{nowhere:?}");
        assert!(nowhere.stderr.contains("east/partners/portal"), "{nowhere:?}");
    }
    assert_eq!(office.json(&["get", "west/partners/portal"]).await["name"], "Western");
    // Of an account that is deleted, the name is free.
    office.by_hand(&format!("UPDATE accounts SET enabled = FALSE, deleted_at = 5 WHERE id = '{west}'")).await;
    assert_eq!(office.json(&["get", "partners/portal"]).await["name"], "Eastern");
    assert_eq!(office.json(&["get", "partners/portal", "--cluster-id", "west"]).await["life"], "deleted");
    let deleted = office.run(&["get", "portal", "--cluster-id", "west"]).await;
    refused(&deleted, 1, &format!("Western (deleted) of the ApiAccount west/partners/portal with the id {west}"));
}

#[tokio::test]
async fn an_account_that_is_called_like_the_resource_of_another_is_not_taken_for_it() {
    let office = office_with_each_kind().await;
    let portal = id_of(&office, "Acme portal").await;
    // Without a slash, a name is the account's own first.
    declare(&office, "local", "impostor", "portal").await;
    let impostor = id_of(&office, "portal").await;
    assert_eq!(office.json(&["get", "portal"]).await["id"], json!(impostor));
    assert_eq!(office.json(&["get", "partners/portal"]).await["id"], json!(portal));
    // With one, it is not known which one is meant.
    declare(&office, "local", "impostor", "partners/portal").await;
    let either = office.run(&["suspend", "partners/portal", "--reason", "leaked"]).await;
    refused(&either, 1, "partners/portal names 2 accounts, and none was chosen: give the id");
    assert!(either.stderr.contains(&portal) && either.stderr.contains(&impostor), "{either:?}");
    assert_eq!(office.json(&["get", &portal]).await["suspension"], Value::Null);
    // An API key is public, and may be somebody's name.
    let api_key = office.json(&["get", &portal]).await["keys"][0]["apiKey"].as_str().expect("a key").to_owned();
    declare(&office, "local", "impostor", &api_key).await;
    refused(&office.run(&["get", &api_key]).await, 1, "names 2 accounts, and none was chosen: give the id");
}

#[tokio::test]
async fn a_mistyped_name_is_answered_with_the_nearest_one() {
    let office = office_with_each_kind().await;
    for (mistyped, said) in [
        (&["acme protal"][..], r#"there is no account "acme protal"; the nearest name is Acme portal; "#),
        (&["partners/protal"], "the nearest name is partners/portal; "),
        (
            &["protal", "-n", "partners"],
            "no account of the ApiAccount partners/protal; the nearest is partners/portal; ",
        ),
        (
            &["protal", "-n", "partners", "--cluster-id", "local"],
            "no account of the ApiAccount partners/protal of the cluster local; the nearest is partners/portal; ",
        ),
    ] {
        for command in [&["get"][..], &["check"], &["history"], &["suspend", "--reason", "x"], &["rotate"]] {
            refused(&office.run(&[command, mistyped].concat()).await, 1, said);
        }
    }
    let none = office.run(&["get", "nothing of the kind"]).await;
    refused(&none, 1, r#"there is no account "nothing of the kind"; `opsadmin get` lists them"#);
    let pasted = office.run(&["get", "opsa_sk_0123456789"]).await;
    refused(&pasted, 1, r#"there is no account "(hidden)""#);
    assert!(!pasted.stderr.contains("opsa_sk_"), "{pasted:?}");
}

#[tokio::test]
async fn list_and_ls_are_get() {
    let office = office_with_each_kind().await;
    let listed = office.run(&["get", "--cluster-id", "local"]).await.succeeded();
    for alias in ["list", "ls"] {
        assert_eq!(office.run(&[alias, "--cluster-id", "local"]).await.succeeded(), listed);
    }
    let help = Opsadmin::new().args(["--help"]).run().await.succeeded();
    assert!(help.contains("[aliases: list, ls]"), "{help}");
}

#[tokio::test]
async fn an_affiliate_named_every_is_not_shown_as_all_affiliates() {
    let office = StaffDatabase::sqlite().await;
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
    assert_eq!(lines[5], "address      pass      203.0.113.9 is in 203.0.113.0/24");
    let json = office.json(&inside).await;
    assert_eq!((&json["letIn"], &json["plans"]["all"]), (&json!(true), &json!(true)));
    assert_eq!(json["asked"]["ip"], "::ffff:203.0.113.9");

    for (arguments, why) in [
        (&["acme portal", "--ip", "192.0.2.1"][..], "192.0.2.1 is in none of the networks 203.0.113.0/24"),
        (&["acme portal", "--endpoint", "plans"], "the account is Customer, which does not open Plans"),
        (&["bright", "--role", "Customer"], "does not open all that Customer opens"),
        (&["bright", "--affiliate", "bright"], r#"the account sees only the plans of "Bright""#),
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
    let office = StaffDatabase::sqlite().await;
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
            "INSERT INTO account_journal (account_id, at, actor, requested_by, action, changes)
             VALUES ('{id}', 1, '{evil}', '{evil}', '{evil}', '{evil}')"
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
    let office = StaffDatabase::sqlite().await;
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

async fn uses_and_short_keys_are_shown(office: StaffDatabase) {
    let legacy = r#"{"name": "Acme", "apiKey": "legacy-1", "secretKey": "legacy-secret-0123456789"}"#;
    let import = office.call_with_keyring(&["import", "-"]).stdin(format!("{legacy}\n"));
    import.run().await.succeeded();
    let unused = office.json(&["get", "Acme"]).await;
    let key = &unused["keys"][0];
    assert_eq!(
        [&key["firstUsed"], &key["lastUsed"], &key["secretTooShort"]],
        [&json!(null), &json!(null), &json!(true)]
    );
    let pair = key["id"].as_str().expect("an id");
    office.by_hand(&format!("INSERT INTO key_uses VALUES ('{pair}', 5000000, 6000000)")).await;
    let times = [json!("1970-01-01T00:00:05Z"), json!("1970-01-01T00:00:06Z")];
    for shown in [office.json(&["get", "Acme"]).await, office.json(&["get"]).await["accounts"][0].clone()] {
        assert_eq!([&shown["keys"][0]["firstUsed"], &shown["keys"][0]["lastUsed"]], times.each_ref());
    }

    let text = office.run(&["get", "Acme"]).await.succeeded();
    assert!(text.contains("1970-01-01T00:00:06Z"), "{text}");
    let warned =
        |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").contains("fewer than 32 characters");
    assert!(warned(&text), "{text}");
    let check = office.run(&["check", "Acme"]).await;
    assert!(check.status.code() == Some(3) && warned(&check.stdout), "{check:?}");

    office.call_with_keyring(&["rotate", "Acme"]).run().await.succeeded();
    let rotated = office.run(&["check", "Acme"]).await;
    assert!(!warned(&rotated.succeeded()), "the new pair logs in");
    let both = office.json(&["get", "Acme"]).await;
    assert_eq!([&both["keys"][0]["secretTooShort"], &both["keys"][1]["secretTooShort"]], [false, true]);
}

#[tokio::test]
async fn uses_and_short_keys_are_shown_on_sqlite() {
    uses_and_short_keys_are_shown(StaffDatabase::sqlite().await).await;
}

#[tokio::test]
async fn uses_and_short_keys_are_shown_on_postgres() {
    uses_and_short_keys_are_shown(StaffDatabase::postgres("uses").await).await;
}
