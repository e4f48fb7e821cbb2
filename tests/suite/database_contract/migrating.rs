//! Migrations of a PostgreSQL database while other programs use it.

use super::fixture::*;
use opsadmin_operator::database::{DatabaseError, open};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};
use std::time::{Duration, Instant};

/// The longest time a query may wait for a migration: the migration's lock timeout, and a margin for a slow machine.
const SOON: Duration = Duration::from_secs(10);

/// A database with pending migrations that need an exclusive lock on `accounts`, and a connection with an idle
/// transaction that wrote to `accounts`.
async fn database_with_idle_writer(name: &str) -> (Fresh, PgConnection) {
    let fresh = Fresh::postgres(name).await;
    migrate_as_another(&fresh, 1, &[]).await;
    let mut idle = PgConnection::connect(fresh.url()).await.unwrap();
    idle.execute("SET application_name = 'forgotten'; BEGIN; UPDATE accounts SET enabled = FALSE").await.unwrap();
    (fresh, idle)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_migration_does_not_block_other_queries() {
    let (fresh, mut idle) = database_with_idle_writer("behind_idle").await;
    let database = open(fresh.url()).unwrap();
    let migrating = tokio::spawn({
        let database = database.clone();
        async move { database.migrate().await }
    });
    let started = Instant::now();
    // Long enough for several attempts to get the lock. Queries wait behind each attempt.
    while started.elapsed() < Duration::from_secs(8) {
        let asked = Instant::now();
        fresh.by_hand("UPDATE accounts SET enabled = FALSE; SELECT * FROM account_keys").await.unwrap();
        assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    }
    assert!(!migrating.is_finished());
    idle.execute("COMMIT").await.unwrap();
    migrating.await.unwrap().unwrap();
    assert_eq!(database.pending_migrations().await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_without_its_lock_reports_who_holds_it() {
    let (fresh, mut idle) = database_with_idle_writer("who_holds").await;
    let database = open(fresh.url()).unwrap();
    let error = database.migrate().await.unwrap_err();
    assert!(matches!(error, DatabaseError::Unavailable { .. }), "{error:?}");
    let said = error.to_string();
    for part in ["waits for a lock that another transaction holds", "end that transaction", "(forgotten as "] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(database.pending_migrations().await.unwrap(), migrations().split_off(1));
    idle.execute("ROLLBACK").await.unwrap();
    database.migrate().await.unwrap();
}
