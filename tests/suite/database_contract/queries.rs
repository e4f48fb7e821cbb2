//! The queries of the commands that show accounts, the journal and affiliates.

use super::fixture::*;
use jiff::{Timestamp, ToSpan};
use opsadmin_operator::account::{AccountId, Owner, Requester, Settings};
use opsadmin_operator::database::{Action, DatabaseError, JournalEntry, JournalledChange, JournalledChanges, Named};
use std::collections::BTreeSet;

pub async fn an_account_is_found_by_its_id_until_it_is_purged(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("by id"), full_settings("by id")).await;
    create(&*database, owner("another"), settings("another")).await;
    assert_eq!(database.find_by_id(made.id).await.unwrap(), Some(made.clone()));
    let deleted = database.commit(&deletion(&made)).await.unwrap();
    assert_eq!(database.find_by_id(made.id).await.unwrap(), Some(deleted));
    let later = now() + 1.second();
    database.purge(&owner("any").cluster, &|_| false, later, later).await.unwrap();
    assert_eq!(database.find_by_id(made.id).await.unwrap(), None);
}

pub async fn the_whole_list_has_every_cluster_and_the_unowned_accounts(fresh: Fresh) {
    let database = fresh.open().await;
    assert_eq!(readable(database.list().await), []);
    let mut made = Vec::new();
    for number in 0..6 {
        let mut creation =
            creation(owner_in(&format!("cluster {}", number % 3), &number.to_string()), settings(&number.to_string()));
        creation.at = now() + i64::from(number).seconds();
        made.push(database.commit(&creation).await.unwrap());
    }
    made[1] = database.commit(&deletion(&made[1])).await.unwrap();
    made[2] = database.commit(&change(made[2].id, Action::Retain { expected: made[2].version })).await.unwrap();
    let disown = "UPDATE accounts SET owner_cluster = NULL, owner_namespace = NULL, owner_name = NULL WHERE name = '3'";
    fresh.by_hand(disown).await.unwrap();
    made[3] = database.find_by_id(made[3].id).await.unwrap().unwrap();
    assert_eq!(made[3].owner, None);

    assert_eq!(readable(database.list().await), made, "the oldest first");
}

pub async fn owners_of_all_clusters_and_all_states_are_listed(fresh: Fresh) {
    let database = fresh.open().await;
    assert_eq!(database.owners().await.unwrap(), []);
    let owners =
        ["live", "deleted", "retained", "unreadable"].map(|name| owner_in(&format!("cluster of {name}"), name));
    let mut made = Vec::new();
    for owner in &owners {
        made.push(create(&*database, owner.clone(), settings(&owner.name)).await);
    }
    database.commit(&deletion(&made[1])).await.unwrap();
    database.commit(&change(made[2].id, Action::Retain { expected: made[2].version })).await.unwrap();
    let unreadable = format!("UPDATE accounts SET retained_at = {} WHERE id = '{}'", i64::MAX, made[3].id);
    fresh.by_hand(&unreadable).await.unwrap();
    database.commit(&import(settings("nobody's"))).await.unwrap();

    let found = database.owners().await.unwrap();

    assert_eq!(found.len(), owners.len());
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(owners));
}

pub async fn a_list_reports_the_accounts_that_cannot_be_read(fresh: Fresh) {
    let database = fresh.open().await;
    let mut made = Vec::new();
    for name in ["whole", "without time", "without key", "last"] {
        made.push(database.commit(&import(settings(name))).await.unwrap());
    }
    let (time, key) = (made[1].id, made[2].keys[0].id);
    fresh.by_hand(&format!("UPDATE accounts SET retained_at = {} WHERE id = '{time}'", i64::MAX)).await.unwrap();
    fresh.by_hand(&format!("UPDATE account_keys SET api_key = 'hush' WHERE id = '{key}'")).await.unwrap();
    for listed in [database.list().await.unwrap(), database.list_undeclared().await.unwrap()] {
        let (mut read, mut unreadable) = (Vec::new(), Vec::new());
        for account in listed {
            match account {
                Ok(account) => read.push(account.settings.name),
                Err(error) => unreadable.push(error.to_string()),
            }
        }
        read.sort();
        assert_eq!(read, ["last", "whole"]);
        unreadable.sort();
        assert!(unreadable[0].contains(&format!("account_keys.api_key of {key}: ")), "{unreadable:?}");
        assert!(unreadable[1].contains(&format!("accounts.retained_at of {time}: ")), "{unreadable:?}");
        assert_eq!(unreadable.len(), 2);
    }
}

pub async fn accounts_are_found_by_the_name_of_their_resource_in_every_cluster(fresh: Fresh) {
    let database = fresh.open().await;
    let mut made = Vec::new();
    for (number, (cluster, namespace, name)) in
        [("a", "partners", "portal"), ("b", "partners", "portal"), ("a", "other", "portal"), ("a", "partners", "else")]
            .into_iter()
            .enumerate()
    {
        let owner = Owner { namespace: namespace.to_owned(), ..owner_in(cluster, name) };
        let mut creation = creation(owner, settings(&number.to_string()));
        creation.at = now() + i64::try_from(number).unwrap().seconds();
        made.push(database.commit(&creation).await.unwrap());
    }
    // The account's own name is another thing.
    database.commit(&import(settings("portal"))).await.unwrap();
    made[1] = database.commit(&deletion(&made[1])).await.unwrap();
    let found = async |namespace, name| database.find_by_resource(namespace, name).await.unwrap();
    assert_eq!(found(None, "portal").await, made[..3]);
    assert_eq!(found(Some("partners"), "portal").await, made[..2]);
    assert_eq!(found(Some("partners"), "else").await, made[3..]);
    assert_eq!(found(Some("nowhere"), "portal").await, []);
    assert_eq!(found(None, "Portal").await, []);
}

