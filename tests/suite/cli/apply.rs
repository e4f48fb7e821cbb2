//! `opsadmin apply` without a cluster, on SQLite and on PostgreSQL.

use std::fs;
use std::os::unix::fs::symlink;

use opsadmin_operator::account::{ApiKey, SecretKey};
use serde_json::json;
use sqlx::postgres::PgPool;

use super::working_folder::{WorkingFolder, account, mode};
use crate::support::opsadmin::Opsadmin;
use crate::support::postgres::postgres;

#[tokio::test]
async fn the_quick_start_creates_accounts_and_a_second_run_changes_nothing() {
    let desk = WorkingFolder::with_quickstart();
    let out = desk.apply(&["--unknown-affiliate", "register"]).await.succeeded();
    assert!(out.contains("default/acme-portal: created the account and its keys\n"), "{out}");
    assert!(out.contains("default/bright-comparison: wrote the keys to the Secret bright-api\n"), "{out}");
    assert!(out.ends_with("4 accounts: 4 created, 0 changed, 0 unchanged\n"), "{out}");

    for private in ["opsadmin.db", "opsadmin.keyring", "secrets/default.bright-api.yaml"] {
        assert_eq!(mode(&desk.path(private)), 0o600, "{private}");
    }
    assert_eq!(mode(&desk.path("secrets")), 0o700);
    let secret = desk.secret("bright-api");
    ApiKey::parse(&secret["api-key"]).expect("it is an API key");
    SecretKey::parse(&secret["secret-key"]).expect("it is a secret key");

    let before = desk.written();
    let again = desk.apply(&["--unknown-affiliate", "register"]).await.succeeded();
    assert_eq!(again, "4 accounts: nothing to change\n");
    assert_eq!(desk.written(), before, "not a byte of database, keyring or Secrets differs");
}

#[tokio::test]
async fn only_a_changed_field_is_printed_and_applied() {
    let desk = WorkingFolder::with_quickstart();
    desk.apply(&["--unknown-affiliate", "register"]).await.succeeded();
    let keys = desk.secret("old-import-opsadmin");
    let secrets: Vec<_> =
        desk.written().into_iter().filter(|(path, _)| path.starts_with(desk.path("secrets"))).collect();
    desk.edit("internal.yaml", "enabled: false", "enabled: true");
    let out = desk.apply(&[]).await.succeeded();
    assert_eq!(out, "default/old-import: enabled: false → true\n4 accounts: 0 created, 1 changed, 3 unchanged\n");
    assert_eq!(desk.secret("old-import-opsadmin"), keys);
    let after: Vec<_> = desk.written().into_iter().filter(|(path, _)| path.starts_with(desk.path("secrets"))).collect();
    assert_eq!(after, secrets, "no Secret was touched");
    let (changes,): (String,) = sqlx::query_as("SELECT changes FROM account_journal WHERE action = 'updated'")
        .fetch_one(&desk.sql().await)
        .await
        .expect("one journal line");
    let changes: serde_json::Value = serde_json::from_str(&changes).expect("it is JSON");
    assert_eq!(changes, json!([{ "field": "enabled", "old": "false", "new": "true" }]));
}

#[tokio::test]
async fn with_one_invalid_manifest_nothing_is_applied() {
    let desk = WorkingFolder::with_quickstart();
    desk.write("bad.yaml", &account("bad", "{ allowedIPs: [192.168.0.1/16], roles: [Admin] }"));
    desk.write("worse.yaml", &account("worse", "{ enabeld: false }"));
    let finished = desk.apply(&["--unknown-affiliate", "register"]).await;
    assert_eq!(finished.status.code(), Some(1));
    assert_eq!(finished.stdout, "");
    for expected in [
        "bad.yaml:5:22: default/bad: spec.allowedIPs[0]: ",
        "bad.yaml:5:47: default/bad: spec.roles[0]: ",
        "worse.yaml:5:9: default/worse: spec.enabeld: unknown field; did you mean enabled?",
        "nothing was applied\n",
    ] {
        assert!(finished.stderr.contains(expected), "{expected:?} in {}", finished.stderr);
    }
    assert!(!desk.path("opsadmin.db").exists() && !desk.path("secrets").exists());
}

