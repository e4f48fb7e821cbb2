//! The database's constraints: a refused change leaves nothing behind.

use super::fixture::*;
use opsadmin_operator::account::{Account, AccountId, Life, RotationRequests, StoredKey, Version};
use opsadmin_operator::database::{Action, DatabaseError, UnknownAffiliate};
use sqlx::error::ErrorKind::{CheckViolation, NotNullViolation};
use std::collections::BTreeSet;

pub(super) async fn rows(fresh: &Fresh) -> Vec<String> {
    let mut counts = Vec::new();
    for table in ["accounts", "account_roles", "account_allowed_ips", "account_keys", "affiliates", "account_journal"] {
        counts.push(fresh.count(table).await);
    }
    counts
}

pub async fn a_taken_name_is_refused_and_changes_nothing(fresh: Fresh) {
    let database = fresh.open().await;
    create(&*database, owner("holder"), settings("Taken")).await;
    let other = create(&*database, owner("other"), settings("other")).await;
    let before = rows(&fresh).await;

    assert_name_taken(database.commit(&creation(owner("wants"), full_settings("tAKEN"))).await, "tAKEN");
    assert_name_taken(database.commit(&update(&other, &settings("TAKEN"))).await, "TAKEN");

    assert_eq!(rows(&fresh).await, before);
    assert_eq!(database.find_by_owner(&owner("other")).await.unwrap(), Some(other));
}

pub async fn a_second_account_of_an_owner_is_a_conflict(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("owner"), settings("owner")).await;
    let before = rows(&fresh).await;

    assert_conflict(database.commit(&creation(owner("owner"), settings("another"))).await);
    assert_conflict(database.commit(&creation(owner("owner"), settings("owner"))).await);
    let deleted = database.commit(&deletion(&made)).await.unwrap();
    assert_conflict(database.commit(&creation(owner("owner"), settings("owner"))).await);

    assert_eq!(rows(&fresh).await[..5], before[..5]);
    assert_eq!(database.find_by_owner(&owner("owner")).await.unwrap(), Some(deleted));
}

pub async fn a_taken_id_or_key_is_refused(fresh: Fresh) {
    let database = fresh.open().await;
    let first = creation(owner("first"), settings("first"));
    database.commit(&first).await.unwrap();
    let Action::Create { key: taken, .. } = &first.action else { panic!("it creates") };

    let mut same_account = creation(owner("second"), settings("second"));
    same_account.account = first.account;
    assert_conflict(database.commit(&same_account).await);
    let mut same_key = creation(owner("second"), settings("second"));
    let Action::Create { key, .. } = &mut same_key.action else { panic!("it creates") };
    key.id = taken.id;
    assert_conflict(database.commit(&same_key).await);
    let mut same_api_key = creation(owner("second"), settings("second"));
    let Action::Create { key, .. } = &mut same_api_key.action else { panic!("it creates") };
    key.api_key = taken.api_key.clone();
    assert_key_taken(database.commit(&same_api_key).await);
    let keyless = create(&*database, owner("keyless"), settings("keyless")).await;
    fresh.by_hand(&format!("DELETE FROM account_keys WHERE account_id = '{}'", keyless.id)).await.unwrap();
    let before = rows(&fresh).await;
    let expected = database.find_by_owner(&owner("keyless")).await.unwrap().unwrap().version;
    let key = StoredKey { api_key: taken.api_key.clone(), ..stored(keyless.id, &pair()) };
    assert_key_taken(database.commit(&change(keyless.id, Action::RestoreKey { expected, key })).await);
    let key = StoredKey { id: taken.id, ..stored(keyless.id, &pair()) };
    assert_conflict(database.commit(&change(keyless.id, Action::RestoreKey { expected, key })).await);

    assert_eq!(rows(&fresh).await, before);
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "an answer is made to be looked at once")]
fn assert_key_taken(answer: Result<Account, DatabaseError>) {
    assert!(matches!(answer, Err(DatabaseError::KeyTaken)), "{answer:?}");
}

pub async fn an_unknown_affiliate_is_refused_and_changes_nothing(fresh: Fresh) {
    let database = fresh.open().await;
    let known = create(&*database, owner("known"), settings("known")).await;
    let before = rows(&fresh).await;
    let account = AccountId::from_random(random());
    let creation = Action::Create {
        owner: owner("unknown"),
        settings: full_settings("unknown"),
        key: stored(account, &pair()),
        answered: RotationRequests::default(),
        unknown_affiliate: UnknownAffiliate::Refuse,
    };

    for change in [change(account, creation), update(&known, &full_settings("known"))] {
        let refused = database.commit(&change).await;
        assert!(
            matches!(&refused, Err(DatabaseError::UnknownAffiliate { affiliate }) if affiliate.as_str() == "Énergie du Nord"),
            "{refused:?}"
        );
    }

    assert_eq!(rows(&fresh).await, before);
    assert_eq!(database.find_by_owner(&owner("known")).await.unwrap(), Some(known));
}

