//! What a database tells a sweep: what changed since the last one, and pages of all accounts.

use super::fixture::*;
use crate::support::wait::eventually;
use jiff::ToSpan;
use opsadmin_operator::account::{Account, Owner, Version};
use opsadmin_operator::database::{AccountAdmin, Action, Changes, SweepMark};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};
use std::collections::BTreeSet;
use std::time::Duration;

async fn look(database: &dyn AccountAdmin, since: Option<&SweepMark>) -> Changes {
    database.changes_since(&owner("any").cluster, since).await.unwrap()
}

/// Returns what the database tells about accounts after this mark, and the next mark.
async fn next(database: &dyn AccountAdmin, since: SweepMark) -> (Option<Vec<(Owner, Version)>>, SweepMark) {
    let Changes { accounts, mark } = look(database, Some(&since)).await;
    (accounts, mark.expect("both databases have marks"))
}

async fn first_mark(database: &dyn AccountAdmin) -> SweepMark {
    let Changes { accounts, mark } = look(database, None).await;
    assert_eq!(accounts, None, "nothing is known before");
    mark.expect("both databases have marks")
}

/// Waits until nothing is told, and returns the mark. Accounts are told again as long as a transaction is open that is older
/// than their last change, also one of another test on the same server.
async fn nothing_is_told(database: &dyn AccountAdmin, since: SweepMark) -> SweepMark {
    let mark = std::cell::RefCell::new(since);
    eventually("nothing to be told", Duration::from_mins(1), async || {
        let since = mark.borrow().clone();
        let (told, following) = next(database, since).await;
        mark.replace(following);
        if told.as_ref().is_some_and(Vec::is_empty) { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    mark.into_inner()
}

/// Whether whoever is told this compares the account, alone or with all others.
fn is_told(accounts: Option<&Vec<(Owner, Version)>>, name: &str) -> bool {
    accounts.is_none_or(|told| told.iter().any(|(told, _)| *told == owner(name)))
}

pub async fn at_rest_no_account_is_told(fresh: Fresh) {
    let database = fresh.open().await;
    for name in ["acme", "bolt", "cargo"] {
        create(&*database, owner(name), full_settings(name)).await;
    }
    create(&*database, owner_in("elsewhere", "acme"), settings("another")).await;
    let mark = first_mark(&*database).await;
    let mark = nothing_is_told(&*database, mark).await;
    nothing_is_told(&*database, mark).await;
}

pub async fn each_change_of_an_account_is_told_once(fresh: Fresh) {
    let database = fresh.open().await;
    let mut accounts: Vec<Account> = Vec::new();
    for name in ["acme", "bolt"] {
        accounts.push(create(&*database, owner(name), full_settings(name)).await);
    }
    let mut mark = first_mark(&*database).await;
    for edit in super::versions::edits(&accounts[0]) {
        fresh.by_hand(&edit).await.unwrap();
        let (told, following) = next(&*database, mark).await;
        assert!(is_told(told.as_ref(), "acme"), "{edit}: {told:?}");
        if let Some(told) = told {
            let versions = database.versions(&owner("acme").cluster).await.unwrap();
            assert!(told.iter().all(|told| versions.contains(told)), "{edit}: {told:?}, and not {versions:?}");
        }
        mark = nothing_is_told(&*database, following).await;
    }
}

pub async fn accounts_that_come_and_go_are_told(fresh: Fresh) {
    let database = fresh.open().await;
    for name in ["acme", "bolt", "moved"] {
        create(&*database, owner(name), settings(name)).await;
    }
    let mut mark = first_mark(&*database).await;
    let mut all_are_compared = async |what: &str| {
        let (told, following) = next(&*database, mark.clone()).await;
        assert_eq!(told, None, "{what}");
        mark = following;
    };
    create(&*database, owner("new"), settings("new")).await;
    all_are_compared("a creation").await;
    let acme = database.find_by_owner(&owner("acme")).await.unwrap().unwrap();
    database.commit(&deletion(&acme)).await.unwrap();
    let later = now() + 1.second();
    let purge = async || database.purge(&owner("any").cluster, &|_| false, later, later).await.unwrap().accounts;
    assert_eq!(purge().await, 1);
    all_are_compared("a purge").await;
    // One goes and one comes between two looks.
    let bolt = database.find_by_owner(&owner("bolt")).await.unwrap().unwrap();
    database.commit(&deletion(&bolt)).await.unwrap();
    assert_eq!(purge().await, 1);
    create(&*database, owner("bolt"), settings("bolt")).await;
    all_are_compared("a purge and a creation").await;
    fresh.by_hand("UPDATE accounts SET owner_name = 'elsewhere' WHERE owner_name = 'moved'").await.unwrap();
    all_are_compared("another owner").await;
    let release = "UPDATE accounts SET owner_cluster = NULL, owner_namespace = NULL, owner_name = NULL WHERE owner_name = 'elsewhere'";
    fresh.by_hand(release).await.unwrap();
    all_are_compared("no owner").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_tells_a_change_that_is_committed_after_the_look() {
    let fresh = Fresh::postgres("told after the look").await;
    let database = fresh.open().await;
    for name in ["early", "late", "saved"] {
        create(&*database, owner(name), settings(name)).await;
    }
    let mark = first_mark(&*database).await;
    let mut open = PgConnection::connect(fresh.url()).await.unwrap();
    let edit = |name: &str| format!("UPDATE accounts SET description = 'edited' WHERE owner_name = '{name}'");
    let begun = format!("BEGIN; {}; SAVEPOINT here; {}; RELEASE here", edit("late"), edit("saved"));
    open.execute(sqlx::AssertSqlSafe(begun)).await.unwrap();
    fresh.by_hand(&edit("early")).await.unwrap();
    let (told, mark) = next(&*database, mark).await;
    assert!(is_told(told.as_ref(), "early"), "{told:?}");
    let told = told.expect("no account came or went");
    assert!(["late", "saved"].iter().all(|open| !told.contains(&(owner(open), Version(2)))), "{told:?}");
    open.execute("COMMIT").await.unwrap();
    // Whatever vacuuming does to the rows.
    fresh.by_hand("VACUUM (FREEZE) accounts").await.unwrap();
    let (told, mark) = next(&*database, mark).await;
    for name in ["late", "saved"] {
        assert!(told.is_some() && is_told(told.as_ref(), name), "{name}: {told:?}");
    }
    nothing_is_told(&*database, mark).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_believes_no_mark_of_another_database() {
    // Both are on the same server, and have the same accounts: none.
    let (before, after) = (Fresh::postgres("mark of before").await, Fresh::postgres("mark of another").await);
    let mark = first_mark(&*before.open().await).await;
    let database = after.open().await;
    let (told, mark) = next(&*database, mark).await;
    assert_eq!(told, None, "all are compared");
    assert_eq!(next(&*database, mark).await.0, Some(Vec::new()));
}

pub async fn pages_have_each_account_once(fresh: Fresh) {
    let database = fresh.open().await;
    let cluster = owner("any").cluster;
    for name in ["a", "a-b", "a0", "b", "c"] {
        create(&*database, owner(name), settings(name)).await;
    }
    let elsewhere = Owner { namespace: "Other".to_owned(), ..owner("a") };
    create(&*database, elsewhere, settings("other")).await;
    let gone = database.find_by_owner(&owner("b")).await.unwrap().unwrap();
    database.commit(&deletion(&gone)).await.unwrap();
    let kept = database.find_by_owner(&owner("c")).await.unwrap().unwrap();
    database.commit(&change(kept.id, Action::Retain { expected: kept.version })).await.unwrap();
    let (mut versions, mut live): (Vec<(Owner, Version)>, Vec<Owner>) = (Vec::new(), Vec::new());
    loop {
        let last = versions.last().map(|(owner, _)| owner.clone());
        let page = database.versions_after(&cluster, last.as_ref(), 2).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 2);
        versions.extend(page);
    }
    loop {
        let page = database.live_after(&cluster, live.last().cloned().as_ref(), 2).await.unwrap();
        if page.is_empty() {
            break;
        }
        live.extend(page);
    }
    assert_eq!((versions.len(), live.len()), (6, 4));
    let all = database.versions(&cluster).await.unwrap();
    assert_eq!(versions.into_iter().collect::<BTreeSet<_>>(), all.into_iter().collect());
    let all = database.live(&cluster).await.unwrap();
    assert_eq!(live.into_iter().collect::<BTreeSet<_>>(), all.into_iter().collect());
}

pub async fn an_unreadable_account_does_not_hide_its_neighbours(fresh: Fresh) {
    let database = fresh.open().await;
    for name in ["whole", "broken"] {
        create(&*database, owner(name), settings(name)).await;
    }
    let broken = format!("UPDATE accounts SET retained_at = {} WHERE owner_name = 'broken'", i64::MAX);
    fresh.by_hand(&broken).await.unwrap();
    let found = database.find_readable(&[owner("whole"), owner("broken"), owner("never made")]).await.unwrap();
    let (read, unreadable): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
    let read: Vec<_> = read.into_iter().flatten().map(|account| account.owner).collect();
    assert_eq!((read, unreadable.len()), (vec![Some(owner("whole"))], 1));
}