#[tokio::test]
async fn a_refused_account_is_reported_and_the_others_are_applied() {
    let desk = WorkingFolder::new();
    desk.write("a.yaml", &account("first", "{ name: Acme }"));
    desk.apply(&[]).await.succeeded();
    desk.write("a.yaml", &account("fifth", "{}"));
    desk.write("b.yaml", &account("second", "{ name: ACME }"));
    desk.write("c.yaml", &account("third", "{ affiliate: Nowhere }"));
    desk.write("d.yaml", &account("fourth", "{}"));
    let finished = desk.apply(&[]).await;
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    let (out, err) = (&finished.stdout, &finished.stderr);
    assert!(out.contains("default/fourth: created"), "{out}");
    assert!(out.ends_with("4 accounts: 2 created, 0 changed, 0 unchanged, 2 refused\n"), "{out}");
    assert!(
        err.contains("b.yaml:1:1: default/second: NameTaken: the ApiAccount default/first has the account name"),
        "{err}"
    );
    assert!(
        err.contains(r#"c.yaml:1:1: default/third: UnknownAffiliate: OpsAdmin knows no affiliate "Nowhere""#),
        "{err}"
    );
    assert!(!desk.path("secrets/default.third-opsadmin.yaml").exists());
}

#[tokio::test]
async fn a_secret_follows_its_layout_and_is_restored() {
    let desk = WorkingFolder::new();
    desk.write("a.yaml", &account("acme", "{}"));
    desk.apply(&[]).await.succeeded();
    let keys = desk.secret("acme-opsadmin");

    let file = desk.path("secrets/default.acme-opsadmin.yaml");
    fs::remove_file(&file).expect("it can be removed");
    desk.apply(&[]).await.succeeded();
    assert_eq!(desk.secret("acme-opsadmin"), keys, "deleted, it comes back with the same keys");

    let text = fs::read_to_string(&file).expect("it can be read");
    fs::write(&file, text.replace("OPSADMIN_API_KEY", "EDITED")).expect("it can be written");
    let out = desk.apply(&[]).await.succeeded();
    assert!(out.contains("corrected the Secret acme-opsadmin: data.EDITED, data.OPSADMIN_API_KEY"), "{out}");
    assert_eq!(desk.secret("acme-opsadmin"), keys);

    desk.write("a.yaml", &account("acme", "{ secret: { name: moved, keys: { apiKey: id } } }"));
    let out = desk.apply(&[]).await.succeeded();
    assert!(out.contains("deleted the Secret acme-opsadmin, which is not needed any more"), "{out}");
    assert!(!file.exists());
    assert_eq!(desk.secret("moved")["id"], keys["OPSADMIN_API_KEY"]);
}

#[tokio::test]
async fn a_foreign_file_is_not_changed() {
    let desk = WorkingFolder::new();
    desk.write("a.yaml", &account("acme", "{}"));
    fs::create_dir(desk.path("secrets")).expect("a new folder");
    let file = desk.path("secrets/default.acme-opsadmin.yaml");
    for theirs in ["apiVersion: v1\nkind: Secret\nmetadata:\n  name: acme-opsadmin\n", "not: [a Secret\n"] {
        fs::write(&file, theirs).expect("it can be written");
        let finished = desk.apply(&[]).await;
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        assert_eq!(fs::read_to_string(&file).expect("it can be read"), theirs);
    }
    fs::remove_file(&file).expect("it can be removed");
    desk.apply(&[]).await.succeeded();
}

#[tokio::test]
async fn a_file_that_is_no_secret_stops_only_the_account_that_needs_it() {
    let desk = WorkingFolder::new();
    desk.write("a.yaml", &account("acme", "{}"));
    desk.write("b.yaml", &account("bright", "{}"));
    let folder = desk.path("secrets");
    fs::create_dir(&folder).expect("a new folder");
    let others = ["latin", "folder", "link"].map(|kind| folder.join(format!("s.{kind}.yaml")));
    fs::write(&others[0], b"\xff").expect("it can be written");
    fs::create_dir(&others[1]).expect("a new folder");
    symlink("nowhere", &others[2]).expect("a link can be made");
    desk.apply(&[]).await.succeeded();

    let file = folder.join("default.acme-opsadmin.yaml");
    let told = format!("default/acme: SecretUnavailable: cannot use the Secret manifest {}: ", file.display());
    for other in others {
        fs::remove_file(&file).expect("it is there");
        fs::rename(&other, &file).expect("it can be moved");
        let finished = desk.apply(&[]).await;
        assert!(finished.stderr.contains(&told), "{finished:?}");
        assert!(finished.stdout.ends_with("1 unchanged, 1 refused\n"), "{finished:?}");
        fs::rename(&file, &other).expect("it can be moved");
        desk.apply(&[]).await.succeeded();
    }
}

#[tokio::test]
async fn a_lost_account_is_created_again_with_the_keys_of_its_secret() {
    let desk = WorkingFolder::new();
    desk.write("a.yaml", &account("acme", "{}"));
    desk.apply(&[]).await.succeeded();
    let keys = desk.secret("acme-opsadmin");
    fs::remove_file(desk.path("opsadmin.db")).expect("it can be removed");
    let out = desk.apply(&[]).await.succeeded();
    assert!(out.contains("created the account again, with the keys from its Secret"), "{out}");
    assert_eq!(desk.secret("acme-opsadmin"), keys);
    let (api_key,): (String,) =
        sqlx::query_as("SELECT api_key FROM account_keys").fetch_one(&desk.sql().await).await.expect("one pair");
    assert_eq!(api_key, keys["OPSADMIN_API_KEY"]);
}

#[tokio::test]
async fn a_lost_keyring_is_not_replaced() {
    let desk = WorkingFolder::new();
    desk.write("a.yaml", &account("acme", "{}"));
    desk.apply(&[]).await.succeeded();
    fs::remove_file(desk.path("opsadmin.keyring")).expect("it can be removed");
    let finished = desk.apply(&[]).await;
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stderr.contains("there is no keyring"), "{}", finished.stderr);
    assert!(!desk.path("opsadmin.keyring").exists());
}

