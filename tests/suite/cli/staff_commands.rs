//! The commands that change an account by hand: `suspend`, `resume` and `rotate`. Also the program as a kubectl plugin,
//! and shell completion.

use std::fs::OpenOptions;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::staff_database::{StaffDatabase, refused};
use crate::support::opsadmin::Opsadmin;

async fn office_with_one_account() -> StaffDatabase {
    let office = StaffDatabase::sqlite().await;
    office.apply(&[("acme", json!({ "rotation": { "trigger": "one" } }))]).await;
    office
}

/// Returns the actor and the action of each journal entry.
async fn journal_entries(office: &StaffDatabase) -> Vec<String> {
    office.database.column("SELECT actor || ' ' || action FROM account_journal ORDER BY id").await
}

fn pairs(account: &Value) -> Vec<(&str, &str)> {
    let text = |value: &'_ Value| -> String { value.as_str().expect("a text").to_owned() };
    let keys = account["keys"].as_array().expect("keys");
    assert!(keys.iter().all(|key| !text(&key["apiKey"]).is_empty()));
    keys.iter().map(|key| (key["id"].as_str().expect("an id"), key["state"].as_str().expect("a state"))).collect()
}

#[tokio::test]
async fn a_command_that_narrows_an_access_returns_after_the_lag_of_auth_servers() {
    let office = StaffDatabase::sqlite().await;
    office.apply(&[("acme", json!({}))]).await;
    let took = async |arguments: &[&str]| {
        let started = Instant::now();
        office.call(arguments).args(["--revocation-lag", "2s"]).run().await.succeeded();
        started.elapsed()
    };
    let lag = Duration::from_secs(2);
    assert!(took(&["suspend", "acme", "--reason", "unpaid"]).await >= lag);
    let keyring = office.keyring();
    let keyring = keyring.to_str().expect("it is text");
    assert!(took(&["rotate", "acme", "--overlap", "0s", "--yes", "--keyring", keyring]).await >= lag);
    let folder = office.secrets();
    let apply = ["apply", "-f", "-", "--prune", "--yes", "--secrets", folder.to_str().expect("it is text")];
    let started = Instant::now();
    let disabled = json!({
        "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount",
        "metadata": { "name": "acme", "namespace": "partners" }, "spec": { "enabled": false },
    });
    let call = office.call_with_keyring(&apply).args(["--revocation-lag", "2s"]).stdin(disabled.to_string());
    call.run().await.succeeded();
    assert!(started.elapsed() >= lag);
}

#[tokio::test]
async fn a_suspension_is_recorded_once_and_can_be_ended() {
    let office = office_with_one_account().await;
    let suspend = async |reason: &str| office.run(&["suspend", "ACME", "--reason", reason, "--actor", "maria"]).await;
    let said = suspend("unpaid").await.succeeded();
    assert!(said.starts_with("acme is suspended since ") && said.ends_with("Z: \"unpaid\"\n"), "{said}");
    assert!(suspend("unpaid").await.succeeded().starts_with("acme is suspended already, since "));
    assert_eq!(office.run(&["check", "acme"]).await.status.code(), Some(3));
    assert!(suspend("still unpaid").await.succeeded().contains("still unpaid"));
    let apply = office.apply(&[("acme", json!({ "rotation": { "trigger": "one" }, "description": "x" }))]).await;
    assert!(apply.contains("description"), "{apply}");

    let resumed = office.json(&["resume", "acme"]).await;
    assert_eq!((&resumed["changed"], &resumed["account"]["suspension"]), (&json!(true), &json!(null)));
    assert_eq!(office.run(&["resume", "acme"]).await.succeeded(), "acme is not suspended\n");
    assert_eq!(office.run(&["check", "acme"]).await.status.code(), Some(0));
    let told = journal_entries(&office).await;
    assert_eq!(told[1..4], ["cli:maria suspended", "cli:maria suspended", "apply updated"]);
    assert!(told[4].starts_with("cli:") && told[4].ends_with(" resumed"), "{told:?}");
    assert_eq!(told.len(), 5);

    for (wrong, code) in [(&["suspend", "acme"][..], 2), (&["suspend", "acme", "--reason", "a\nb"], 2)] {
        assert_eq!(office.run(wrong).await.status.code(), Some(code), "{wrong:?}");
    }
    refused(&office.run(&["suspend", "nobody", "--reason", "x"]).await, 1, "there is no account");
    let nameless = office.call(&["resume", "acme"]).env("OPSADMIN_ACTOR", "a\u{1b}b").run().await;
    refused(&nameless, 2, "is not a valid name");
}

