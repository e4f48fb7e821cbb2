//! `opsadmin doctor` without a cluster: a healthy installation has no finding, and each fault is reported.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use super::documented::{documented, fields};
use super::working_folder::{WorkingFolder, account};
use crate::support::opsadmin::Opsadmin;
use crate::support::run::Finished;

impl WorkingFolder {
    pub async fn doctor(&self, extra: &[&str]) -> Finished {
        let call = Opsadmin::new().args(["doctor", "--database", &self.database, "--secrets"]);
        call.args([self.path("secrets")]).args(extra).run().await
    }

    pub async fn break_by_hand(&self, statements: &[&str]) {
        let file = SqliteConnectOptions::new().filename(self.path("opsadmin.db")).foreign_keys(false);
        let sql = SqlitePool::connect_with(file).await.expect("it is there");
        for statement in statements {
            sqlx::query(sqlx::AssertSqlSafe((*statement).to_owned())).execute(&sql).await.expect("it is broken");
        }
        sql.close().await;
    }
}

async fn healthy() -> WorkingFolder {
    let desk = WorkingFolder::new();
    for name in ["altered", "lost", "missing", "settings", "swapped", "twin", "unreadable"] {
        desk.write(&format!("{name}.yaml"), &account(name, "{}"));
    }
    desk.apply(&[]).await.succeeded();
    desk
}

#[tokio::test]
async fn a_healthy_installation_has_no_finding_and_nothing_is_changed() {
    let desk = healthy().await;
    let before = desk.written();
    assert_eq!(desk.doctor(&[]).await.succeeded(), "7 accounts, 7 Secrets: all is well\n");
    assert_eq!(desk.written(), before);
}

#[tokio::test]
async fn each_fault_is_reported_and_no_key_is_shown() {
    let desk = healthy().await;
    let key = desk.secret("swapped-opsadmin")["OPSADMIN_SECRET_KEY"].clone();
    fs::remove_file(desk.path("secrets/default.missing-opsadmin.yaml")).expect("it is there");
    let swapped = desk.path("secrets/default.swapped-opsadmin.yaml");
    let text = fs::read_to_string(desk.path("secrets/default.altered-opsadmin.yaml")).expect("it is there");
    fs::write(&swapped, text.replace("altered", "swapped")).expect("it can be written");
    fs::set_permissions(desk.path("opsadmin.keyring"), fs::Permissions::from_mode(0o644)).expect("it is ours");
    desk.break_by_hand(&[
        "UPDATE account_keys SET secret_key_sealed = x'00' WHERE account_id = (SELECT id FROM accounts WHERE name = 'altered')",
        "DELETE FROM account_keys WHERE account_id = (SELECT id FROM accounts WHERE name = 'lost')",
        "DELETE FROM accounts WHERE name = 'lost'",
        "UPDATE accounts SET any_ip = 0 WHERE name = 'settings'",
        "UPDATE accounts SET name = 'Swapped' WHERE name = 'twin'",
        "UPDATE accounts SET retained_at = 9223372036854775807 WHERE name = 'unreadable'",
    ])
    .await;
    let found = desk.doctor(&["-o", "json"]).await;
    assert_eq!(found.status.code(), Some(2), "{found:?}");
    assert!(!found.stdout.contains(&key) && !found.stderr.contains(&key), "no secret key is shown");
    let report: Value = serde_json::from_str(&found.stdout).expect("it is JSON");
    let findings = report["findings"].as_array().expect("a list");
    let checks: Vec<&str> = findings.iter().map(|finding| finding["check"].as_str().expect("a check")).collect();
    let seen: BTreeSet<&str> = checks.iter().copied().collect();
    assert_eq!(seen, BTreeSet::from(["keyring", "names", "rows", "sealed-keys", "secrets", "settings"]), "{report:#}");
    let problems = findings
        .iter()
        .map(|finding| format!("{} {}", finding["subject"], finding["problem"]))
        .collect::<Vec<_>>()
        .concat();
    for expected in
        ["missing", "it has no Secret", "has no account of local/default/lost", "swapped-opsadmin", "altered"]
    {
        assert!(problems.contains(expected), "{expected}: {problems}");
    }
    let documented = documented("doctor");
    assert!(fields(&report, &[]).is_subset(&documented), "{report:#} {documented:?}");

    // The advice for an older schema, and the error for a missing database.
    desk.break_by_hand(&["DELETE FROM _sqlx_migrations WHERE version = 8", "ALTER TABLE accounts DROP COLUMN adopter"])
        .await;
    let older = desk.doctor(&[]).await;
    assert!(
        older.stdout.contains("schema: the database: it lacks the migrations 0008_adopter; run `opsadmin migrate`"),
        "{older:?}"
    );
    assert_eq!(older.status.code(), Some(2));
    let nothing = Opsadmin::new().args(["doctor", "--database", "sqlite://none.db"]).run().await;
    assert_eq!(nothing.status.code(), Some(1), "{nothing:?}");
}