#[tokio::test]
async fn apply_does_the_same_on_postgresql() {
    let database = postgres().await.database("apply").await;
    let mut desk = WorkingFolder::with_quickstart();
    desk.database = database.url().to_owned();
    let without = desk.apply(&[]).await;
    assert_eq!(without.status.code(), Some(1));
    assert!(
        without.stderr.contains("needs --keyring FILE; make one with `opsadmin keyring init"),
        "{}",
        without.stderr
    );
    let unwritten = async || {
        let status = Opsadmin::new().args(["migrate", "--status", "--database", database.url()]).run().await;
        assert_eq!(status.status.code(), Some(2), "no table was made: {status:?}");
        assert!(!desk.path("secrets").exists());
    };
    unwritten().await;
    for (file, text) in [("nowhere", None), ("spoilt", Some("{"))] {
        let file = desk.path(file);
        text.map_or(Ok(()), |text| fs::write(&file, text)).expect("it can be written");
        let file = file.to_str().expect("it is text");
        assert_eq!(desk.apply(&["--keyring", file]).await.status.code(), Some(1));
        unwritten().await;
    }

    let keyring = desk.path("opsadmin.keyring");
    Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]).run().await.succeeded();
    let keyring = keyring.to_str().expect("it is text");
    fs::write(desk.path("secrets"), "no folder").expect("it can be written");
    assert_eq!(desk.apply(&["--keyring", keyring]).await.status.code(), Some(1));
    fs::remove_file(desk.path("secrets")).expect("it is there");
    unwritten().await;
    let extra = ["--keyring", keyring, "--unknown-affiliate", "register"];
    let out = desk.apply(&extra).await.succeeded();
    assert!(out.ends_with("4 accounts: 4 created, 0 changed, 0 unchanged\n"), "{out}");

    let sql = PgPool::connect(database.url()).await.expect("the database answers");
    let versions = async || -> Vec<(String, i64)> {
        let rows = sqlx::query_as("SELECT name, version FROM accounts ORDER BY name").fetch_all(&sql).await;
        rows.expect("the accounts are there")
    };
    let (before, secrets) = (versions().await, desk.written());
    assert_eq!(desk.apply(&extra).await.succeeded(), "4 accounts: nothing to change\n");
    assert_eq!((versions().await, desk.written()), (before, secrets));

    desk.edit("acme-portal.yaml", "203.0.113.0/24", "203.0.113.128/25");
    let out = desk.apply(&extra).await.succeeded();
    let change = "allowedIPs: [2001:db8:a::/48, 203.0.113.0/24] → [2001:db8:a::/48, 203.0.113.128/25]";
    assert!(out.contains(change), "{out}");
}

