//! The number of database queries for many accounts. Queries are counted, because times depend on the machine.

use super::working_folder::{WorkingFolder, account};
use crate::support::opsadmin::Opsadmin;
use crate::support::statements::{asked, talkative};

/// Creates a desk with this number of accounts, and applies them.
async fn desk_with(accounts: usize, database: &str) -> (WorkingFolder, String) {
    let mut desk = WorkingFolder::new();
    desk.database = database.to_owned();
    let manifests: Vec<String> = (0..accounts).map(|number| account(&format!("a{number}"), "{}")).collect();
    desk.write("all.yaml", &manifests.join("---\n"));
    let keyring = desk.path("opsadmin.keyring");
    if !keyring.exists() {
        Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]).run().await.succeeded();
    }
    let keyring = keyring.display().to_string();
    desk.apply(&["--keyring", &keyring, "--cluster-id", &format!("of-{accounts}")]).await.succeeded();
    (desk, keyring)
}

#[tokio::test]
async fn unchanged_accounts_are_read_in_bulk() {
    let mut statements = Vec::new();
    for accounts in [5, 100] {
        let (server, database) = talkative().await;
        let (desk, keyring) = desk_with(accounts, database.url()).await;
        let secrets = desk.path("secrets").display().to_string();
        let scope = ["--cluster-id", &format!("of-{accounts}"), "--keyring", &keyring];
        let mark = server.log().len();
        let plan = |extra: &[&str]| {
            let call = Opsadmin::new().args(["plan", "--database", &desk.database, "-f"]).args([desk.path("accounts")]);
            call.args(scope).args(extra).run()
        };
        let nothing = format!("{accounts} accounts: nothing to change\n");
        let unseen = nothing.replace('\n', " (Secrets were not compared)\n");
        assert_eq!(plan(&[]).await.succeeded(), unseen);
        assert_eq!(plan(&["--secrets", &secrets, "--prune"]).await.succeeded(), nothing);
        assert_eq!(desk.apply(&scope).await.succeeded(), nothing);
        statements.push(asked(&server, mark));
    }
    let count = |of: &[String]| of.iter().filter(|statement| statement.starts_with("SELECT")).count();
    assert_eq!(count(&statements[0]), count(&statements[1]), "{:#?}", statements[1]);
    let is_write =
        |statement: &&String| ["INSERT", "UPDATE", "DELETE"].iter().any(|write| statement.starts_with(write));
    assert_eq!(statements[1].iter().filter(is_write).count(), 0, "{:#?}", statements[1]);
}

#[tokio::test]
async fn a_changed_account_needs_no_own_query_and_a_new_account_two() {
    let mut selects = Vec::new();
    for accounts in [5, 100] {
        let (server, database) = talkative().await;
        let (desk, _) = desk_with(accounts, database.url()).await;
        let cluster = format!("of-{accounts}");
        let plan = async |prefix: &str, expected: &str| {
            let manifests: Vec<String> =
                (0..accounts).map(|number| account(&format!("{prefix}{number}"), "{ description: new }")).collect();
            desk.write("all.yaml", &manifests.join("---\n"));
            let mark = server.log().len();
            let call = Opsadmin::new().args(["plan", "--database", &desk.database, "--cluster-id", &cluster, "-f"]);
            let said = call.args([desk.path("accounts")]).run().await.succeeded();
            let summary = format!("{accounts} accounts: {accounts} to {expected} (Secrets were not compared)\n");
            assert!(said.ends_with(&summary), "{said}");
            asked(&server, mark).iter().filter(|statement| statement.starts_with("SELECT")).count()
        };
        selects.push([plan("a", "change").await, plan("b", "create").await]);
    }
    let [[few_changed, few_new], [many_changed, many_new]] = selects[..] else { panic!("{selects:?}") };
    assert_eq!(few_changed, many_changed);
    // Each new account takes two queries: for another account with its name, and for one with its API key.
    assert_eq!(many_new - few_new, 2 * (100 - 5));
}
