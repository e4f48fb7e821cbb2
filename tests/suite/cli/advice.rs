//! Follows the advice of messages, and checks that it solves the problem. `guides/advice.rs` lists these tests by name.

use std::fs;

use serde_json::json;

use super::working_folder::{WorkingFolder, account};
use crate::support::opsadmin::Opsadmin;

#[tokio::test]
async fn whoever_wants_to_delete_an_account_is_not_sent_to_release_deletions() {
    for word in ["delete", "remove", "rm", "destroy", "prune"] {
        let refused = Opsadmin::new().args([word, "acme"]).run().await;
        assert_eq!(refused.status.code(), Some(2));
        assert!(!refused.stderr.contains("release"), "{word}: {refused:?}");
        for said in ["kubectl delete apiaccount", "opsadmin apply --prune", "opsadmin suspend"] {
            assert!(refused.stderr.contains(said), "{word}: {said}: {refused:?}");
        }
    }
    let mistyped = Opsadmin::new().args(["relaese"]).run().await;
    assert!(mistyped.stderr.contains("'release'"), "{mistyped:?}");

    // The advice is followed.
    let desk = WorkingFolder::new();
    desk.write("acme.yaml", &account("acme", "{}"));
    desk.write("other.yaml", &account("other", "{}"));
    desk.apply(&[]).await.succeeded();
    desk.remove("acme.yaml");
    desk.apply(&["--prune", "--yes"]).await.succeeded();
    let enabled: Vec<bool> = sqlx::query_scalar("SELECT enabled FROM accounts ORDER BY name")
        .fetch_all(&desk.sql().await)
        .await
        .expect("an answer");
    assert_eq!(enabled, [false, true]);
}

#[tokio::test]
async fn a_path_without_its_option_is_answered_with_the_option() {
    let desk = WorkingFolder::new();
    desk.write("acme.yaml", &account("acme", "{}"));
    let folder = desk.path("accounts").display().to_string();
    let secrets = desk.path("secrets").display().to_string();
    for command in [&["validate"][..], &["plan", "--database", &desk.database], &["apply", "--secrets", &secrets]] {
        let refused = Opsadmin::new().args(command).args([&folder]).run().await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        for said in [
            format!("error: unexpected argument '{folder}' found\n"),
            format!("tip: to read manifests from it, use `-f {folder}`\n"),
            format!("Usage: opsadmin {}", command[0]),
        ] {
            assert!(refused.stderr.contains(&said), "{said}: {refused:?}");
        }
    }
    // What it says is done.
    Opsadmin::new().args(["validate", "-f", &folder]).run().await.succeeded();

    for other in [&["validate", "--folder"][..], &["get", "a", "b"], &["crd", "a"]] {
        let refused = Opsadmin::new().args(other).run().await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(!refused.stderr.contains("to read manifests"), "{refused:?}");
    }
}

#[tokio::test]
async fn completion_names_its_shells() {
    let shells = "bash, elvish, fish, powershell or zsh";
    let missing = Opsadmin::new().args(["completion"]).run().await;
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    assert!(missing.stderr.contains(&format!("tip: <SHELL> is {shells}\n")), "{missing:?}");
    let help = Opsadmin::new().args(["--help"]).run().await.succeeded();
    assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(shells), "{help}");
}

#[tokio::test]
async fn a_sealed_database_without_its_keyring_is_told_to_restore_the_backup() {
    let desk = WorkingFolder::new();
    desk.write("acme.yaml", &account("acme", "{}"));
    desk.apply(&[]).await.succeeded();
    let (keyring, backup) = (desk.path("opsadmin.keyring"), desk.path("backup"));
    fs::rename(&keyring, &backup).expect("it is there");
    let elsewhere = desk.path("elsewhere");
    let named = ["--keyring", elsewhere.to_str().expect("it is text")];
    for extra in [&[][..], &named] {
        let refused = desk.apply(extra).await;
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(refused.stderr.contains("restore the backup of the keyring"), "{refused:?}");
        assert!(!refused.stderr.contains("keyring init"), "{refused:?}");
    }
    let rotate = Opsadmin::new().args(["rotate", "acme", "--yes", "--database", &desk.database]);
    let refused = rotate.run().await;
    assert!(refused.stderr.contains("restore the backup of the keyring"), "{refused:?}");
    assert!(!keyring.exists() && !elsewhere.exists(), "none is made");
    fs::rename(&backup, &keyring).expect("it is there");
    assert_eq!(desk.apply(&[]).await.succeeded(), "1 account: nothing to change\n");

    // For a database without secret keys, the advice is to create a keyring.
    let fresh = WorkingFolder::new();
    fresh.write("acme.yaml", &account("acme", "{}"));
    let refused = fresh.apply(&named).await;
    assert!(refused.stderr.contains("make one with `opsadmin keyring init --keyring FILE`"), "{refused:?}");
    Opsadmin::new().args(["keyring", "init"]).args(named).run().await.succeeded();
    fresh.apply(&named).await.succeeded();
}

