//! `opsadmin plan`: it prints what `opsadmin apply` then does, and it changes nothing.

use std::fs;

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use super::working_folder::{WorkingFolder, account};
use crate::support::opsadmin::Opsadmin;
use crate::support::postgres::postgres;
use crate::support::run::Finished;

impl WorkingFolder {
    /// Plans the accounts, with or without comparing their Secrets.
    async fn plan(&self, secrets: bool, extra: &[&str]) -> Finished {
        let mut call = Opsadmin::new().args(["plan", "--database", &self.database, "-f"]).args([self.path("accounts")]);
        if secrets {
            call = call.args(["--secrets"]).args([self.path("secrets")]);
        }
        call.args(extra).run().await
    }

    /// Plans and then applies the accounts. Returns the JSON of both runs.
    async fn plan_and_apply(&self, extra: &[&str]) -> (Value, Value) {
        let extra = [extra, &["-o", "json"]].concat();
        let before = self.written();
        let planned = self.plan(true, &extra).await;
        assert_eq!(self.written(), before, "a plan writes nothing");
        let sure: &[&str] = if extra.contains(&"--prune") { &["--yes"] } else { &[] };
        (value(&planned), value(&self.apply(&[&extra, sure].concat()).await))
    }
}

fn value(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

fn results(report: &Value) -> Vec<String> {
    let accounts = report["accounts"].as_array().expect("a list");
    accounts.iter().map(|account| format!("{} {}", account["name"], account["result"]).replace('"', "")).collect()
}

#[tokio::test]
async fn a_plan_for_a_new_database_creates_nothing() {
    let desk = WorkingFolder::with_quickstart();
    let out = desk.plan(false, &["--unknown-affiliate", "register"]).await.succeeded();
    for expected in [
        "+ default/acme-portal  ",
        "acme-portal.yaml:2:1\n    create the account with new keys\n      name: \"Acme customer portal\"\n",
        "      allowedIPs: [2001:db8:a::/48, 203.0.113.0/24]\n    write the Secret acme-portal-opsadmin\n",
        "      enabled: false\n",
    ] {
        assert!(out.contains(expected), "{expected:?} in {out}");
    }
    assert!(out.ends_with("4 accounts: 4 to create (Secrets were not compared)\n"), "{out}");
    assert!(!out.contains('\u{1b}'), "no colours in a pipe: {out}");
    desk.plan(true, &["--unknown-affiliate", "register"]).await.succeeded();
    for file in ["opsadmin.db", "opsadmin.keyring", "secrets"] {
        assert!(!desk.path(file).exists(), "{file}");
    }
}

#[tokio::test]
async fn a_plan_without_secrets_says_that_they_were_not_compared() {
    let desk = WorkingFolder::new();
    desk.write("acme.yaml", &account("acme", "{ rotation: { overlap: 24h, trigger: one } }"));
    desk.apply(&[]).await.succeeded();
    let unseen = desk.plan(false, &[]).await.succeeded();
    assert_eq!(unseen, "1 account: nothing to change (Secrets were not compared)\n");
    assert_eq!(desk.plan(true, &[]).await.succeeded(), "1 account: nothing to change\n");
    let summary = |finished: &Finished| value(finished)["summary"]["secretsNotCompared"].clone();
    assert_eq!(summary(&desk.plan(false, &["-o", "json"]).await), json!(true));
    assert_eq!(summary(&desk.plan(true, &["-o", "json"]).await), Value::Null);

    // A plan with a rotation contains the change of its Secret, also without comparing Secrets.
    desk.edit("acme.yaml", "trigger: one", "trigger: two");
    let unseen = desk.plan(false, &["-o", "json"]).await;
    let seen = desk.plan(true, &["-o", "json"]).await;
    assert_eq!(value(&unseen)["accounts"], value(&seen)["accounts"]);
    assert!(seen.stdout.contains("correct-secret"), "{seen:?}");
    desk.apply(&[]).await.succeeded();

    // After `opsadmin rotate`, the Secret may still hold the old keys.
    let rotate = ["rotate", "acme", "--yes", "--database", &desk.database];
    Opsadmin::new().args(rotate).run().await.succeeded();
    let unseen = desk.plan(false, &[]).await.succeeded();
    assert!(unseen.contains("WARNING: its keys were rotated at ") && unseen.contains("was not looked at"), "{unseen}");
    assert!(desk.plan(true, &[]).await.succeeded().contains("correct the Secret acme-opsadmin"));
}

#[tokio::test]
async fn plan_and_apply_report_the_same_error_for_an_impossible_database() {
    let mut desk = WorkingFolder::with_quickstart();
    fs::write(desk.path("file"), "").expect("it can be written");
    for folder in ["nowhere", "file"] {
        desk.database = format!("sqlite://{}", desk.path(folder).join("opsadmin.db").display());
        let (planned, applied) = (desk.plan(false, &[]).await, desk.apply(&[]).await);
        assert_eq!((planned.status.code(), &planned.stdout), (Some(1), &String::new()));
        assert_eq!(planned.stderr, applied.stderr);
        assert!(planned.stderr.contains("cannot use"), "{planned:?}");
    }
}

#[tokio::test]
async fn the_plan_equals_what_apply_does() {
    let desk = WorkingFolder::with_quickstart();
    desk.write("gone.yaml", &account("gone", "{}"));
    let (planned, applied) = desk.plan_and_apply(&["--unknown-affiliate", "register"]).await;
    assert_eq!(planned, applied);
    assert_eq!(planned["summary"]["create"], 5);

    // An update, a rotation, a refused name, an account with its own Secret name, and a deleted Secret.
    desk.edit("acme-portal.yaml", "203.0.113.0/24", "203.0.113.128/25");
    let asked = "name: nightly-reports\n  annotations: { ops-admin.com/rotate: x }";
    desk.edit("internal.yaml", "name: nightly-reports", asked);
    desk.remove("gone.yaml");
    desk.write("taken.yaml", &account("taken", "{ name: GONE }"));
    desk.write("zz.yaml", &account("zz", "{ secret: { name: other } }"));
    fs::remove_file(desk.path("secrets/default.bright-api.yaml")).expect("it is there");
    let (planned, applied) = desk.plan_and_apply(&[]).await;
    assert_eq!(planned, applied);
    assert_eq!(
        results(&planned),
        [
            "acme-portal change",
            "bright-comparison change",
            "nightly-reports rotate",
            "old-import unchanged",
            "zz create",
            "taken refuse"
        ]
    );
    let refused = &planned["accounts"][5]["condition"];
    assert_eq!(refused["reason"], "NameTaken");
    let change = json!({ "field": "allowedIPs", "old": "[2001:db8:a::/48, 203.0.113.0/24]", "new": "[2001:db8:a::/48, 203.0.113.128/25]" });
    assert_eq!(planned["accounts"][0]["actions"], json!([{ "action": "update", "changes": [change] }]));
}

/// More accounts than the program processes in one batch. Some of them want each other's names.
#[tokio::test]
async fn the_plan_of_a_thousand_accounts_equals_what_apply_does() {
    let desk = WorkingFolder::new();
    let write = |spec_of: &dyn Fn(usize) -> Option<&'static str>| {
        let accounts = (0..1_010).filter_map(|number| Some(account(&format!("a{number:04}"), spec_of(number)?)));
        desk.write("all.yaml", &accounts.collect::<Vec<_>>().join("---\n"));
    };
    write(&|_| Some("{}"));
    desk.apply(&["-o", "json"]).await.succeeded();
    write(&|number| match number {
        0 => Some("{ name: freed }"),
        1 => Some("{ name: a1007 }"),
        700 => Some("{ name: a1008 }"),
        1_007 | 1_008 => None,
        1_009 => Some("{ name: A0000 }"),
        _ => Some("{}"),
    });
    let (planned, applied) = desk.plan_and_apply(&[]).await;
    assert_eq!(planned, applied);
    let of_note: Vec<String> = results(&planned).into_iter().filter(|result| !result.ends_with(" unchanged")).collect();
    assert_eq!(of_note, ["a0000 change", "a1009 change", "a0001 refuse", "a0700 refuse"]);
    assert_eq!(planned["summary"]["unchanged"], 1_004);
}