#[tokio::test]
async fn concurrent_suspensions_and_resumptions_succeed() {
    let office = office_with_one_account().await;
    let calls = (0..6).map(|number| {
        let reason = format!("reason {number}");
        let call = match number % 2 {
            0 => office.call(&["suspend", "acme", "--reason", &reason]),
            _ => office.call(&["resume", "acme"]),
        };
        tokio::spawn(call.run())
    });
    for finished in futures::future::join_all(calls).await {
        finished.expect("it ends").succeeded();
    }
    let account = office.json(&["get", "acme"]).await;
    let made = journal_entries(&office).await.len();
    assert_eq!(account["version"], json!(made), "each change was made to the one before: {account}");
}

#[tokio::test]
async fn a_rotation_makes_one_pair_that_the_next_apply_hands_out() {
    let office = office_with_one_account().await;
    let before = office.secret("acme-opsadmin");
    let first = office.json(&["get", "acme"]).await;
    let said = office.call_with_keyring(&["rotate", "acme"]).run().await.succeeded();
    assert!(
        said.contains("The Secret of the ApiAccount partners/acme is written by the next `opsadmin apply`."),
        "{said}"
    );
    let second = office.json(&["get", "acme"]).await;
    let after = pairs(&second);
    assert_eq!((after.len(), after[0].1, after[1]), (2, "Active", (pairs(&first)[0].0, "Retiring")));
    let expires: jiff::Timestamp = second["keys"][1]["expires"].as_str().expect("a time").parse().expect("a time");
    let made: jiff::Timestamp = second["keys"][0]["created"].as_str().expect("a time").parse().expect("a time");
    let overlap = expires.duration_since(made).as_secs();
    assert!((86_395..=86_405).contains(&overlap), "{overlap}");
    assert_eq!(office.secret("acme-opsadmin"), before, "it waits");

    let applied = office.apply(&[("acme", json!({ "rotation": { "trigger": "one" } }))]).await;
    assert!(applied.contains("corrected the Secret acme-opsadmin") && !applied.contains("rotated"), "{applied}");
    assert_eq!(pairs(&office.json(&["get", "acme"]).await), after, "the request is not answered again");
    assert_ne!(office.secret("acme-opsadmin"), before);

    // At most three key pairs are valid, also after more rotations.
    for _ in 0..3 {
        office.call_with_keyring(&["rotate", "acme", "--overlap", "1h"]).run().await.succeeded();
    }
    assert_eq!(pairs(&office.json(&["get", "acme"]).await).len(), 3);
}

#[tokio::test]
async fn a_rotation_without_overlap_asks_and_revokes_all_older_key_pairs() {
    let office = office_with_one_account().await;
    office.call_with_keyring(&["rotate", "acme"]).run().await.succeeded();
    let before = office.json(&["get", "acme"]).await;
    let leak = || office.call_with_keyring(&["rotate", "acme", "--overlap", "0s"]);
    refused(&leak().run().await, 1, "to go on without the question, give --yes");
    let declined = leak().stdin("n\n").run_on_terminal().await;
    assert!(declined.stdout.contains("Go on? [y/N]") && declined.stdout.contains("nothing was done"), "{declined:?}");
    assert_eq!((declined.status.code(), office.json(&["get", "acme"]).await), (Some(1), before.clone()));

    let agreed = leak().stdin("y\n").run_on_terminal().await.succeeded();
    assert!(agreed.contains("No older key pair works any more."), "{agreed}");
    let after = office.json(&["get", "acme"]).await;
    assert_eq!(pairs(&after).len(), 1);
    assert!(pairs(&before).iter().all(|(id, _)| *id != pairs(&after)[0].0));
    let json = leak().args(["--yes", "-o", "json"]).run().await.succeeded();
    let json: Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(json["rotated"]["revoked"], json!([pairs(&after)[0].0]));
    assert_eq!(json["waiting"]["resource"], "acme");
}

/// Otherwise a script would rotate again, and revoke a key pair that a partner still uses.
#[tokio::test]
async fn a_rotation_whose_output_cannot_be_written_is_reported() {
    let office = office_with_one_account().await;
    let mut rotate = Command::new(env!("CARGO_BIN_EXE_opsadmin"));
    rotate.env_clear().args(["rotate", "acme", "--database", office.database.url(), "--keyring"]).arg(office.keyring());
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let finished = rotate.stdout(full).output().expect("it starts");
    let said = String::from_utf8_lossy(&finished.stderr);
    assert!(said.contains("the keys WERE rotated, but the result could not be printed"), "{said}");
    assert_eq!(pairs(&office.json(&["get", "acme"]).await).len(), 2);
}