#[tokio::test]
async fn the_run_ends_after_a_few_accounts_when_the_database_stops_answering() {
    let database = postgres().await.database("away").await;
    let mut desk = WorkingFolder::new();
    desk.database = database.url().to_owned();
    let keyring = desk.path("opsadmin.keyring");
    Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]).run().await.succeeded();
    let extra = ["--keyring", keyring.to_str().expect("it is text")];
    let declare = |spec: &str| {
        let all: Vec<_> = (0..6).map(|number| account(&format!("a{number}"), spec)).collect();
        desk.write("all.yaml", &all.join("---\n"));
    };
    declare("{}");
    desk.apply(&extra).await.succeeded();
    declare("{ description: another }");
    let sql = PgPool::connect(database.url()).await.expect("the database answers");
    let mut theirs = sql.begin().await.expect("a transaction");
    let lock = "LOCK TABLE accounts IN SHARE MODE";
    sqlx::query(lock).execute(&mut *theirs).await.expect("it can be locked");
    let stopped = desk.apply(&extra).await;
    assert_eq!(stopped.status.code(), Some(1));
    assert_eq!(stopped.stderr.matches("DatabaseUnavailable").count(), 3, "{stopped:?}");
    let told =
        "stopped, since the account database does not answer; 3 accounts not looked at: run the same command to go on";
    assert!(stopped.stderr.contains(told), "{stopped:?}");
    theirs.rollback().await.expect("it is let go");
    let out = desk.apply(&extra).await.succeeded();
    assert!(out.ends_with("6 accounts: 0 created, 6 changed, 0 unchanged\n"), "{out}");
}

#[tokio::test]
async fn an_unavailable_database_is_reported_without_its_password() {
    let mut desk = WorkingFolder::with_quickstart();
    desk.database = format!("postgres://u:hunter2@127.0.0.1:{}/none", crate::support::ports::free_port());
    let keyring = desk.path("opsadmin.keyring");
    Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]).run().await.succeeded();
    let finished = desk.apply(&["--keyring", keyring.to_str().expect("it is text")]).await;
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stderr.contains("the account database is not available"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("hunter2"), "{}", finished.stderr);
}

#[tokio::test]
async fn standard_input_lists_and_json_are_read() {
    let desk = WorkingFolder::new();
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": {"name": "a", "namespace": "n"}, "spec": {}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}]}"#;
    let call = Opsadmin::new().args(["apply", "-f", "-", "--database", &desk.database, "--secrets"]);
    let finished = call.args([desk.path("secrets")]).stdin(list).run().await;
    assert!(finished.stderr.contains("skipped ConfigMap c"), "{}", finished.stderr);
    assert!(finished.succeeded().contains("n/a: created the account"));
    assert!(desk.path("secrets/n.a-opsadmin.yaml").exists());
}
