//! What messages say to do next is done here, and helps.

use std::fs;

use super::desk::{Desk, account};
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

    // What it says is done.
    let desk = Desk::new();
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
async fn a_sealed_database_without_its_keyring_is_told_to_restore_the_backup() {
    let desk = Desk::new();
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
    for command in [&["rotate", "acme", "--yes"][..], &["get", "acme", "--show-secret"]] {
        let call = Opsadmin::new().args(command).args(["--database", &desk.database]);
        let refused = call.run().await;
        assert!(refused.stderr.contains("restore the backup of the keyring"), "{command:?}: {refused:?}");
    }
    assert!(!keyring.exists() && !elsewhere.exists(), "none is made");
    fs::rename(&backup, &keyring).expect("it is there");
    assert_eq!(desk.apply(&[]).await.succeeded(), "1 account: nothing to change\n");

    // A database with nothing sealed still gets its keyring.
    let fresh = Desk::new();
    fresh.write("acme.yaml", &account("acme", "{}"));
    let refused = fresh.apply(&named).await;
    assert!(refused.stderr.contains("keyring init"), "{refused:?}");
}
