//! A database that becomes unavailable during a run: the run reports what it did, and how to continue.

use serde_json::Value;

use super::working_folder::{WorkingFolder, account};
use crate::support::opsadmin::Opsadmin;
use crate::support::postgres::postgres;
use crate::support::proxy::{Call, DatabaseProxy, Fault};
use crate::support::run::Finished;

/// One more account than the program reads in one query.
const MANY: usize = 501;

/// Creates a desk with this number of accounts. Returns the proxy before its database, and the path of its keyring.
async fn desk(name: &str, accounts: usize) -> (WorkingFolder, DatabaseProxy, String) {
    let proxy = DatabaseProxy::new(postgres().await.database(name).await).await;
    let mut desk = WorkingFolder::new();
    desk.database = proxy.url().to_owned();
    let keyring = desk.path("opsadmin.keyring");
    Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]).run().await.succeeded();
    declare(&desk, accounts);
    (desk, proxy, keyring.display().to_string())
}

fn declare(desk: &WorkingFolder, accounts: usize) {
    let all: Vec<_> = (0..accounts).map(|number| account(&format!("a{number:03}"), "{}")).collect();
    desk.write("all.yaml", &all.join("---\n"));
}

fn reads_more_of_many(call: &Call) -> bool {
    call.what.contains("(owner_cluster, owner_namespace, owner_name) IN") && call.number > 1
}

/// Checks that the JSON result of a failed run is complete JSON, and returns the number of its accounts.
fn accounts_reported(finished: &Finished) -> usize {
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    let value: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    assert!(value["summary"].is_object(), "{value}");
    value["accounts"].as_array().expect("a list").len()
}

#[tokio::test]
async fn a_run_that_loses_its_database_reports_what_it_did_and_how_to_continue() {
    let (desk, proxy, keyring) = desk("no_more", MANY).await;
    let extra = ["--keyring", &keyring];
    let plan = |extra: &[&str]| {
        let call = Opsadmin::new().args(["plan", "--database", &desk.database, "-f"]).args([desk.path("accounts")]);
        call.args(extra).run()
    };
    Opsadmin::new().args(["migrate", "--database", &desk.database]).run().await.succeeded();
    proxy.trace.meet_all(reads_more_of_many, Fault::Disconnect);
    proxy.trace.begin();
    let planned = plan(&["-o", "json"]).await;
    assert_eq!(accounts_reported(&planned), MANY - 1);
    assert!(planned.stderr.contains("opsadmin: the account database is not available: "), "{planned:?}");

    let on = "1 account not looked at: run the same command to go on\n";
    proxy.trace.begin();
    let applied = desk.apply(&[&extra[..], &["-o", "json"]].concat()).await;
    assert_eq!(accounts_reported(&applied), MANY - 1);
    assert!(applied.stderr.contains("stopped: the account database is not available: "), "{applied:?}");
    assert!(applied.stderr.ends_with(on), "{applied:?}");
    proxy.trace.begin();
    let applied = desk.apply(&extra).await;
    assert!(applied.stderr.ends_with(on), "{applied:?}");
    proxy.trace.begin();
    assert_eq!(plan(&[]).await.stdout, "", "not that there is nothing to change");

    proxy.trace.heal();
    let out = desk.apply(&extra).await.succeeded();
    assert!(out.ends_with("501 accounts: 1 created, 0 changed, 500 unchanged\n"), "{out}");
}

#[tokio::test]
async fn pruning_ends_after_a_few_accounts_when_the_database_stops_answering() {
    let (desk, proxy, keyring) = desk("no_prune", 6).await;
    desk.apply(&["--keyring", &keyring]).await.succeeded();
    declare(&desk, 1);
    let extra = ["--keyring", &keyring, "--prune", "--yes"];
    proxy.trace.meet_all(|call| call.what.starts_with("UPDATE accounts"), Fault::Disconnect);
    let stopped = desk.apply(&extra).await;
    assert_eq!(stopped.status.code(), Some(1));
    assert_eq!(stopped.stderr.matches("DatabaseUnavailable").count(), 3, "{stopped:?}");
    assert!(stopped.stderr.contains("2 accounts not looked at: run the same command to go on"), "{stopped:?}");
    proxy.trace.heal();
    let out = desk.apply(&extra).await.succeeded();
    assert!(out.ends_with("6 accounts: 0 created, 0 changed, 1 unchanged, 5 deleted\n"), "{out}");
}
