//! `opsadmin apply --prune` deletes the accounts that no manifest declares. It asks first, and the brake holds many
//! deletions at once.

use std::fs;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use super::working_folder::{WorkingFolder, account};
use crate::support::opsadmin::Opsadmin;
use crate::support::run::Finished;

const REMOVED: &str = "default/a01: deleted the Secret a01-opsadmin, which is not needed any more\n";

/// Creates a desk with this number of accounts, each in its own file, and applies them.
async fn desk_with(accounts: usize) -> WorkingFolder {
    let desk = WorkingFolder::new();
    for number in 0..accounts {
        desk.write(&format!("{number:02}.yaml"), &account(&format!("a{number:02}"), "{}"));
    }
    desk.apply(&[]).await.succeeded();
    desk
}

impl WorkingFolder {
    fn remove_manifest(&self, number: usize) {
        self.remove(&format!("{number:02}.yaml"));
    }

    /// Makes the database hold the account as retained.
    async fn retain(&self, name: &str) {
        let file = SqliteConnectOptions::new().filename(self.path("opsadmin.db"));
        let sql = SqlitePool::connect_with(file).await.expect("it is there");
        let retain = "UPDATE accounts SET retained_at = deleted_at, deleted_at = NULL WHERE owner_name = $1";
        sqlx::query(retain).bind(name).execute(&sql).await.expect("as the controller does");
        sql.close().await;
    }

    async fn plan_to_prune(&self) -> Finished {
        let call = Opsadmin::new().args(["plan", "--prune", "--database", &self.database, "-f"]);
        call.args([self.path("accounts")]).args(["--secrets"]).args([self.path("secrets")]).run().await
    }

    async fn enabled(&self) -> Vec<String> {
        let names = sqlx::query_as("SELECT name FROM accounts WHERE enabled AND deleted_at IS NULL ORDER BY name");
        let names: Vec<(String,)> = names.fetch_all(&self.sql().await).await.expect("the accounts are there");
        names.into_iter().map(|(name,)| name).collect()
    }
}

#[tokio::test]
async fn an_undeclared_account_is_deleted_with_its_secret_and_restored_with_its_keys() {
    let desk = desk_with(3).await;
    let keys = desk.secret("a01-opsadmin");
    let text = fs::read_to_string(desk.path("accounts/01.yaml")).expect("it is there");
    desk.remove_manifest(1);
    assert_eq!(desk.apply(&[]).await.succeeded(), "2 accounts: nothing to change\n", "not without --prune");

    let asked = desk.apply(&["--prune"]).await;
    assert_eq!(asked.status.code(), Some(1));
    assert!(asked.stderr.contains("1 account declared by no manifest, to be deleted:\n  default/a01\n"), "{asked:?}");
    assert!(asked.stderr.contains("nothing was done; to go on without the question, give --yes"), "{asked:?}");
    assert_eq!(desk.enabled().await, ["a00", "a01", "a02"]);

    let planned = Opsadmin::new().args(["plan", "--prune", "--database", &desk.database, "-f"]);
    let planned = planned.args([desk.path("accounts")]).run().await.succeeded();
    let lines = "- default/a01  no manifest declares it\n    delete the account: it stops authenticating at once\n";
    assert_eq!(planned, format!("{lines}3 accounts: 1 to delete, 2 unchanged (Secrets were not compared)\n"));

    let out = desk.apply(&["--prune", "--yes"]).await.succeeded();
    assert!(out.contains("default/a01: disabled the account: its resource is gone\n"), "{out}");
    assert!(out.ends_with("3 accounts: 0 created, 0 changed, 2 unchanged, 1 deleted\n"), "{out}");
    assert_eq!(desk.enabled().await, ["a00", "a02"]);
    assert!(!desk.path("secrets/default.a01-opsadmin.yaml").exists());

    desk.write("01.yaml", &text);
    desk.apply(&["--prune"]).await.succeeded();
    assert_eq!(desk.secret("a01-opsadmin"), keys);
}

#[tokio::test]
async fn when_most_manifests_are_missing_nothing_is_deleted() {
    let desk = desk_with(12).await;
    (0..6).for_each(|number| desk.remove_manifest(number));
    let held = desk.apply(&["--prune", "--yes"]).await;
    assert_eq!(held.status.code(), Some(1));
    assert!(held.stderr.contains("default/a00: DeletionHeld: not deleted: 6 accounts are declared by no manifest"));
    assert!(held.stdout.ends_with("12 accounts: 0 created, 0 changed, 6 unchanged, 6 refused\n"), "{held:?}");
    assert_eq!(desk.enabled().await.len(), 12);

    let empty = fs::read_dir(desk.path("accounts")).expect("it is there");
    empty.for_each(|file| fs::remove_file(file.expect("it can be listed").path()).expect("it can be removed"));
    let refused = desk.apply(&["--prune", "--yes", "--deletion-brake", "100"]).await;
    assert!(refused.stderr.contains("nothing was applied"), "an empty folder is never \"all deleted\": {refused:?}");
    assert_eq!(desk.enabled().await.len(), 12);

    desk.write("11.yaml", &account("a11", "{}"));
    desk.apply(&["--prune", "--yes", "--deletion-brake", "100"]).await.succeeded();
    assert_eq!(desk.enabled().await, ["a11"]);
}