#[tokio::test]
async fn an_older_schema_is_migrated_with_the_command_that_is_named() {
    let desk = WorkingFolder::new();
    desk.write("acme.yaml", &account("acme", "{}"));
    desk.apply(&[]).await.succeeded();
    desk.break_by_hand(&["DELETE FROM _sqlx_migrations WHERE version = 8", "ALTER TABLE accounts DROP COLUMN adopter"])
        .await;
    let get = || Opsadmin::new().args(["get", "acme", "--database", &desk.database]).run();
    let refused = get().await;
    assert!(refused.stderr.contains("1 of this program's migrations; run `opsadmin migrate`"), "{refused:?}");
    let found = desk.doctor(&[]).await;
    assert!(found.stdout.contains("0008_adopter; run `opsadmin migrate`"), "{found:?}");
    Opsadmin::new().args(["migrate", "--database", &desk.database]).run().await.succeeded();
    get().await.succeeded();
    desk.doctor(&[]).await.succeeded();
}

#[tokio::test]
async fn an_account_that_is_not_found_is_in_the_list_that_is_named() {
    let desk = WorkingFolder::new();
    desk.write("acme.yaml", &account("acme", "{}"));
    let get = |arguments: &[&str]| Opsadmin::new().args(["get", "--database", &desk.database]).args(arguments).run();
    let none = get(&[]).await;
    assert!(none.stderr.contains("name the one that `opsadmin controller` or `opsadmin apply` works with"), "{none:?}");
    desk.apply(&[]).await.succeeded();
    let mistyped = get(&["acne"]).await;
    assert!(mistyped.stderr.contains("`opsadmin get` lists them"), "{mistyped:?}");
    assert!(get(&[]).await.succeeded().contains("acme"));
}

#[tokio::test]
async fn what_the_doctor_says_of_keys_puts_them_right() {
    let desk = WorkingFolder::new();
    for name in ["sealed", "lost"] {
        desk.write(&format!("{name}.yaml"), &account(name, "{}"));
    }
    desk.apply(&[]).await.succeeded();
    let keys = desk.secret("lost-opsadmin");
    desk.break_by_hand(&[
        "UPDATE account_keys SET secret_key_sealed = x'00' WHERE account_id = (SELECT id FROM accounts WHERE name = 'sealed')",
        "DELETE FROM account_keys WHERE account_id = (SELECT id FROM accounts WHERE name = 'lost')",
    ])
    .await;
    let found = desk.doctor(&[]).await;
    for said in
        ["or rotate the account's keys with `opsadmin rotate`", "restores the key pair if its Secret still holds it"]
    {
        assert!(found.stdout.contains(said), "{said}: {found:?}");
    }
    let rotate = Opsadmin::new().args(["rotate", "sealed", "--overlap", "0s", "--yes", "--database", &desk.database]);
    let rotated = rotate.run().await.succeeded();
    assert!(rotated.contains("is written by the next `opsadmin apply`"), "{rotated}");
    desk.apply(&[]).await.succeeded();
    assert_eq!(desk.secret("lost-opsadmin"), keys);
    desk.doctor(&[]).await.succeeded();
}

#[tokio::test]
async fn keys_that_nothing_proves_are_brought_in_or_left_as_the_message_says() {
    let desk = WorkingFolder::new();
    for name in ["kept", "left"] {
        desk.write(&format!("{name}.yaml"), &account(name, "{ adoptionPolicy: IfUnowned }"));
    }
    desk.apply(&[]).await.succeeded();
    let keys = ["kept", "left"].map(|name| desk.secret(&format!("{name}-opsadmin")));
    for name in ["kept", "left"] {
        let file = desk.path(&format!("secrets/default.{name}-opsadmin.yaml"));
        let text = fs::read_to_string(&file).expect("it is there");
        let unmarked: Vec<&str> = text.lines().filter(|line| !line.contains("ops-admin.com/mark")).collect();
        fs::write(&file, unmarked.join("\n")).expect("it can be written");
    }
    desk.break_by_hand(&["DELETE FROM account_keys", "DELETE FROM accounts"]).await;
    let refused = desk.apply(&["--confirm-creation"]).await;
    assert_eq!(refused.stderr.matches("holds keys but no mark that matches them").count(), 2, "{refused:?}");

    let record = json!({
        "name": "kept", "apiKey": keys[0]["OPSADMIN_API_KEY"], "secretKey": keys[0]["OPSADMIN_SECRET_KEY"],
    });
    let import = Opsadmin::new().args(["import", "-", "--database", &desk.database]);
    import.stdin(record.to_string()).run().await.succeeded();
    fs::remove_file(desk.path("secrets/default.left-opsadmin.yaml")).expect("it is there");
    desk.apply(&["--confirm-creation"]).await.succeeded();
    assert_eq!(desk.secret("kept-opsadmin"), keys[0]);
    assert_ne!(desk.secret("left-opsadmin"), keys[1]);
    desk.doctor(&[]).await.succeeded();
}
