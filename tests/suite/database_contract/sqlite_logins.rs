//! Logins in SQLite: the concurrent ones of one program share a commit, and each commit of any program is noticed.

use super::fixture::*;
use super::logins::{account, assertion, begin, login};
use futures::FutureExt as _;
use futures::future::join_all;
use opsadmin_operator::database::open_with_logins;
use opsadmin_operator::login::AssertionUse;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Executor as _};
use std::path::Path;

/// Returns how many transactions the write-ahead log has: <https://www.sqlite.org/fileformat2.html#walformat>.
fn commits_in(log: &Path) -> usize {
    let log = std::fs::read(log).unwrap();
    let (header, frames) = log.split_at(32);
    let page_size = u32::from_be_bytes(header[8..12].try_into().unwrap()) as usize;
    let is_commit = |frame: &&[u8]| frame[8..16] == header[16..24] && frame[4..8] != [0; 4];
    frames.chunks_exact(24 + page_size).filter(is_commit).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_commits_concurrent_logins_together() {
    let fresh = Fresh::sqlite();
    let database = fresh.open_with_logins().await;
    let account = account(&database, "together").await;
    begin(&database, &login(&account)).await;
    let log = fresh.file().unwrap().with_extension("db-wal");
    let before = commits_in(&log);
    let mut other = SqliteConnection::connect(fresh.url()).await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let logins: Vec<_> = (0..50).map(|_| (login(&account), assertion(account.keys[0].id))).collect();
    let mut begun = join_all(logins.iter().map(|(login, used)| database.logins.begin(login, used))).boxed();
    // All of them wait for the other program.
    assert!(futures::poll!(&mut begun).is_pending());
    other.execute("ROLLBACK").await.unwrap();
    assert!(begun.await.into_iter().all(|begun| begun.unwrap() == AssertionUse::First));
    assert_eq!((commits_in(&log) - before, fresh.count("logins").await), (1, "51".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_takes_no_other_login_along() {
    let fresh = Fresh::sqlite();
    let database = fresh.open_with_logins().await;
    let account = account(&database, "given up").await;
    let mut other = SqliteConnection::connect(fresh.url()).await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let [given_up, kept] = [login(&account), login(&account)];
    let [first, second] = [assertion(account.keys[0].id), assertion(account.keys[0].id)];
    let mut leader = database.logins.begin(&given_up, &first);
    assert!(futures::poll!(&mut leader).is_pending());
    let mut follower = database.logins.begin(&kept, &second);
    assert!(futures::poll!(&mut follower).is_pending());
    drop(leader);
    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(follower.await.unwrap(), AssertionUse::First);
    assert_eq!(database.logins.find(given_up.id).await.unwrap(), None);
    assert_eq!(database.logins.find(kept.id).await.unwrap(), Some(kept));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_version_of_sqlite_differs_after_each_commit() {
    let fresh = Fresh::sqlite();
    let database = fresh.open_with_logins().await;
    let version = async || database.logins.data_version().await.unwrap().unwrap();
    let at_once = || database.logins.data_version_at_once();
    assert_eq!(at_once(), None, "it was not asked for yet");
    let first = version().await;
    assert_eq!(version().await, first);
    assert_eq!(at_once(), Some(first));
    let account = account(&database, "noticed").await;
    assert_eq!(at_once(), None);
    let after_own = version().await;
    assert_ne!(after_own, first);
    assert_eq!(at_once(), Some(after_own));
    fresh.by_hand(&format!("UPDATE accounts SET enabled = 0 WHERE id = '{}'", account.id)).await.unwrap();
    assert_eq!(at_once(), None);
    let after_edit = version().await;
    assert_ne!(after_edit, after_own);
    begin(&database, &login(&account)).await;
    assert_ne!(version().await, after_edit);
    let other = open_with_logins(fresh.url()).unwrap();
    assert_eq!(other.logins.data_version().await.unwrap(), other.logins.data_version().await.unwrap());
}