pub async fn deleted_accounts_are_found_by_the_name_that_they_had(fresh: Fresh) {
    let database = fresh.open().await;
    let mut deleted = Vec::new();
    for number in 0..2_i32 {
        let mut creation = creation(owner(&format!("number {number}")), settings("Acme"));
        creation.at = now() + i64::from(number).seconds();
        let made = database.commit(&creation).await.unwrap();
        deleted.push(database.commit(&deletion(&made)).await.unwrap());
    }
    create(&*database, owner("live"), settings("ACME")).await;
    assert_eq!(database.find_deleted_by_name(&name("acme")).await.unwrap(), deleted);
    assert_eq!(database.find_deleted_by_name(&name("other")).await.unwrap(), []);
}

pub async fn names_are_read_in_order_up_to_a_limit(fresh: Fresh) {
    let database = fresh.open().await;
    let gone = create(&*database, owner("gone"), settings("an old one")).await;
    database.commit(&deletion(&gone)).await.unwrap();
    for name in ["c", "a"] {
        create(&*database, owner(name), settings(name)).await;
    }
    database.commit(&import(settings("b"))).await.unwrap();
    let named = |name: &str, owner| Named { name: name.to_owned(), owner };
    let all = [named("a", Some(owner("a"))), named("b", None), named("c", Some(owner("c")))];
    assert_eq!(database.names(9).await.unwrap(), all);
    assert_eq!(database.names(2).await.unwrap(), all[..2]);
}

pub async fn the_journal_reads_back_as_it_was_written(fresh: Fresh) {
    let database = fresh.open().await;
    let mut creation = creation(owner("told"), settings("told"));
    "cli:'; DROP TABLE account_journal; --".clone_into(&mut creation.actor);
    creation.requested_by = Some(Requester::new("' --", Some(now()), Some("Zoë; \"admin\"")));
    let made = database.commit(&creation).await.unwrap();
    create(&*database, owner("another"), settings("another")).await;
    let wanted = Settings { enabled: false, ..settings("told") };
    let mut update = update(&made, &wanted);
    (update.at, update.generation) = (now() + 1.second(), None);
    let updated = database.commit(&update).await.unwrap();
    let deleted = database.commit(&deletion(&updated)).await.unwrap();
    let later = now() + 2.seconds();
    database.purge(&owner("any").cluster, &|_| false, later, later).await.unwrap();

    let told = database.journal(deleted.id).await.unwrap();

    let actions: Vec<_> = told.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["created", "updated", "deleted", "purged"]);
    assert_eq!((told[0].at, told[0].actor.as_str(), told[0].generation), (now(), creation.actor.as_str(), Some(3)));
    assert_eq!(told[0].requested_by.as_deref(), creation.requested_by.as_ref().map(Requester::as_str));
    assert!(told[0].requested_by.as_deref().unwrap().ends_with(r#" claim="Zoë; \"admin\"""#));
    let line = database.journal_after(0, 1).await.unwrap().remove(0);
    assert_eq!(line.requested_by, told[0].requested_by);
    let change = JournalledChange { field: "enabled".to_owned(), old: "true".to_owned(), new: "false".to_owned() };
    let expected = JournalEntry {
        at: now() + 1.second(),
        actor: "controller".to_owned(),
        generation: None,
        requested_by: None,
        action: "updated".to_owned(),
        changes: JournalledChanges::Changes(vec![change]),
    };
    assert_eq!(told[1], expected);
    assert_eq!(database.journal(AccountId::from_random(random())).await.unwrap(), []);
}

pub async fn journal_entries_written_by_hand_are_read_as_text(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("hands"), settings("hands")).await;
    let by_hand = async |changes: &str, at: i64| {
        let row = format!("VALUES ('{}', {at}, 'staff', 'updated', '{changes}')", made.id);
        fresh
            .by_hand(&format!("INSERT INTO account_journal (account_id, at, actor, action, changes) {row}"))
            .await
            .unwrap();
    };
    by_hand("asked for by mail", 7).await;
    by_hand(r#"[{"field": "name"}]"#, 8).await;
    let told = database.journal(made.id).await.unwrap();
    let notes: Vec<_> = told[1..].iter().map(|entry| (entry.at, entry.changes.clone())).collect();
    let at = |microseconds| Timestamp::from_microsecond(microseconds).unwrap();
    assert_eq!(
        notes,
        [
            (at(7), JournalledChanges::Text("asked for by mail".to_owned())),
            (at(8), JournalledChanges::Text(r#"[{"field": "name"}]"#.to_owned())),
        ]
    );
    by_hand("[]", i64::MAX).await;
    let error = database.journal(made.id).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Inconsistent { table: "account_journal", column: "at", .. }), "{error}");
}

pub async fn an_affiliate_is_registered_once(fresh: Fresh) {
    let database = fresh.open().await;
    assert!(database.register_affiliate(&affiliate("Énergie du Nord"), now()).await.unwrap());
    assert!(!database.register_affiliate(&affiliate("Énergie du Nord"), now() + 1.second()).await.unwrap());
    assert!(database.register_affiliate(&affiliate("énergie du nord"), now()).await.unwrap(), "to the letter");
    let known = ["Énergie du Nord", "énergie du nord"].map(str::to_owned);
    assert_eq!(database.affiliates().await.unwrap(), BTreeSet::from(known));
    let at = fresh.column("SELECT DISTINCT created_at FROM affiliates").await;
    assert_eq!(at, [now().as_microsecond().to_string()]);
}
