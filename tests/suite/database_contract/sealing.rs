//! Retired keyring keys: the database refuses a secret key that is sealed with a retired key.

use super::fixture::*;
use crate::support::wait::eventually;
use opsadmin_operator::database::{AccountAdmin, DatabaseError};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use std::collections::BTreeSet;
use std::time::Duration;

const SOON: Duration = Duration::from_mins(1);

fn keys(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// Returns the id of the keyring key that seals the secret keys of these tests.
async fn sealing(database: &dyn AccountAdmin) -> String {
    let in_use = database.sealing_keys_in_use().await.unwrap();
    in_use.into_iter().next().unwrap()
}

pub async fn a_secret_key_sealed_with_a_retired_key_is_refused(fresh: Fresh) {
    let database = fresh.open().await;
    create(&*database, owner("before"), settings("before")).await;
    let old = sealing(&*database).await;
    database.supersede(&old, now()).await.unwrap();
    create(&*database, owner("meanwhile"), settings("meanwhile")).await;
    let retired = database.retire(&keys(&[&old, "unused"]), now()).await.unwrap();
    assert_eq!(retired, keys(&["unused"]), "the other is needed");
    create(&*database, owner("still"), settings("still")).await;
    assert_eq!(database.outgoing_keys().await.unwrap(), keys(&[&old, "unused"]));

    fresh.by_hand("UPDATE account_keys SET sealed_with = 'new'").await.unwrap();
    for _ in 0..2 {
        assert_eq!(database.retire(&keys(&[&old]), now()).await.unwrap(), keys(&[&old]), "also when repeated");
    }
    let refused = database.commit(&creation(owner("late"), settings("late"))).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::Refused { .. }), "{refused:?}");
    assert!(refused.to_string().contains("the keyring was rotated since this program read it"), "{refused}");
    assert_eq!(fresh.count("accounts").await, "3");
    fresh.by_hand(&format!("UPDATE account_keys SET sealed_with = '{old}'")).await.unwrap_err();
    fresh.by_hand("UPDATE account_keys SET sealed_with = 'newer'").await.unwrap();
}

/// SQLite has one writer at a time, so this race exists only on PostgreSQL.
#[tokio::test]
async fn retiring_a_key_waits_for_transactions_that_seal_with_it() {
    let fresh = Fresh::postgres("retiring").await;
    let database = fresh.open().await;
    let account = create(&*database, owner("there"), settings("there")).await;
    let old = sealing(&*database).await;
    fresh.by_hand("UPDATE account_keys SET sealed_with = 'new'").await.unwrap();
    let mut other = PgConnection::connect(fresh.url()).await.unwrap();
    let insert = format!(
        "INSERT INTO account_keys (id, account_id, api_key, secret_key_sealed, sealed_with, created_at) \
         VALUES ('late', '{}', 'late', '', '{old}', 0)",
        account.id
    );
    let mut sealing = other.begin().await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(insert)).execute(&mut *sealing).await.unwrap();
    let retiring = tokio::spawn({
        let old = old.clone();
        async move { database.retire(&keys(&[&old]), now()).await }
    });
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'account_keys'::regclass";
    eventually("it to wait", SOON, async || match fresh.column(waiting).await {
        waiting if waiting == ["1"] => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    sealing.commit().await.unwrap();
    assert_eq!(retiring.await.unwrap().unwrap(), keys(&[]), "what came meanwhile needs it");
}
