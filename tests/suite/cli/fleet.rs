//! Existing accounts: `opsadmin import`, `opsadmin export` and adoption, in which every partner keeps its keys.

use std::fs;

use serde_json::{Value, json};

use super::working_folder::{WorkingFolder, account};
use crate::support::opsadmin::Opsadmin;
use crate::support::postgres::postgres;
use crate::support::run::Finished;

const LEGACY: &str = "0f8b6c1e-legacy-secret";

impl WorkingFolder {
    async fn import(&self, file: &str, text: &str, extra: &[&str]) -> Finished {
        fs::write(self.path(file), text).expect("it can be written");
        let call = Opsadmin::new().args(["import", "--database", &self.database]).args([self.path(file)]);
        call.args(extra).run().await
    }

    /// Writes manifests of the accounts that no resource declares into the folder of manifests.
    async fn export(&self) -> Finished {
        let call = Opsadmin::new().args(["export", "--database", &self.database, "--folder"]);
        call.args([self.path("accounts")]).run().await
    }

    async fn plan_as_json(&self) -> Value {
        let call = Opsadmin::new().args(["plan", "-o", "json", "--database", &self.database, "-f"]);
        let out = call.args([self.path("accounts")]).run().await.succeeded();
        serde_json::from_str(&out).expect("it is JSON")
    }
}

/// Returns an account as a line of JSON, with the fields in `more`.
fn line(name: &str, number: usize, more: &Value) -> String {
    let mut fields =
        json!({ "name": name, "apiKey": format!("legacy-{number}"), "secretKey": format!("{LEGACY}-{number}") });
    fields.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    format!("{fields}\n")
}

/// Accounts with names and texts that are hard to write in YAML, in a file name or in a resource's name.
fn fleet() -> String {
    let full = json!({
        "description": "two\nlines: and \"quotes\" # no comment", "enabled": false, "useRefreshToken": true,
        "affiliate": "null", "roles": ["Customer", "PlansAndRates"], "allowedIPs": ["10.0.0.0/8", "2001:db8::7"],
    });
    let least = json!({});
    let names = [
        "Acme, Inc.",
        "acme inc",
        "ACME-INC!",
        "yes",
        "1e3",
        "- [x",
        "Ünïcode Énergie 🔌",
        "日本",
        "../../etc/passwd",
        "on",
    ];
    names
        .iter()
        .enumerate()
        .map(|(number, name)| line(name, number, if number % 2 == 0 { &full } else { &least }))
        .collect()
}

#[tokio::test]
async fn a_fleet_moves_in_and_every_partner_keeps_its_keys() {
    let desk = WorkingFolder::new();
    let fleet = fleet();
    let dry = desk.import("fleet.jsonl", &fleet, &["--dry-run", "--unknown-affiliate", "register"]).await.succeeded();
    assert_eq!(dry, "10 accounts can be imported\n");
    assert!(!desk.path("opsadmin.db").exists());
    desk.import("fleet.jsonl", &fleet, &["--unknown-affiliate", "register"]).await.succeeded();

    let list = Opsadmin::new().args(["export", "-o", "json", "--database", &desk.database]).run().await.succeeded();
    let planned = Opsadmin::new().args(["plan", "-f", "-", "--database", &desk.database]).stdin(list).run().await;
    assert!(planned.succeeded().ends_with("10 accounts: 10 to adopt (Secrets were not compared)\n"));
    let exported = desk.export().await.succeeded();
    assert_eq!(exported.lines().count(), 10, "{exported}");
    for file in ["acme-inc.yaml", "acme-inc-2.yaml", "acme-inc-3.yaml", "1e3.yaml", "x.yaml", "etc-passwd.yaml"] {
        assert!(desk.path("accounts").join(file).exists(), "{file}");
    }
    let planned = desk.plan_as_json().await;
    for account in planned["accounts"].as_array().expect("a list") {
        let actions: Vec<_> = account["actions"].as_array().expect("a list").iter().map(|a| &a["action"]).collect();
        assert_eq!(actions, ["adopt", "write-secret"], "{account}");
    }
    assert_eq!(planned["summary"]["adopt"], 10);

    let out = desk.apply(&[]).await.succeeded();
    assert!(out.ends_with("10 accounts: 0 created, 10 changed, 0 unchanged\n"), "{out}");
    let secret = desk.secret("1e3-opsadmin");
    assert_eq!((&*secret["OPSADMIN_API_KEY"], &*secret["OPSADMIN_SECRET_KEY"]), ("legacy-4", &*format!("{LEGACY}-4")));
    assert_eq!(desk.apply(&[]).await.succeeded(), "10 accounts: nothing to change\n");
    let nothing = desk.export().await;
    assert!(nothing.stderr.contains("nothing to export"), "{nothing:?}");

    // Imported keys have no recognizable form. They are still restored from the Secret, and replaced by a rotation.
    fs::remove_file(desk.path("opsadmin.db")).expect("it is there");
    desk.apply(&["--unknown-affiliate", "register", "--confirm-creation"]).await.succeeded();
    assert_eq!(desk.secret("1e3-opsadmin"), secret);
    desk.edit("1e3.yaml", "spec:", "spec:\n  rotation: { trigger: now }");
    desk.apply(&[]).await.succeeded();
    let text = fs::read_to_string(desk.path("secrets/default.1e3-opsadmin.yaml")).expect("it is there");
    assert!(!text.contains("ops-admin.com/imported"), "{text}");
    assert!(desk.secret("1e3-opsadmin")["OPSADMIN_SECRET_KEY"].starts_with("opsa_sk_"));
}