pub async fn an_affiliate_is_registered_only_if_its_account_is_created(fresh: Fresh) {
    let database = fresh.open().await;
    create(&*database, owner("holder"), settings("taken")).await;
    assert_name_taken(database.commit(&creation(owner("wants"), full_settings("taken"))).await, "taken");
    assert_eq!(fresh.count("affiliates").await, "0");

    let made = create(&*database, owner("registers"), full_settings("registers")).await;
    create(&*database, owner("again"), full_settings("again")).await;

    assert_eq!(fresh.column("SELECT name FROM affiliates").await, ["Énergie du Nord"]);
    assert_eq!(fresh.column("SELECT created_at FROM affiliates").await, [now().as_microsecond().to_string()]);
    assert_eq!(made.settings.affiliate.as_deref(), Some("Énergie du Nord"));
}

pub async fn an_affiliate_in_use_cannot_be_deleted_or_renamed(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("bound"), full_settings("bound")).await;
    for sql in ["DELETE FROM affiliates", "UPDATE affiliates SET name = 'South'"] {
        let refused = fresh.by_hand(sql).await.unwrap_err();
        assert!(refused.to_string().to_lowercase().contains("foreign key"), "{refused}");
    }
    assert_eq!(database.find_by_owner(&owner("bound")).await.unwrap(), Some(made));
}

pub async fn edits_by_hand_that_would_widen_access_are_refused(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("guarded"), full_settings("guarded")).await;
    let deleted = database.commit(&deletion(&made)).await.unwrap();
    for sql in [
        "UPDATE accounts SET enabled = TRUE",
        "UPDATE accounts SET owner_namespace = NULL",
        "UPDATE accounts SET any_ip = NULL",
        "UPDATE accounts SET version = 0",
        "UPDATE accounts SET suspended_at = 1",
    ] {
        let refused = fresh.by_hand(sql).await.unwrap_err();
        let kind = refused.as_database_error().unwrap().kind();
        assert!(matches!(kind, CheckViolation | NotNullViolation), "{sql}: {refused}");
    }
    assert_eq!(database.find_by_owner(&owner("guarded")).await.unwrap(), Some(deleted));
}

pub async fn several_changes_are_committed_together_or_not_at_all(fresh: Fresh) {
    let database = fresh.open().await;
    create(&*database, owner("a"), settings("taken")).await;
    let refused = database.commit_all(&[import(full_settings("new")), import(settings("TAKEN"))]).await;
    assert_name_taken(refused, "TAKEN");
    for table in ["account_roles", "account_allowed_ips", "affiliates"] {
        assert_eq!(fresh.count(table).await, "0", "{table}");
    }
    for table in ["accounts", "account_keys", "account_journal"] {
        assert_eq!(fresh.count(table).await, "1", "{table}");
    }

    let changes = [import(full_settings("new")), import(settings("newer"))];
    database.commit_all(&changes).await.unwrap();
    let imported = readable(database.list_undeclared().await);
    assert_eq!(imported.len(), 2);
    for account in imported {
        assert!(changes.iter().any(|change| change.account == account.id));
        assert_eq!((account.version, account.owner, account.life), (Version(1), None, Life::Live));
    }
    let actions = fresh.column("SELECT action FROM account_journal ORDER BY id").await;
    assert_eq!(actions, ["created", "imported", "imported"]);
}

pub async fn the_undeclared_accounts_are_the_imported_and_the_retained(fresh: Fresh) {
    let database = fresh.open().await;
    create(&*database, owner("declared"), settings("declared")).await;
    let retained = create(&*database, owner("retained"), settings("retained")).await;
    let deleted = create(&*database, owner("deleted"), settings("deleted")).await;
    database.commit(&change(retained.id, Action::Retain { expected: retained.version })).await.unwrap();
    database.commit(&deletion(&deleted)).await.unwrap();
    database.commit(&import(settings("imported"))).await.unwrap();
    let found = readable(database.list_undeclared().await);
    let names: BTreeSet<&str> = found.iter().map(|account| account.settings.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["imported", "retained"]));
}
