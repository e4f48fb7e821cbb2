//! `opsadmin keyring rotate` and `status`: a new keyring key seals, and every partner's API keys stay the same.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::staff_database::StaffDatabase;
use super::working_folder::{WorkingFolder, account, mode};
use crate::support::opsadmin::Opsadmin;
use crate::support::postgres::postgres;
use crate::support::run::Finished;

impl WorkingFolder {
    async fn keyring(&self, arguments: &[&str]) -> Finished {
        let call = Opsadmin::new().args(["keyring"]).args(arguments).args(["--database", &self.database, "--keyring"]);
        call.args([self.path("opsadmin.keyring")]).run().await
    }

    /// Runs `keyring rotate`, and returns its JSON and its outcome. The run may fail.
    async fn rotate(&self, arguments: &[&str]) -> (Value, Finished) {
        let out = self.keyring(&[&["rotate", "-o", "json"], arguments].concat()).await;
        (serde_json::from_str(&out.stdout).unwrap_or_else(|error| panic!("{error}: {out:?}")), out)
    }

    /// Returns the id, the state and the number of sealed secret keys of each keyring key.
    async fn keys(&self) -> Vec<(String, String, u64)> {
        let out = self.keyring(&["status", "-o", "json"]).await;
        let keys: Vec<Value> = serde_json::from_str(&out.stdout).unwrap_or_else(|error| panic!("{error}: {out:?}"));
        let text = |key: &Value, field: &str| key[field].as_str().expect("a text").to_owned();
        let sealed = |key: &Value| key["sealedSecretKeys"].as_u64().expect("a number");
        keys.iter().map(|key| (text(key, "id"), text(key, "state"), sealed(key))).collect()
    }

    /// Checks that the sealed secret keys can be opened: deleted Secrets are restored with the same keys.
    async fn secrets_come_back(&self, extra: &[&str]) {
        let before = self.secrets();
        fs::remove_dir_all(self.path("secrets")).expect("it is there");
        self.apply(extra).await.succeeded();
        assert!(self.secrets() == before, "not all Secrets hold the keys from before");
    }
}

/// Creates a desk with this number of accounts, and applies them.
async fn desk_with(accounts: usize) -> WorkingFolder {
    let desk = WorkingFolder::new();
    let manifests: Vec<String> = (0..accounts).map(|number| account(&format!("a{number}"), "{}")).collect();
    desk.write("all.yaml", &manifests.join("---\n"));
    desk.apply(&[]).await.succeeded();
    desk
}

#[tokio::test]
async fn a_rotation_seals_with_a_new_key_and_removes_the_old_key() {
    let desk = desk_with(120).await;
    let before = desk.keys().await;
    assert_eq!((before.len(), before[0].2, &*before[0].1), (1, 120, "seals"));
    let rotated = desk.keyring(&["rotate"]).await;
    assert!(rotated.stderr.ends_with("120 of 120 secret keys sealed with the new key\n"), "{rotated:?}");
    let after = desk.keys().await;
    assert_eq!((after.len(), after[0].2, &*after[0].1), (1, 120, "seals"));
    assert_ne!(after[0].0, before[0].0);
    desk.secrets_come_back(&[]).await;
    assert_eq!(desk.apply(&[]).await.succeeded(), "120 accounts: nothing to change\n");
}

#[tokio::test]
async fn a_rotation_in_steps_seals_only_with_keys_that_other_programs_have() {
    let desk = desk_with(3).await;
    let old = desk.keys().await.remove(0).0;
    desk.keyring(&["rotate", "--only", "add"]).await.succeeded();
    let added = desk.keys().await;
    assert_eq!((&added[0].0, &*added[0].1, &*added[1].1, added[1].2), (&old, "seals", "opens", 0));
    let twice = desk.keyring(&["rotate", "--only", "add"]).await;
    assert!(twice.stderr.contains("a rotation is in progress"), "{twice:?}");

    for _ in 0..2 {
        desk.keyring(&["rotate", "--only", "use"]).await.succeeded();
        let used = desk.keys().await;
        assert_eq!((&used[0].0, used[0].2, &used[1].0, used[1].2), (&added[1].0, 0, &old, 3), "also when repeated");
    }
    let kept = desk.keyring(&["rotate", "--only", "remove"]).await;
    assert!(kept.stderr.contains(&format!("kept the key {old}: secret keys are still sealed with it")), "{kept:?}");

    // A later run continues the rotation while both keyring keys are in use.
    desk.write("b.yaml", &account("b", "{}"));
    desk.apply(&[]).await.succeeded();
    let rest = desk.keyring(&["rotate"]).await;
    assert!(rest.stderr.starts_with("continuing the rotation that is in progress\n"), "{rest:?}");
    assert!(rest.stderr.ends_with("3 of 3 secret keys sealed with the new key\n"), "{rest:?}");
    let end = desk.keys().await;
    assert_eq!((end.len(), &end[0].0, end[0].2), (1, &added[1].0, 4));
    desk.secrets_come_back(&[]).await;
}

