//! The answer to the only transaction of an import, or of a command of OpsAdmin staff, is lost. The program reads the
//! result from the database. If it cannot, it reports that the result is unknown, with the command that shows it.

use serde_json::json;

use crate::cli::staff_database::{StaffDatabase, refused};
use crate::support::cluster::cluster;
use crate::support::opsadmin::Opsadmin;
use crate::support::proxy::{Call, Fault, Proxy, To, listed};
use crate::support::run::Finished;

const LINES: &str = r#"{"name": "Acme", "apiKey": "legacy-1", "secretKey": "0123456789abcdef-1"}
{"name": "Birch", "apiKey": "legacy-2", "secretKey": "0123456789abcdef-2"}
"#;

fn is_commit(call: &Call) -> bool {
    call.to == To::Database && call.what == "COMMIT"
}

fn is_look(call: &Call) -> bool {
    call.what.contains("LEFT JOIN accounts ON id = $1 ")
}

/// Imports two accounts with these faults of the database. Returns the output, and the names of the accounts that exist
/// afterwards.
async fn import(test_name: &str, faults: impl FnOnce(&Proxy)) -> (Finished, Vec<String>) {
    let office = StaffDatabase::postgres(test_name).await;
    let proxy = Proxy::new(cluster().await.kubeconfig(), office.database.url()).await;
    faults(&proxy);
    let call = Opsadmin::new().args(["import", "-", "--database", proxy.database_url(), "--keyring"]);
    let finished = call.args([office.keyring()]).stdin(LINES).run().await;
    assert!(!proxy.trace.is_waiting(), "each fault was met\n{}", listed(&proxy.trace.calls()));
    (finished, office.database.column("SELECT name FROM accounts ORDER BY name").await)
}

#[tokio::test]
async fn imported_accounts_are_found_although_the_answer_is_lost() {
    let (finished, there) = import("import lost", |proxy| proxy.trace.meet(is_commit, [Fault::LoseAnswer])).await;
    assert_eq!(finished.succeeded(), "2 accounts imported; `opsadmin export` writes their manifests\n");
    assert_eq!(there, ["Acme", "Birch"]);
}

#[tokio::test]
async fn a_failed_import_is_reported_as_such() {
    let (finished, there) = import("import fails", |proxy| proxy.trace.meet(is_commit, [Fault::Disconnect])).await;
    refused(&finished, 1, "nothing was imported: the account database is not available: ");
    assert_eq!((finished.stdout.as_str(), there.len()), ("", 0));
}

#[tokio::test]
async fn what_cannot_be_looked_for_is_said_not_to_be_known() {
    for fault in [Fault::LoseAnswer, Fault::Disconnect] {
        let is_done = matches!(fault, Fault::LoseAnswer);
        let (finished, there) = import("import unknown", |proxy| {
            proxy.trace.meet(is_commit, [fault]);
            proxy.trace.meet(is_look, [Fault::Disconnect]);
        })
        .await;
        refused(&finished, 1, "it is not known whether they were imported: check with `opsadmin get --unowned`");
        assert!(!finished.stderr.contains("nothing was imported"), "{finished:?}");
        assert_eq!((finished.stdout.as_str(), there.is_empty()), ("", !is_done));
    }
}

#[tokio::test]
async fn a_suspension_that_cannot_be_looked_for_is_in_the_history_that_is_named() {
    let office = StaffDatabase::postgres("suspend unknown").await;
    office.apply(&[("acme", json!({}))]).await;
    let proxy = Proxy::new(cluster().await.kubeconfig(), office.database.url()).await;
    proxy.trace.meet(is_commit, [Fault::LoseAnswer]);
    proxy.trace.meet(is_look, [Fault::Disconnect]);
    let suspend = ["suspend", "acme", "--reason", "ticket 4711", "--actor", "maria"];
    let finished = Opsadmin::new().args(suspend).args(["--database", proxy.database_url()]).run().await;
    assert!(!proxy.trace.is_waiting(), "each fault was met\n{}", listed(&proxy.trace.calls()));
    let said = finished.stderr.split("check with `opsadmin ").nth(1).and_then(|rest| rest.split('`').next());
    let command: Vec<&str> = said.unwrap_or_else(|| panic!("{finished:?}")).split(' ').collect();
    let history = office.run(&command).await.succeeded();
    assert!(history.contains("suspended") && history.contains("ticket 4711"), "{history}");
}