/// Its Secret was deleted with it, which the plan knows without reading the Secrets.
#[tokio::test]
async fn a_plan_without_secrets_writes_the_secret_of_a_restored_account() {
    let desk = WorkingFolder::new();
    for name in ["a", "b"] {
        desk.write(&format!("{name}.yaml"), &account(name, "{}"));
    }
    desk.apply(&[]).await.succeeded();
    desk.remove("b.yaml");
    desk.apply(&["--prune", "--yes"]).await.succeeded();
    desk.write("b.yaml", &account("b", "{}"));
    let mut unseen = value(&desk.plan(false, &["-o", "json"]).await);
    let summary = unseen["summary"].as_object_mut().expect("an object");
    assert_eq!(summary.remove("secretsNotCompared"), Some(json!(true)));
    let (planned, applied) = desk.plan_and_apply(&[]).await;
    assert_eq!((&unseen, &planned), (&planned, &applied));
    assert_eq!(planned["accounts"][1]["actions"][1], json!({ "action": "write-secret", "secret": "b-opsadmin" }));
}

/// An account gives up its name in the same run, by a rename or by a deletion.
#[tokio::test]
async fn a_name_that_is_freed_in_the_same_run_can_be_taken() {
    let desk = WorkingFolder::new();
    for (name, has) in
        [("a", "Alpha"), ("b", "Beta"), ("c", "Gamma"), ("old", "Moved"), ("left", "Left"), ("right", "Right")]
    {
        desk.write(&format!("{name}.yaml"), &account(name, &format!("{{ name: {has} }}")));
    }
    desk.apply(&[]).await.succeeded();
    desk.write("a.yaml", &account("a", "{ name: Beta }"));
    desk.write("b.yaml", &account("b", "{ name: Gamma, adoptionPolicy: IfUnowned }"));
    desk.write("c.yaml", &account("c", "{ name: Delta }"));
    desk.write("d.yaml", &account("d", "{ name: Alpha }"));
    desk.write("new.yaml", &account("new", "{ name: Moved }"));
    desk.remove("old.yaml");
    desk.write("left.yaml", &account("left", "{ name: Right }"));
    desk.write("right.yaml", &account("right", "{ name: Left }"));

    let (planned, applied) = desk.plan_and_apply(&["--prune"]).await;
    assert_eq!(planned, applied);
    let decided =
        ["c change", "old delete", "new create", "b change", "a change", "d create", "left refuse", "right refuse"];
    assert_eq!(results(&planned), decided);
    let told = planned["accounts"][6]["condition"]["message"].as_str().expect("it is refused");
    assert!(told.ends_with("to swap two names, give one account a third name first"), "{told}");

    let (planned, applied) = desk.plan_and_apply(&["--prune"]).await;
    assert_eq!(planned, applied);
    assert_eq!(planned["summary"]["unchanged"], 5, "nothing was left for a second run: {planned}");
}