#[tokio::test]
async fn a_whole_rotation_after_add_uses_the_added_key() {
    let desk = desk_with(1).await;
    desk.keyring(&["rotate", "--only", "add"]).await.succeeded();
    let added = desk.keys().await.remove(1).0;
    desk.keyring(&["rotate"]).await.succeeded();
    let end = desk.keys().await;
    assert_eq!((end.len(), &end[0].0), (1, &added));
}

#[tokio::test]
async fn a_rotation_that_lacks_the_last_step_only_removes_the_old_key() {
    let desk = desk_with(2).await;
    let old = desk.keys().await.remove(0).0;
    for step in ["add", "use", "reseal"] {
        desk.keyring(&["rotate", "--only", step]).await.succeeded();
    }
    let new = desk.keys().await.remove(0).0;
    let (rest, _) = desk.rotate(&[]).await;
    let keyring = desk.path("opsadmin.keyring").display().to_string();
    assert_eq!(without_files(rest, &keyring), report(&Value::Null, false, 0, &[&old], &new, &[]));
    assert_eq!(desk.keys().await, [(new, "seals".to_owned(), 2)]);
}

#[tokio::test]
async fn only_one_program_changes_the_keyring_at_a_time() {
    let desk = desk_with(1).await;
    let path = desk.path("opsadmin.keyring");
    let before = fs::read(&path).expect("it is there");
    let held = fs::File::open(&path).expect("it is there");
    held.lock().expect("nobody else has it");
    let refused = desk.keyring(&["rotate"]).await;
    assert_eq!((refused.status.code(), fs::read(&path).ok()), (Some(1), Some(before)), "{refused:?}");
    assert!(refused.stderr.contains("another program is changing the keyring"), "{refused:?}");
    drop(held);
    desk.keyring(&["rotate"]).await.succeeded();
}

/// Both databases have the same default keyring file, because it follows from the names of their files.
#[tokio::test]
async fn a_removed_key_can_be_restored_for_another_database() {
    let desk = desk_with(1).await;
    let mut other = WorkingFolder::new();
    other.database = format!("sqlite://{}", desk.path("opsadmin.sqlite").display());
    other.write("all.yaml", &account("other", "{}"));
    other.apply(&[]).await.succeeded();
    let (keyring, removed) = (desk.path("opsadmin.keyring"), desk.path("opsadmin.keyring.removed"));
    let key = desk.keys().await.remove(0).0;
    let read = |path| -> Value { serde_json::from_slice(&fs::read(path).expect("it is there")).expect("it is JSON") };
    let before = read(&keyring);
    let said = desk.keyring(&["rotate"]).await.succeeded();
    assert!(
        said.contains(&format!("removed the key {key}: no secret key in this database is sealed with it\n")),
        "{said}"
    );
    assert!(said.ends_with("keyring.removed; delete it once no other database and no backup needs them\n"), "{said}");
    assert_eq!((read(&removed), mode(&removed)), (before, 0o600));

    let refused = other.apply(&[]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains(&key) && refused.stderr.contains("from FILE.removed beside"), "{refused:?}");

    // docs/database.md describes this repair.
    let mut both = read(&keyring);
    both["keys"].as_array_mut().expect("a list").push(read(&removed)["keys"][0].clone());
    fs::write(&keyring, both.to_string()).expect("it can be written");
    Opsadmin::new().args(["keyring", "rotate", "--database", &other.database]).run().await.succeeded();
    other.secrets_come_back(&[]).await;
    desk.secrets_come_back(&[]).await;
    assert_eq!(desk.keys().await.len(), 1);
}

