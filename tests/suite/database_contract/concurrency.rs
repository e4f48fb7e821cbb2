//! Concurrent changes: one writer wins a race, no change is lost, and no reader sees half of a change.

use super::fixture::*;
use futures::future::join_all;
use jiff::ToSpan as _;
use opsadmin_operator::account::{Description, Settings};
use opsadmin_operator::database::{AccountAdmin, DatabaseError};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const MANY: usize = 12;

/// Opens the database three times, as three programs do, each with its own connection pool.
async fn programs(fresh: &Fresh) -> Vec<Arc<dyn AccountAdmin>> {
    let mut programs = vec![fresh.open().await];
    for _ in 1..3 {
        programs.push(opsadmin_operator::database::open(fresh.url()).unwrap());
    }
    programs
}

pub async fn of_many_creations_with_one_name_one_succeeds(fresh: Fresh) {
    let programs = programs(&fresh).await;
    let tries = (0..MANY).map(|number| {
        let database = Arc::clone(&programs[number % programs.len()]);
        tokio::spawn(async move {
            database.commit(&creation(owner(&format!("wants {number}")), settings("The Name"))).await
        })
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(tries).await.into_iter().map(Result::unwrap).partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, MANY - 1));
    for refusal in lost {
        assert_name_taken(refusal, "The Name");
    }
    assert_eq!(programs[0].find_by_name(&name("the name")).await.unwrap(), won.into_iter().next().unwrap().ok());
    assert_eq!(fresh.count("account_journal").await, "1");
}

pub async fn of_many_updates_of_one_version_one_succeeds(fresh: Fresh) {
    let programs = programs(&fresh).await;
    let observed = create(&*programs[0], owner("one"), settings("one")).await;
    let tries = (0..MANY).map(|number| {
        let database = Arc::clone(&programs[number % programs.len()]);
        let change = update(&observed, &settings(&format!("changed by {number}")));
        tokio::spawn(async move { database.commit(&change).await })
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(tries).await.into_iter().map(Result::unwrap).partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, MANY - 1));
    for refusal in lost {
        assert_conflict(refusal);
    }
    assert_eq!(programs[0].find_by_owner(&owner("one")).await.unwrap(), won.into_iter().next().unwrap().ok());
    assert_eq!(fresh.count("account_journal").await, "2");
}

pub async fn concurrent_creations_register_an_affiliate_once(fresh: Fresh) {
    let programs = programs(&fresh).await;
    let tries = (0..MANY).map(|number| {
        let database = Arc::clone(&programs[number % programs.len()]);
        let account_name = format!("account {number}");
        tokio::spawn(async move { create(&*database, owner(&account_name), full_settings(&account_name)).await })
    });
    for made in join_all(tries).await {
        assert_eq!(made.unwrap().settings.affiliate.as_deref(), Some("Énergie du Nord"));
    }
    assert_eq!(fresh.count("affiliates").await, "1");
}

/// One of two states of an account, which differ in the account's row, in its roles and in its addresses.
fn either(first: bool) -> Settings {
    let mut settings = full_settings("torn");
    settings.affiliate = None;
    if !first {
        settings.description = Description::parse("other").unwrap();
        settings.roles.pop_first();
        settings.allowed_ips = ips(&["192.0.2.1", "192.0.2.2"]);
    }
    settings
}

