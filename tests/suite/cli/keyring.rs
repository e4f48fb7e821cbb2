//! `opsadmin keyring rotate` and `status`: another key seals, and every partner's keys stay as they are.

use std::fs;

use serde_json::Value;

use super::desk::{Desk, account};
use crate::support::opsadmin::Opsadmin;
use crate::support::postgres::postgres;
use crate::support::run::Finished;

impl Desk {
    async fn keyring(&self, arguments: &[&str]) -> Finished {
        let call = Opsadmin::new().args(["keyring"]).args(arguments).args(["--database", &self.database, "--keyring"]);
        call.args([self.path("opsadmin.keyring")]).run().await
    }

    /// Each key of the keyring with what it does and how much it has sealed.
    async fn keys(&self) -> Vec<(String, String, u64)> {
        let out = self.keyring(&["status", "-o", "json"]).await;
        let keys: Vec<Value> = serde_json::from_str(&out.stdout).unwrap_or_else(|error| panic!("{error}: {out:?}"));
        let text = |key: &Value, field: &str| key[field].as_str().expect("a text").to_owned();
        let sealed = |key: &Value| key["sealedSecretKeys"].as_u64().expect("a number");
        keys.iter().map(|key| (text(key, "id"), text(key, "state"), sealed(key))).collect()
    }

    /// What is sealed can still be opened: a Secret that is gone comes back the same.
    async fn secrets_come_back(&self, extra: &[&str]) {
        let secrets = self.path("secrets");
        let before = self.written();
        fs::remove_dir_all(&secrets).expect("it is there");
        self.apply(extra).await.succeeded();
        let of = |written: std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>| -> Vec<_> {
            written.into_iter().filter(|(path, _)| path.starts_with(&secrets)).collect()
        };
        assert_eq!(of(self.written()), of(before));
    }
}

/// A desk with this many accounts.
async fn desk_with(accounts: usize) -> Desk {
    let desk = Desk::new();
    let manifests: Vec<String> = (0..accounts).map(|number| account(&format!("a{number}"), "{}")).collect();
    desk.write("all.yaml", &manifests.join("---\n"));
    desk.apply(&[]).await.succeeded();
    desk
}

#[tokio::test]
async fn another_key_seals_and_the_old_one_goes() {
    let desk = desk_with(120).await;
    let before = desk.keys().await;
    assert_eq!((before.len(), before[0].2, &*before[0].1), (1, 120, "seals"));
    let rotated = desk.keyring(&["rotate"]).await;
    assert!(rotated.stderr.ends_with("120 of 120 secret keys sealed anew\n"), "{rotated:?}");
    let after = desk.keys().await;
    assert_eq!((after.len(), after[0].2, &*after[0].1), (1, 120, "seals"));
    assert_ne!(after[0].0, before[0].0);
    desk.secrets_come_back(&[]).await;
    assert_eq!(desk.apply(&[]).await.succeeded(), "120 accounts: nothing to change\n");
}

#[tokio::test]
async fn step_by_step_nothing_is_sealed_with_a_key_that_others_lack() {
    let desk = desk_with(3).await;
    let old = desk.keys().await.remove(0).0;
    desk.keyring(&["rotate", "--only", "add"]).await.succeeded();
    let added = desk.keys().await;
    assert_eq!((&added[0].0, &*added[0].1, &*added[1].1, added[1].2), (&old, "seals", "opens", 0));
    let twice = desk.keyring(&["rotate", "--only", "add"]).await;
    assert!(twice.stderr.contains("a rotation is under way"), "{twice:?}");

    for _ in 0..2 {
        desk.keyring(&["rotate", "--only", "use"]).await.succeeded();
        let used = desk.keys().await;
        assert_eq!((&used[0].0, used[0].2, &used[1].0, used[1].2), (&added[1].0, 0, &old, 3), "also when repeated");
    }
    let kept = desk.keyring(&["rotate", "--only", "remove"]).await;
    assert!(kept.stderr.contains(&format!("kept the key {old}: secret keys are still sealed with it")), "{kept:?}");

    // Somebody goes on where it was left, with both keys in use.
    desk.write("b.yaml", &account("b", "{}"));
    desk.apply(&[]).await.succeeded();
    let rest = desk.keyring(&["rotate"]).await;
    assert!(rest.stderr.starts_with("going on with the rotation that is under way\n"), "{rest:?}");
    assert!(rest.stderr.ends_with("3 of 3 secret keys sealed anew\n"), "{rest:?}");
    let end = desk.keys().await;
    assert_eq!((end.len(), &end[0].0, end[0].2), (1, &added[1].0, 4));
    desk.secrets_come_back(&[]).await;
}

#[tokio::test]
async fn after_add_alone_the_whole_command_uses_what_was_added() {
    let desk = desk_with(1).await;
    desk.keyring(&["rotate", "--only", "add"]).await.succeeded();
    let added = desk.keys().await.remove(1).0;
    desk.keyring(&["rotate"]).await.succeeded();
    let end = desk.keys().await;
    assert_eq!((end.len(), &end[0].0), (1, &added));
}

#[tokio::test]
async fn a_key_that_is_still_needed_stays_and_the_rest_is_done() {
    let database = postgres().await.database("keyring").await;
    let mut desk = Desk::new();
    desk.database = database.url().to_owned();
    let keyring = desk.path("opsadmin.keyring");
    Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]).run().await.succeeded();
    let extra = ["--keyring", keyring.to_str().expect("it is text")];
    desk.write("all.yaml", &[account("a", "{}"), account("b", "{}")].join("---\n"));
    desk.apply(&extra).await.succeeded();
    let sql = sqlx::postgres::PgPool::connect(database.url()).await.expect("the database answers");
    let spoil = "UPDATE account_keys SET secret_key_sealed = 'spoilt' WHERE account_id = (SELECT id FROM accounts WHERE name = 'a')";
    sqlx::query(spoil).execute(&sql).await.expect("it can be edited");
    let rotated = desk.keyring(&["rotate"]).await;
    assert_eq!(rotated.status.code(), Some(1));
    assert!(rotated.stderr.contains("secret keys that cannot be opened: 1; they were left as they are"), "{rotated:?}");
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
    let refused = desk.keyring(&["rotate"]).await;
    assert_eq!((refused.status.code(), fs::read(&keyring).ok()), (Some(1), fs::read(&other).ok()), "{refused:?}");
}