/// Runs may be refused, in any order.
#[tokio::test]
async fn concurrent_rotations_lose_no_key() {
    let desk = desk_with(40).await;
    for round in 0..4 {
        let new = (0..40).map(|number| account(&format!("r{round}-{number}"), "{}")).collect::<Vec<_>>();
        desk.write(&format!("round{round}.yaml"), &new.join("---\n"));
        let rotate = || desk.keyring(&["rotate"]);
        let (apply, one, other) = tokio::join!(desk.apply(&[]), rotate(), rotate());
        // A run may be refused because another run holds the keyring or the database.
        for finished in [apply, one, other] {
            assert!(matches!(finished.status.code(), Some(0 | 1)), "{finished:?}");
        }
        desk.apply(&[]).await.succeeded();
        let keys = desk.keys().await;
        assert!(keys.iter().all(|(_, state, _)| state != "missing"), "{keys:?}");
    }
    desk.secrets_come_back(&[]).await;
}

/// The JSON report of a run, without the paths of the keyring and of the file with removed keys.
fn report(added: &Value, switched: bool, resealed: u64, removed: &[&str], seals: &str, opens: &[&str]) -> Value {
    json!({
        "added": added, "switched": switched, "resealed": resealed, "unreadable": 0, "removed": removed,
        "seals": seals, "opens": opens,
    })
}

/// Removes the two paths from a run's JSON report, and checks them.
fn without_files(mut rotated: Value, keyring: &str) -> Value {
    let told = rotated.as_object_mut().expect("an object");
    let removed_to = (told["removed"] != json!([])).then(|| format!("{keyring}.removed"));
    assert_eq!((told.remove("keyring"), told.remove("removedTo")), (Some(json!(keyring)), Some(json!(removed_to))));
    rotated
}

#[tokio::test]
async fn the_json_of_a_rotation_reports_its_steps_and_the_final_keyring() {
    let desk = desk_with(3).await;
    let file = desk.path("opsadmin.keyring").display().to_string();
    let run = async |arguments: &[&str]| {
        let (value, out) = desk.rotate(arguments).await;
        assert_eq!(out.status.code(), Some(0), "{out:?}");
        without_files(value, &file)
    };
    let old = desk.keys().await.remove(0).0;
    let first = run(&["--only", "add"]).await;
    let new = first["added"].as_str().expect("it is told").to_owned();
    assert_eq!(first, report(&json!(new), false, 0, &[], &old, &[&new]));
    let switched = run(&["--only", "use"]).await;
    assert_eq!(switched, report(&Value::Null, true, 0, &[], &new, &[&old]));
    let again = run(&["--only", "use"]).await;
    assert_eq!(again, report(&Value::Null, false, 0, &[], &new, &[&old]), "nothing was done twice");
    let early = run(&["--only", "remove"]).await;
    assert_eq!(early, report(&Value::Null, false, 0, &[], &new, &[&old]), "it is needed");
    // This run continues the rotation, so it reports no added and no switched key.
    assert_eq!(run(&[]).await, report(&Value::Null, false, 3, &[&old], &new, &[]));

    let whole = run(&[]).await;
    let newest = whole["added"].as_str().expect("it is told").to_owned();
    assert_eq!(whole, report(&json!(newest), true, 3, &[&new], &newest, &[]));
    assert_eq!(desk.keys().await, [(newest, "seals".to_owned(), 3)]);

    let made = Opsadmin::new().args(["keyring", "init", "--keyring", "k", "-o", "yaml"]).run().await.succeeded();
    let made: Value = serde_saphyr::from_str(&made).expect("it is YAML");
    assert!(made["keyring"] == "k" && made["seals"].as_str().is_some_and(|id| id.len() == 16), "{made}");
}

