//! `PgBouncer` between the program and the PostgreSQL server: many clients share few server connections.

use super::fixture::*;
use super::logins::{assertion, login};
use crate::support::pgbouncer::PgBouncer;
use futures::StreamExt as _;
use futures::future::join_all;
use opsadmin_operator::database::{AccountAdmin, Address, Changed, open, open_with_logins};
use opsadmin_operator::login::AssertionUse;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use std::str::FromStr as _;
use std::sync::Arc;

/// The `PgBouncer` setting that makes it ignore these startup parameters instead of refusing the client.
const IGNORES: &str = "ignore_startup_parameters = extra_float_digits,options";

/// Runs two programs at the same time through a pooler. A third client has left prepared statements on the server
/// connections.
async fn works_through(pooling: &str, configured: &[&str]) {
    let fresh = Fresh::postgres("pooler").await;
    let pooler = PgBouncer::before(fresh.url(), pooling, configured).await;
    let url = pooler.url(fresh.url());
    let careless = PgConnectOptions::from_str(&url).unwrap().extra_float_digits(None);
    for _ in 0..2 {
        let mut connection = careless.connect().await.unwrap();
        // The driver names the prepared statement `sqlx_s_1`. In transaction mode, it stays on the server connection,
        // which the next client gets.
        let one: Result<i32, _> = sqlx::query_scalar("SELECT 1").fetch_one(&mut connection).await;
        drop(one);
        connection.close().await.unwrap();
    }
    let programs: Vec<Arc<dyn AccountAdmin>> =
        (0..2).map(|_| open(Address { connections: 4, ..Address::from(&url) }).unwrap()).collect();
    for migrated in join_all(programs.iter().map(|program| program.migrate())).await {
        migrated.unwrap();
    }
    let work = (0..40).map(|number| {
        let program = Arc::clone(&programs[number % 2]);
        tokio::spawn(async move {
            let name = format!("account {number}");
            let made = create(&*program, owner(&name), full_settings(&name)).await;
            let found = program.find_by_owner(&owner(&name)).await.unwrap();
            assert_eq!(found.as_ref(), Some(&made));
            let changed = program.commit(&update(&made, &settings(&name))).await.unwrap();
            assert_eq!(changed, updated(&made, &settings(&name)));
        })
    });
    for done in join_all(work.collect::<Vec<_>>()).await {
        done.unwrap();
    }
    assert_eq!(readable(programs[0].list().await).len(), 40);
    assert_eq!(fresh.count("account_journal").await, "80");
    // The statement timeout applies, because it is set in each transaction and not for the session, which is shared.
    let mut locked = PgConnection::connect(fresh.url()).await.unwrap();
    let mut lock = locked.begin().await.unwrap();
    sqlx::query("LOCK TABLE affiliates IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let refused = programs[0].affiliates().await.unwrap_err();
    assert!(refused.to_string().contains("statement timeout"), "{refused}");
    assert!(refused.is_retryable());
    lock.rollback().await.unwrap();
    // The stream reports that it cannot listen through a pooler, instead of waiting for notifications that never come.
    let mut changes = programs[0].changes();
    match changes.next().await {
        Some(Changed::Silence { reason }) => assert!(reason.contains("a pooler"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(changes.next().await, None);
    let server = open_with_logins(&url).unwrap();
    assert_eq!(server.logins.changes().next().await, None);
    server.logins.heartbeat(1).await.unwrap();
    let account = server.accounts.find_by_owner(&owner("account 1")).await.unwrap().unwrap();
    let used = assertion(account.keys[0].id);
    assert_eq!(server.logins.begin(&login(&account), &used).await.unwrap(), AssertionUse::First);
    assert_eq!(server.logins.begin(&login(&account), &used).await.unwrap(), AssertionUse::Replay);
    server.accounts.close().await;
    for program in &programs {
        program.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_in_transaction_mode_works() {
    works_through("transaction", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_ignores_startup_parameters_works() {
    works_through("transaction", &[IGNORES]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_in_statement_mode_is_refused_with_what_to_do() {
    let fresh = Fresh::postgres("statement_mode").await;
    let pooler = PgBouncer::before(fresh.url(), "statement", &[]).await;
    let program = open(&pooler.url(fresh.url())).unwrap();
    for refused in [program.migrate().await.unwrap_err(), program.answers().await.unwrap_err()] {
        assert!(refused.to_string().contains("set pool_mode of PgBouncer to transaction"), "{refused}");
        assert!(!refused.is_retryable(), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_in_session_mode_works() {
    works_through("session", &[IGNORES]).await;
}
