//! A wrong or lost database: `apply` does not create the accounts again when Secrets with their keys exist.

use super::working_folder::{WorkingFolder, account};
use crate::support::opsadmin::Opsadmin;
use std::fs;

#[tokio::test]
async fn a_mistyped_database_makes_nothing_anew_beside_the_secrets_of_another() {
    let desk = WorkingFolder::new();
    for name in ["a", "b", "c"] {
        desk.write(&format!("{name}.yaml"), &account(name, "{}"));
    }
    desk.apply(&[]).await.succeeded();
    let keys = desk.secret("a-opsadmin");
    let mistyped = format!("sqlite://{}", desk.path("opsadmn.db").display());
    let call = |command: &str| {
        let call = Opsadmin::new().args([command, "--database", &mistyped, "-f"]).args([desk.path("accounts")]);
        call.args(["--secrets"]).args([desk.path("secrets")])
    };
    let planned = call("plan").run().await;
    assert_eq!((planned.stdout.matches("CreationHeld: ").count(), planned.status.code()), (3, Some(1)), "{planned:?}");
    let applied = call("apply").run().await;
    assert_eq!((applied.stderr.matches("CreationHeld: ").count(), applied.status.code()), (3, Some(1)), "{applied:?}");
    assert!(applied.stderr.contains("run with --confirm-creation"), "{applied:?}");
    // An account without a Secret is created.
    desk.write("d.yaml", &account("d", "{}"));
    let more = call("apply").run().await;
    assert_eq!(more.stdout.matches("created the account and its keys").count(), 1, "{more:?}");
    assert_eq!(desk.secret("a-opsadmin"), keys);

    // The other database has another keyring, so the keys in the Secrets cannot be verified.
    let other_keyring = call("apply").args(["--confirm-creation"]).run().await;
    assert_eq!(other_keyring.stderr.matches("SecretConflict: ").count(), 3, "{other_keyring:?}");
    assert_eq!(desk.secret("a-opsadmin"), keys);
    fs::rename(desk.path("opsadmn.keyring"), desk.path("unused.keyring")).expect("it was made");
    fs::rename(desk.path("opsadmn.db"), desk.path("unused.db")).expect("it was made");
    desk.remove("d.yaml");
    fs::remove_file(desk.path("secrets/default.d-opsadmin.yaml")).expect("it was made");
    let call = |command: &str| call(command).args(["--keyring"]).args([desk.path("opsadmin.keyring")]);
    call("apply").args(["--confirm-creation"]).run().await.succeeded();
    assert_eq!(desk.secret("a-opsadmin"), keys);
    let settled = call("apply").run().await.succeeded();
    assert_eq!(settled, "3 accounts: nothing to change\n");
}

#[tokio::test]
async fn one_lost_account_is_created_again_without_confirmation() {
    let desk = WorkingFolder::new();
    for name in ["a", "b", "c"] {
        desk.write(&format!("{name}.yaml"), &account(name, "{}"));
    }
    desk.apply(&[]).await.succeeded();
    let keys = desk.secret("b-opsadmin");
    let file = sqlx::sqlite::SqliteConnectOptions::new().filename(desk.path("opsadmin.db"));
    let sql = sqlx::sqlite::SqlitePool::connect_with(file).await.expect("it is there");
    for lose in [
        "DELETE FROM account_keys WHERE account_id = (SELECT id FROM accounts WHERE name = 'b')",
        "DELETE FROM accounts WHERE name = 'b'",
    ] {
        sqlx::query(lose).execute(&sql).await.expect("it is lost");
    }
    sql.close().await;
    desk.apply(&[]).await.succeeded();
    assert_eq!(desk.secret("b-opsadmin"), keys);
}