#[tokio::test]
async fn an_account_with_swapped_keys_is_shown_without_them_and_can_be_rotated() {
    let office = office_with_one_account().await;
    office.by_hand("UPDATE account_keys SET api_key = 'opsa_sk_swapped00000000000000'").await;
    for format in ["text", "json"] {
        let shown = office.run(&["get", "acme", "-o", format]).await.succeeded();
        assert!(shown.contains("(hidden)") && !shown.contains("opsa_sk_"), "{shown}");
    }
    office.run(&["suspend", "acme", "--reason", "leaked"]).await.succeeded();
    office.call_with_keyring(&["keyring", "rotate"]).run().await.succeeded();
    let rotated = office.call_with_keyring(&["rotate", "acme", "-o", "json"]).run().await.succeeded();
    let rotated: Value = serde_json::from_str(&rotated).expect("it is JSON");
    assert_eq!(pairs(&rotated["account"]).len(), 2, "{rotated}");
    assert!(!rotated.to_string().contains("opsa_sk_"), "{rotated}");
}

#[tokio::test]
async fn a_refused_rotation_names_the_solution() {
    let office = office_with_one_account().await;
    office.apply(&[("deleted", json!({})), ("keyless", json!({})), ("unowned", json!({}))]).await;
    office.by_hand("UPDATE accounts SET enabled = FALSE, deleted_at = 5 WHERE name = 'deleted'").await;
    office
        .by_hand("DELETE FROM account_keys WHERE account_id = (SELECT id FROM accounts WHERE name = 'keyless')")
        .await;
    let disown =
        "UPDATE accounts SET owner_cluster = NULL, owner_namespace = NULL, owner_name = NULL WHERE name = 'unowned'";
    office.by_hand(disown).await;
    let rotate = |arguments: &[&str]| office.call_with_keyring(&[&["rotate"], arguments].concat());
    let by_resource = ["-n", "partners", "deleted", "--cluster-id", "local"];
    refused(&rotate(&by_resource).run().await, 1, "apply its resource again to have it back, and rotate then");
    refused(&rotate(&["keyless"]).run().await, 1, "has no active key pair; if its Secret still holds one");
    let said = rotate(&["unowned"]).run().await.succeeded();
    assert!(said.contains("nobody writes its Secret: hand the keys over with `opsadmin get "), "{said}");
    assert_eq!(rotate(&["acme", "--overlap", "1d"]).run().await.status.code(), Some(2));

    let journal = journal_entries(&office).await;
    let other = Opsadmin::new();
    let keyring = other.folder().join("other.keyring");
    Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]).run().await.succeeded();
    let wrong = office.call(&["rotate", "acme"]).args(["--keyring"]).args([&keyring]).run().await;
    refused(&wrong, 1, "the keyring lacks the key");
    let none = office.call(&["rotate", "acme"]).args(["--keyring"]).args([other.folder().join("none")]).run().await;
    refused(&none, 1, "there is no keyring");
    assert_eq!(journal_entries(&office).await, journal, "nothing was done");
}

#[tokio::test]
async fn the_kubectl_plugin_uses_its_own_name_in_its_help() {
    let plugin = |arguments: &[&str]| Opsadmin::new().under_the_name("kubectl-opsadmin").args(arguments).run();
    let help = plugin(&["--help"]).await.succeeded();
    assert!(help.contains("Usage: kubectl opsadmin <COMMAND>"), "{help}");
    let help = plugin(&["rotate", "--help"]).await.succeeded();
    assert!(
        help.contains("Usage: kubectl opsadmin rotate") && help.contains("  kubectl opsadmin rotate acme\n"),
        "{help}"
    );
    let help = plugin(&["affiliates", "add", "--help"]).await.succeeded();
    assert!(help.contains("  kubectl opsadmin affiliates add Bright"), "{help}");
    let wrong = plugin(&["get", "--wrong"]).await;
    assert!(wrong.stderr.contains("Usage: kubectl opsadmin get"), "{wrong:?}");
    let help = Opsadmin::new().args(["rotate", "--help"]).run().await.succeeded();
    assert!(help.contains("Usage: opsadmin rotate") && !help.contains("kubectl opsadmin"), "{help}");
}

#[tokio::test]
async fn completion_prints_a_script_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Opsadmin::new().args(["completion", shell]).run().await.succeeded();
        for word in ["suspend", "affiliates", "show-secret"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
    let bash = Opsadmin::new().args(["completion", "bash"]).run().await.succeeded();
    let mut check = std::process::Command::new("bash");
    check.args(["-n", "-c", &bash]);
    crate::support::run::run(check, "", std::time::Duration::from_mins(1)).await.succeeded();
}