#[tokio::test]
async fn a_key_that_is_still_needed_stays_and_the_rest_is_done() {
    let database = postgres().await.database("keyring").await;
    let mut desk = WorkingFolder::new();
    desk.database = database.url().to_owned();
    let keyring = desk.path("opsadmin.keyring");
    Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]).run().await.succeeded();
    let extra = ["--keyring", keyring.to_str().expect("it is text")];
    desk.write("all.yaml", &[account("a", "{}"), account("b", "{}")].join("---\n"));
    desk.apply(&extra).await.succeeded();
    let sql = sqlx::postgres::PgPool::connect(database.url()).await.expect("the database answers");
    let spoil = "UPDATE account_keys SET secret_key_sealed = 'spoilt' WHERE account_id = (SELECT id FROM accounts WHERE name = 'a')";
    sqlx::query(spoil).execute(&sql).await.expect("it can be edited");
    let (value, rotated) = desk.rotate(&[]).await;
    assert_eq!(rotated.status.code(), Some(1));
    assert_eq!((&value["switched"], &value["resealed"], &value["unreadable"]), (&true.into(), &1.into(), &1.into()));
    assert_eq!((&value["removed"], value["opens"].as_array().map(Vec::len)), (&json!([]), Some(1)), "{value}");
    assert!(
        rotated
            .stderr
            .contains("secret keys that cannot be opened: 1; they and the key that they need were not changed"),
        "{rotated:?}"
    );
    let keys = desk.keys().await;
    assert_eq!(
        keys.iter().map(|(_, state, sealed)| (&**state, *sealed)).collect::<Vec<_>>(),
        [("seals", 1), ("opens", 1)]
    );

    let lost = Opsadmin::new().args(["keyring", "init", "--keyring"]);
    let other = desk.path("other.keyring");
    lost.args([&other]).run().await.succeeded();
    fs::copy(&other, &keyring).expect("it can be copied");
    let wrong = desk.keyring(&["status"]).await;
    assert_eq!(wrong.status.code(), Some(1));
    assert_eq!(wrong.stdout.matches("missing").count(), 2, "{wrong:?}");
    let refused = desk.keyring(&["rotate", "-o", "json"]).await;
    assert_eq!((refused.status.code(), fs::read(&keyring).ok()), (Some(1), fs::read(&other).ok()), "{refused:?}");
    assert_eq!(refused.stdout, "", "nothing was begun");
}

#[tokio::test]
async fn the_system_error_for_a_keyring_is_reported_once() {
    let refused = Opsadmin::new().args(["keyring", "init", "--keyring", "/dev/null/opsadmin.keyring"]).run().await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("cannot use the keyring /dev/null/opsadmin.keyring: "), "{refused:?}");
    assert_eq!(refused.stderr.matches("os error").count(), 1, "{refused:?}");
}

#[tokio::test]
async fn a_keyring_that_other_users_can_access_is_used_with_a_warning() {
    let office = StaffDatabase::sqlite().await;
    office.apply(&[("acme", json!({}))]).await;
    let keyring = office.keyring();
    for (bits, said) in [
        (0o600, None),
        (0o400, None),
        // 0440 is the mode in a Secret volume with fsGroup, and 0644 in a Secret volume without defaultMode.
        (0o440, None),
        (0o644, Some("every user of this machine may read (mode 0644)")),
        (0o660, Some("others than its owner may change (mode 0660)")),
    ] {
        fs::set_permissions(&keyring, fs::Permissions::from_mode(bits)).expect("the mode can be set");
        let secrets = office.secrets().display().to_string();
        for command in [&["keyring", "status"][..], &["plan", "-n", "partners", "-f", "-", "--secrets", &secrets]] {
            let call = office.call_with_keyring(command).stdin(account("acme", "{}"));
            let finished = call.run().await;
            assert!(finished.status.success(), "{bits:o} {command:?}: {finished:?}");
            let warned = finished.stderr.matches("warning: the keyring ").count();
            assert_eq!(warned, usize::from(said.is_some()), "{bits:o} {command:?}: {finished:?}");
            if let Some(said) = said {
                let way_out =
                    format!("run `chmod 600 {}`, or give a Secret volume `defaultMode: 0440`", keyring.display());
                assert!(finished.stderr.contains(said) && finished.stderr.contains(&way_out), "{finished:?}");
            }
        }
    }
}