#[tokio::test]
async fn an_exported_manifest_never_takes_the_name_of_another_resource() {
    let desk = WorkingFolder::new();
    desk.write("last.yaml", &account("last", "{}"));
    desk.import("first.jsonl", &line("Acme Portal", 1, &json!({})), &[]).await.succeeded();
    desk.export().await.succeeded();
    desk.apply(&[]).await.succeeded();
    desk.import("second.jsonl", &line("Acme_Portal", 2, &json!({})), &[]).await.succeeded();
    let export = async |arguments: &[&str]| {
        Opsadmin::new().args(["export", "--database", &desk.database]).args(arguments).run().await.succeeded()
    };
    for is_deleted in [false, true] {
        if is_deleted {
            desk.remove("acme-portal.yaml");
            desk.apply(&["--prune", "--yes"]).await.succeeded();
        }
        for (arguments, name) in
            [(&[][..], "acme-portal-2"), (&["-n", "default"], "acme-portal-2"), (&["-n", "elsewhere"], "acme-portal")]
        {
            let manifest = export(arguments).await;
            assert!(manifest.contains(&format!("  name: {name}\n")), "{arguments:?}: {manifest}");
            let plan =
                Opsadmin::new().args(["plan", "-f", "-", "--database", &desk.database]).stdin(manifest).run().await;
            assert!(
                plan.stdout.ends_with("1 account: 1 to adopt (Secrets were not compared)\n") && plan.status.success(),
                "{plan:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_retained_account_is_exported_with_the_name_of_its_resource() {
    let desk = WorkingFolder::new();
    desk.write("acme-portal.yaml", &account("acme-portal", "{ name: Acme_Portal }"));
    desk.apply(&[]).await.succeeded();
    let sql = sqlx::sqlite::SqlitePool::connect(&desk.database).await.expect("it is there");
    sqlx::query("UPDATE accounts SET retained_at = 5").execute(&sql).await.expect("it can be edited");
    sql.close().await;
    desk.import("fleet.jsonl", &line("Acme Portal", 1, &json!({})), &[]).await.succeeded();
    let exported = Opsadmin::new().args(["export", "-o", "json", "--database", &desk.database]).run().await.succeeded();
    let list: Value = serde_json::from_str(&exported).expect("it is JSON");
    let names =
        list["items"].as_array().expect("a list").iter().map(|item| (&item["spec"]["name"], &item["metadata"]["name"]));
    let expected = [(json!("Acme Portal"), json!("acme-portal-2")), (json!("Acme_Portal"), json!("acme-portal"))];
    assert_eq!(names.map(|(account, resource)| (account.clone(), resource.clone())).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn with_one_invalid_line_nothing_is_imported() {
    let database = postgres().await.database("import").await;
    let mut desk = WorkingFolder::new();
    desk.database = database.url().to_owned();
    let keyring = desk.path("opsadmin.keyring");
    Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]).run().await.succeeded();
    let keyring = ["--keyring", keyring.to_str().expect("it is text")];
    desk.import("first.jsonl", &line("Acme", 1, &json!({})), &keyring).await.succeeded();

    let lines = [
        line("Birch", 2, &json!({ "roles": ["Admin"], "allowedIPs": ["10.0.0.1/8"] })),
        line("ACME", 3, &json!({})),
        line("Cedar", 1, &json!({})),
        line("Douglas", 4, &json!({})),
        line("douglas", 5, &json!({})),
        line("Elm", 6, &json!({ "affiliate": "Nowhere" })),
        format!("{{\"name\": \"Fir\", \"secretKey\": \"{LEGACY}\"\n"),
    ];
    for extra in [&["--dry-run"][..], &keyring] {
        let refused = desk.import("second.jsonl", &lines.concat(), extra).await;
        assert_eq!(refused.status.code(), Some(1));
        let file = desk.path("second.jsonl").display().to_string();
        for expected in [
            ":1: roles: ",
            ":1: allowedIPs: ",
            ":2: name: another account has this name, and the import overwrites no existing account",
            ":3: apiKey: another account has this API key",
            ":5: name: another account has this name",
            ":6: affiliate: OpsAdmin knows no affiliate of this name; register it",
            ":7: is not valid JSON",
        ] {
            assert!(refused.stderr.contains(&format!("{file}{expected}")), "{expected} in {}", refused.stderr);
        }
        assert!(refused.stderr.ends_with("nothing was imported\n"), "{}", refused.stderr);
        assert!(!refused.stderr.contains(LEGACY), "{}", refused.stderr);
    }
    let exported = Opsadmin::new().args(["export", "--database", &desk.database]).run().await.succeeded();
    assert_eq!(exported.matches("kind: ApiAccount").count(), 1, "{exported}");
}

#[tokio::test]
async fn an_import_without_a_keyring_creates_no_tables() {
    let database = postgres().await.database("import-keyless").await;
    let mut desk = WorkingFolder::new();
    desk.database = database.url().to_owned();
    let refused = desk.import("fleet.jsonl", &line("Acme", 1, &json!({})), &[]).await;
    assert!(refused.stderr.contains("a PostgreSQL database needs --keyring FILE"), "{refused:?}");
    let status = Opsadmin::new().args(["migrate", "--status", "--database", database.url()]).run().await;
    assert_eq!(status.status.code(), Some(2), "{status:?}");
}

#[tokio::test]
async fn invalid_lines_create_no_database_and_are_reported_once() {
    let desk = WorkingFolder::new();
    let lines = [line("Acme", 1, &json!({})), line("acme", 2, &json!({}))].concat();
    let refused = desk.import("fleet.jsonl", &lines, &[]).await;
    assert!(refused.stderr.contains(":2: name: another account has this name"), "{refused:?}");
    let refused = desk.import("fleet.jsonl", &lines, &["-o", "json"]).await;
    assert_eq!((refused.status.code(), &*refused.stderr), (Some(1), ""));
    let told: Value = serde_json::from_str(&refused.stdout).expect("it is JSON");
    assert_eq!((&told["imported"], &told["problems"][0]["line"]), (&json!(false), &json!(2)));
    for file in ["opsadmin.db", "opsadmin.keyring"] {
        assert!(!desk.path(file).exists(), "{file}");
    }
}

#[tokio::test]
async fn swapped_keys_are_not_stored() {
    let desk = WorkingFolder::new();
    let swapped = r#"{"name":"o","apiKey":"opsa_sk_swapped00000000000000","secretKey":"opsa_pk_swapped000000000000"}"#;
    let refused = desk.import("fleet.jsonl", swapped, &[]).await;
    for expected in [
        ":1: apiKey: this is not a valid API key: it begins with opsa_sk_, as a secret key does; are the two keys swapped?\n",
        ":1: secretKey: this is not a valid secret key: it begins with opsa_pk_, as an API key does; are the two keys swapped?\n",
    ] {
        assert!(refused.stderr.contains(expected), "{refused:?}");
    }
    assert!(!format!("{refused:?}").contains("opsa_sk_swapped"), "{refused:?}");
}

#[tokio::test]
async fn a_refusal_of_the_database_shows_no_keys() {
    let desk = WorkingFolder::new();
    desk.import("first.jsonl", &line("Acme", 1, &json!({})), &[]).await.succeeded();
    // The cells of this line are one column too far right, so the program cannot know which cell is the secret key.
    let shifted = format!("apiKey,secretKey,affiliate,name\nAcme-Inc,legacy-api-key-0001,{LEGACY},Birch\n");
    let taken = "apiKey,secretKey,name\nlegacy-9,0123456789abcdef,acme\n";
    for (text, said) in [(&*shifted, ":2: affiliate: OpsAdmin knows no"), (taken, ":2: name: another account has")] {
        for extra in [&[][..], &["--dry-run"], &["-o", "json"]] {
            let refused = desk.import("fleet.csv", text, extra).await;
            assert_eq!(refused.status.code(), Some(1), "{refused:?}");
            assert!(extra.contains(&"json") || refused.stderr.contains(said), "{refused:?}");
            assert!(!format!("{refused:?}").contains(LEGACY), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn a_secret_key_in_a_visible_field_is_not_stored() {
    let desk = WorkingFolder::new();
    for field in ["name", "description", "affiliate"] {
        let text = line("Acme", 1, &json!({ field: format!("{LEGACY}-1") }));
        let refused = desk.import("fleet.jsonl", &text, &["--unknown-affiliate", "register"]).await;
        assert!(refused.stderr.contains(&format!(":1: {field}: contains a secret key")), "{refused:?}");
        assert!(!format!("{refused:?}").contains(LEGACY), "{refused:?}");
    }
}

#[tokio::test]
async fn a_csv_file_can_be_imported() {
    let desk = WorkingFolder::new();
    let csv = format!(
        "name,roles,allowedIPs,enabled,apiKey,secretKey\n\"Acme, Inc.\",Customer PlansAndRates,10.0.0.0/8 192.0.2.1,,legacy-1,{LEGACY}\n"
    );
    assert!(
        desk.import("fleet.csv", &csv, &[])
            .await
            .succeeded()
            .ends_with("imported; `opsadmin export` writes its manifest\n")
    );
    desk.export().await.succeeded();
    let text = fs::read_to_string(desk.path("accounts/acme-inc.yaml")).expect("it is there");
    for expected in ["name: Acme, Inc.\n", "- PlansAndRates\n", "- 192.0.2.1/32\n", "adoptionPolicy: IfUnowned\n"] {
        assert!(text.contains(expected), "{expected:?} in {text}");
    }
}

#[tokio::test]
async fn with_an_unclosed_quote_nothing_is_imported() {
    let desk = WorkingFolder::new();
    let csv = format!(
        "name,apiKey,secretKey,description\nCedar,legacy-0,{LEGACY}-0,\nAcme,legacy-1,{LEGACY}-1,\"Acme portal\nBright,legacy-2,{LEGACY}-2,\n"
    );
    for extra in [&[][..], &["--dry-run"]] {
        let refused = desk.import("fleet.csv", &csv, extra).await;
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let said = "fleet.csv:3: cell 4 begins with a quote and has no closing quote\nnothing was imported\n";
        assert!(refused.stderr.ends_with(said) && !refused.stderr.contains("portal"), "{refused:?}");
        assert!(!desk.path("opsadmin.db").exists());
    }
}

#[tokio::test]
async fn an_account_that_cannot_be_declared_is_reported_and_not_exported() {
    let desk = WorkingFolder::new();
    let lines = [line("Good", 1, &json!({})), line("Nobody", 2, &json!({ "allowedIPs": ["10.0.0.0/8"] }))];
    desk.import("fleet.jsonl", &lines.concat(), &[]).await.succeeded();
    let sql = sqlx::sqlite::SqlitePool::connect(&desk.database).await.expect("it is there");
    sqlx::query("DELETE FROM account_allowed_ips").execute(&sql).await.expect("it can be edited");
    sql.close().await;
    let exported = desk.export().await;
    assert_eq!(exported.status.code(), Some(1));
    assert!(exported.stderr.contains("left out the account \"Nobody\" ("), "{exported:?}");
    assert!(
        exported
            .stderr
            .contains("it may not be used from any address, but an empty list in a manifest allows every address"),
        "{exported:?}"
    );
    assert!(desk.path("accounts/good.yaml").exists() && !desk.path("accounts/nobody.yaml").exists());

    let nowhere = Opsadmin::new().args(["export", "-n", "Bad_NS", "--database", &desk.database]).run().await;
    assert_eq!((nowhere.status.code(), nowhere.stdout.as_str()), (Some(2), ""), "{nowhere:?}");
    assert!(nowhere.stderr.contains("no namespace can have this name"), "{nowhere:?}");

    fs::write(desk.path("accounts/good.yaml"), "somebody's work").expect("it can be written");
    let again = desk.export().await;
    assert!(again.stderr.contains("exists with other contents"), "{again:?}");
}