/// A retained account keeps its name until its resource exists again with another name.
#[tokio::test]
async fn a_name_that_a_restored_account_frees_can_be_taken() {
    let desk = WorkingFolder::new();
    desk.write("kept.yaml", &account("kept", "{ name: Kept, deletionPolicy: Retain }"));
    desk.write("z.yaml", &account("z", "{}"));
    desk.apply(&[]).await.succeeded();
    let file = SqliteConnectOptions::new().filename(desk.path("opsadmin.db"));
    let sql = SqlitePool::connect_with(file).await.expect("it is there");
    let retain = "UPDATE accounts SET retained_at = created_at WHERE name = 'Kept'";
    sqlx::query(retain).execute(&sql).await.expect("as the controller does");
    sql.close().await;
    desk.write("a.yaml", &account("a", "{ name: Kept }"));
    desk.write("kept.yaml", &account("kept", "{ name: Other, deletionPolicy: Retain }"));
    let (planned, applied) = desk.plan_and_apply(&[]).await;
    assert_eq!(planned, applied);
    assert_eq!(results(&planned), ["kept restore", "z unchanged", "a create"]);
}

/// The Secret's labels name the account, but its controller reference names another object, and that decides.
#[tokio::test]
async fn a_secret_that_another_object_controls_is_never_removed() {
    let desk = WorkingFolder::new();
    desk.write("a.yaml", &account("a", "{}"));
    desk.apply(&[]).await.succeeded();
    let text = fs::read_to_string(desk.path("secrets/default.a-opsadmin.yaml")).expect("it is there");
    let theirs = "{ apiVersion: apps/v1, kind: Deployment, name: web, uid: x, controller: true }";
    let theirs = text.replace("metadata:\n", &format!("metadata:\n  ownerReferences:\n  - {theirs}\n"));
    fs::write(desk.path("secrets/default.old.yaml"), &theirs).expect("it can be written");
    let (planned, applied) = desk.plan_and_apply(&[]).await;
    assert_eq!(planned, applied);
    assert_eq!(results(&planned), ["a unchanged"]);
    let left = fs::read_to_string(desk.path("secrets/default.old.yaml")).expect("it is there");
    assert_eq!(left, theirs);
    desk.write("a.yaml", &account("a", "{ managementPolicy: Observe }"));
    assert_eq!(desk.plan(true, &[]).await.succeeded(), "1 account: nothing to change\n", "nor to be too many");
}