/// A run that ends after the change of the database and before the change of the folder leaves such a Secret.
#[tokio::test]
async fn a_left_secret_of_a_deleted_account_is_removed_even_if_the_brake_holds() {
    let desk = desk_with(9).await;
    let files = [1, 2].map(|number| desk.path(&format!("secrets/default.a{number:02}-opsadmin.yaml")));
    let texts = files.each_ref().map(|file| fs::read_to_string(file).expect("it is there"));
    let put_back =
        || files.iter().zip(&texts).for_each(|(file, text)| fs::write(file, text).expect("it can be written"));
    desk.remove_manifest(1);
    desk.remove_manifest(2);
    desk.apply(&["--prune", "--yes"]).await.succeeded();
    put_back();
    desk.retain("a02").await;
    assert_eq!(desk.apply(&[]).await.succeeded(), "7 accounts: nothing to change\n", "not without --prune");

    let planned = desk.plan_to_prune().await;
    let lines = "~ default/a01  no manifest declares it\n    remove the Secret a01-opsadmin\n";
    assert_eq!(planned.succeeded(), format!("{lines}8 accounts: 1 to change, 7 unchanged\n"));
    let out = desk.apply(&["--prune"]).await.succeeded();
    assert_eq!(out, format!("{REMOVED}8 accounts: 0 created, 1 changed, 7 unchanged\n"), "nobody is asked");
    assert_eq!(files.each_ref().map(|file| file.exists()), [false, true], "what was retained keeps its Secret");
    assert_eq!(desk.apply(&["--prune"]).await.succeeded(), "7 accounts: nothing to change\n");

    put_back();
    (3..9).for_each(|number| desk.remove_manifest(number));
    let held = desk.apply(&["--prune"]).await;
    assert!(held.stderr.contains("default/a03: DeletionHeld: not deleted: 6 accounts are declared by no manifest"));
    let ends = format!("{REMOVED}8 accounts: 0 created, 1 changed, 1 unchanged, 6 refused\n");
    assert_eq!(held.stdout, ends, "{held:?}");

    put_back();
    fs::rename(desk.path("opsadmin.db"), desk.path("other.db")).expect("it is there");
    desk.apply(&["--prune", "--yes"]).await.succeeded();
    assert!(files[0].exists(), "the only keys of an account that this database has never had");
}

#[tokio::test]
async fn accounts_of_other_clusters_are_not_pruned() {
    let desk = desk_with(1).await;
    let mut other = WorkingFolder::new();
    other.database.clone_from(&desk.database);
    other.write("b.yaml", &account("b", "{}"));
    let keyring = desk.path("opsadmin.keyring");
    let keyring = keyring.to_str().expect("it is text");
    let out = other.apply(&["--prune", "--yes", "--cluster-id", "other", "--keyring", keyring]).await.succeeded();
    assert!(out.ends_with("1 account: 1 created, 0 changed, 0 unchanged\n"), "{out}");
    assert_eq!(desk.enabled().await, ["a00", "b"]);
}

#[tokio::test]
async fn deleted_accounts_are_purged_after_the_retention_unless_declared() {
    let desk = desk_with(3).await;
    let wanted = fs::read_to_string(desk.path("accounts/01.yaml")).expect("it is there");
    desk.remove_manifest(0);
    desk.remove_manifest(1);
    // The deletions are dated back below, because the retention must have passed before the next run.
    let ever: &[&str] = &["--prune", "--yes", "--deleted-account-retention", "1s"];
    let first = desk.apply(ever).await;
    assert!(!first.stderr.contains("purged"), "not what this run has deleted: {first:?}");
    first.succeeded();
    let long_ago = desk.path("opsadmin.db");
    let sql = SqlitePool::connect_with(SqliteConnectOptions::new().filename(long_ago)).await.expect("it is there");
    let hour = "UPDATE accounts SET deleted_at = deleted_at - 3600000000 WHERE deleted_at IS NOT NULL";
    sqlx::query(hour).execute(&sql).await.expect("it is an hour ago");

    let kept = desk.apply(&[]).await;
    assert!(!kept.stderr.contains("purged"), "not before seven days: {kept:?}");
    desk.write("01.yaml", &wanted.replace("spec: {}", "spec: { affiliate: Nowhere }"));
    let refused = desk.apply(ever).await;
    let told = "purged 1 account that had been deleted for longer than --deleted-account-retention\n";
    assert!(refused.stderr.contains("UnknownAffiliate") && refused.stderr.contains(told), "{refused:?}");
    desk.write("01.yaml", &wanted);
    let restored = desk.apply(&[ever, &["-o", "json"]].concat()).await;
    assert!(!restored.stderr.contains("purged"), "{restored:?}");
    assert!(restored.succeeded().contains("\"restore\""));
    assert_eq!(desk.enabled().await, ["a01", "a02"]);
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts").fetch_one(&sql).await.expect("a count");
    assert_eq!(rows, 2);
}