pub async fn no_read_mixes_two_versions(fresh: Fresh) {
    /// How many versions each reader must see, however slow the machine is.
    const ENOUGH: usize = 10;
    let programs = programs(&fresh).await;
    let mut account = create(&*programs[0], owner("torn"), either(true)).await;
    let readers: Vec<_> = (0..3)
        .map(|number| {
            let database = Arc::clone(&programs[number % programs.len()]);
            tokio::spawn(async move {
                let mut seen = std::collections::BTreeSet::new();
                while seen.len() < ENOUGH {
                    let found = database.find_by_owner(&owner("torn")).await.unwrap();
                    let listed = database.list_by_cluster(&owner("torn").cluster).await.unwrap();
                    for account in found.into_iter().chain(listed) {
                        let expected = updated(&account, &either(account.version.0 % 2 == 1)).settings;
                        assert_eq!(account.settings, expected, "version {}", account.version.0);
                        seen.insert(account.version);
                    }
                }
            })
        })
        .collect();
    let deadline = Instant::now() + Duration::from_mins(1);
    while !readers.iter().all(JoinHandle::is_finished) {
        assert!(Instant::now() < deadline, "no reader sees {ENOUGH} versions");
        account = programs[1].commit(&update(&account, &either(account.version.0 % 2 == 0))).await.unwrap();
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

pub async fn concurrent_updates_lose_no_change(fresh: Fresh) {
    const EACH: usize = 5;
    let programs = programs(&fresh).await;
    create(&*programs[0], owner("counter"), settings("0")).await;
    let counters = programs.iter().map(|database| {
        let database = Arc::clone(database);
        tokio::spawn(async move {
            let mut counted = 0;
            while counted < EACH {
                let observed = database.find_by_owner(&owner("counter")).await.unwrap().unwrap();
                let next = observed.settings.name.parse::<usize>().unwrap() + 1;
                match database.commit(&update(&observed, &settings(&next.to_string()))).await {
                    Ok(_) => counted += 1,
                    Err(DatabaseError::Conflict) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    for counter in join_all(counters).await {
        counter.unwrap();
    }
    let account = programs[0].find_by_owner(&owner("counter")).await.unwrap().unwrap();
    assert_eq!(account.settings.name, (programs.len() * EACH).to_string());
    assert_eq!(account.version.0, 1 + i64::try_from(programs.len() * EACH).unwrap());
}

pub async fn a_restore_during_a_purge_is_complete_or_a_conflict(fresh: Fresh) {
    let programs = programs(&fresh).await;
    let mut deleted = Vec::new();
    for number in 0..MANY * 4 {
        let account_name = format!("back {number}");
        let made = create(&*programs[0], owner(&account_name), settings(&account_name)).await;
        deleted.push(programs[0].commit(&deletion(&made)).await.unwrap());
    }
    let later = now() + 1.hour();
    let purging = Arc::clone(&programs[1]);
    let purging = tokio::spawn(async move { purging.purge(&owner("x").cluster, &|_| false, later, later).await });
    let restoring = deleted.iter().cloned().enumerate().map(|(number, account)| {
        let database = Arc::clone(&programs[number % programs.len()]);
        let change = update(&account, &settings(&account.settings.name));
        tokio::spawn(async move { database.commit(&change).await })
    });
    let restored: Vec<_> = join_all(restoring).await.into_iter().map(Result::unwrap).collect();
    let purged = purging.await.unwrap().unwrap().accounts;
    assert_eq!(purged, restored.iter().filter(|answer| answer.is_err()).count());
    for (account, answer) in deleted.iter().zip(restored) {
        let found = programs[0].find_by_owner(account.owner.as_ref().unwrap()).await.unwrap();
        match answer {
            Ok(restored) => assert_eq!(found, Some(restored), "with its keys"),
            Err(refusal) => {
                assert_conflict(Err::<(), _>(refusal));
                assert_eq!(found, None);
            }
        }
    }
}

#[tokio::test]
async fn waiting_for_a_connection_is_no_outage() {
    let fresh = Fresh::postgres("queue").await;
    fresh.open().await;
    let database = opsadmin_operator::database::open(fresh.url()).unwrap();
    let mut by_hand = PgConnection::connect(fresh.url()).await.unwrap();
    let mut locked = by_hand.begin().await.unwrap();
    sqlx::query("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE").execute(&mut *locked).await.unwrap();
    // Far more reads than the pool has connections, on a server that is slow and not down.
    let looks = (0..50).map(|_| {
        let database = Arc::clone(&database);
        tokio::spawn(async move { database.find_by_owner(&owner("x")).await })
    });
    let looks: Vec<_> = looks.collect();
    tokio::time::sleep(Duration::from_secs(6)).await;
    locked.rollback().await.unwrap();
    for look in looks {
        assert_eq!(look.await.unwrap().unwrap(), None);
    }
}