#[tokio::test]
async fn a_deletion_that_the_brake_holds_frees_no_name() {
    let desk = WorkingFolder::new();
    for number in 0..6 {
        desk.write(&format!("a{number}.yaml"), &account(&format!("a{number}"), "{}"));
    }
    desk.apply(&[]).await.succeeded();
    for number in 0..6 {
        desk.remove(&format!("a{number}.yaml"));
    }
    desk.write("new.yaml", &account("new", "{ name: a3 }"));
    let (planned, applied) = desk.plan_and_apply(&["--prune"]).await;
    assert_eq!(planned, applied);
    assert_eq!(planned["summary"]["refuse"], 7);
    assert_eq!(results(&planned)[6], "new refuse");
}

#[tokio::test]
async fn the_detailed_exit_code_distinguishes_no_change_changes_and_errors() {
    let desk = WorkingFolder::new();
    desk.write("a.yaml", &account("acme", "{}"));
    let code = async |extra: &[&str]| {
        let finished = desk.plan(false, extra).await;
        finished.status.code().unwrap_or_else(|| panic!("{finished:?}"))
    };
    assert_eq!(code(&["--detailed-exitcode"]).await, 2);
    assert_eq!(code(&[]).await, 0);
    desk.apply(&[]).await.succeeded();
    assert_eq!(code(&["--detailed-exitcode"]).await, 0);
    desk.write("b.yaml", &account("b", "{ affiliate: Nowhere }"));
    assert_eq!(code(&["--detailed-exitcode"]).await, 1, "a refusal");
    desk.write("b.yaml", &account("b", "{ roles: [Nobody] }"));
    assert_eq!(code(&["--detailed-exitcode"]).await, 1, "a manifest that is wrong");
}

#[tokio::test]
async fn a_read_only_user_can_plan_without_keyring_and_secrets() {
    let database = postgres().await.database("plan").await;
    let mut desk = WorkingFolder::with_quickstart();
    desk.database = database.url().to_owned();
    let before = desk.plan(false, &[]).await;
    assert!(before.stderr.contains("run `opsadmin migrate`"), "{}", before.stderr);
    let keyring = desk.path("opsadmin.keyring");
    Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]).run().await.succeeded();
    let keyring = keyring.to_str().expect("it is text");
    desk.apply(&["--keyring", keyring, "--unknown-affiliate", "register"]).await.succeeded();

    desk.database.push_str("?options=-c%20default_transaction_read_only%3Don");
    desk.edit("acme-portal.yaml", "- Customer", "- Administrator");
    desk.write("zz.yaml", &account("zz", "{}"));
    let out = desk.plan(false, &["--detailed-exitcode"]).await;
    assert_eq!(out.status.code(), Some(2), "{out:?}");
    assert!(out.stdout.contains("    roles: [Customer] → [Administrator]\n"), "{}", out.stdout);
    assert!(
        out.stdout.ends_with("5 accounts: 1 to create, 1 to change, 3 unchanged (Secrets were not compared)\n"),
        "{}",
        out.stdout
    );
}

#[tokio::test]
async fn a_read_only_database_file_can_be_planned() {
    let desk = WorkingFolder::with_quickstart();
    desk.apply(&["--unknown-affiliate", "register"]).await.succeeded();
    let file = desk.path("opsadmin.db");
    let mut permissions = fs::metadata(&file).expect("it is there").permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&file, permissions).expect("they can be set");
    assert_eq!(desk.plan(true, &[]).await.succeeded(), "4 accounts: nothing to change\n");
}

#[tokio::test]
async fn a_comment_for_a_pull_request_shows_one_good_and_one_bad_change() {
    let desk = WorkingFolder::with_quickstart();
    desk.write("gone.yaml", &account("gone", "{}"));
    desk.apply(&["--unknown-affiliate", "register"]).await.succeeded();
    desk.edit("internal.yaml", "enabled: false", "enabled: true");
    desk.remove("gone.yaml");
    desk.write("b.yaml", &account("b", "{ name: gone }"));
    let finished = desk.plan(false, &["-o", "markdown"]).await;
    assert_eq!(finished.status.code(), Some(1));
    let out = &finished.stdout;
    assert!(
        out.starts_with(
            "**opsadmin plan**: 5 accounts: 1 to change, 1 refused, 3 unchanged (Secrets were not compared)\n\n```diff\n"
        ),
        "{out}"
    );
    assert!(out.contains("\n!     NameTaken: the ApiAccount default/gone has the account name"), "{out}");
    assert!(out.contains("\n~     enabled: false → true\n"), "{out}");
}
