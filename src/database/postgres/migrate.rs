//! Migrates while other sessions use the database. A migration waits only briefly for the lock of a table, because
//! every later session that uses the table waits behind it.

use super::pool::PgSession;
use super::{MIGRATIONS, Postgres};
use crate::backoff::Backoff;
use crate::database::DatabaseError;
use crate::database::sql::{Dialect as _, Fault, MIGRATIONS_TABLE, NAME_KEYS_MIGRATION, Session as _, renew_name_keys};
use sqlx::{AssertSqlSafe, Row as _};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Begins a migration. Its statements may take minutes. An advisory lock, whose number is the letters `opsa`, lets one
/// program migrate at a time. The migration then waits at most one second for the lock of a table, because logins wait
/// behind it.
const BEGIN_MIGRATION: &str = "SET LOCAL statement_timeout = '5min'; SELECT pg_advisory_xact_lock(1869640545); \
     SET LOCAL lock_timeout = '1s'";

/// The SQLSTATE of a lock that was not available in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// The SQLSTATE of a transaction that the server ended because two transactions waited for each other.
const DEADLOCK: &str = "40P01";

/// The pauses between two tries, in which the sessions that waited behind the try continue.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));

/// How long to try before the migration fails.
const TRY_FOR: Duration = Duration::from_mins(1);

/// Finds up to three sessions that hold table locks in this database, the oldest transactions first.
const HOLDERS: &str = "SELECT a.pid, coalesce(a.usename, 'unknown')::text, a.application_name \
     FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid() AND a.datname = current_database() \
     AND EXISTS (SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
         WHERE l.pid = a.pid AND l.granted AND c.relkind = 'r' AND c.oid >= 16384) \
     ORDER BY a.xact_start NULLS LAST LIMIT 3";

impl Postgres {
    /// Applies the missing migrations. Tries again while other sessions lock the tables.
    pub(super) async fn migrate_between_others(&self) -> Result<(), Fault> {
        let (started, mut failures) = (Instant::now(), 0);
        loop {
            match self.try_to_migrate().await {
                Err(Fault::Driver(error)) if is_lock_conflict(&error) => {
                    let reason = self.blocked().await;
                    if started.elapsed() >= TRY_FOR {
                        return Err(Fault::Explained(DatabaseError::Unavailable { reason }));
                    }
                    tracing::warn!("{reason}; trying again");
                }
                done => return done,
            }
            sleep(BACKOFF.pause(failures)).await;
            failures += 1;
        }
    }

    async fn try_to_migrate(&self) -> Result<(), Fault> {
        let mut session = self.write().await?;
        let applied = apply_missing(&mut session).await;
        if session.noted(applied)?.contains(&NAME_KEYS_MIGRATION) {
            renew_name_keys(&mut session).await?;
        }
        Ok(session.finish().await?)
    }

    async fn holders(&self) -> Result<Vec<(i32, String, String)>, Fault> {
        let mut session = self.read().await?;
        let holders = session.rows(HOLDERS, &[]).await?;
        session.finish().await?;
        Ok(holders)
    }

    /// Returns the message for a migration that got no lock and was rolled back.
    async fn blocked(&self) -> String {
        let blocked = format!("{self}: the migration waits for a lock that another transaction holds");
        match self.holders().await {
            Ok(holders) if !holders.is_empty() => {
                let holder = |(pid, user, program): &(i32, String, String)| match program.as_str() {
                    "" => format!("{pid} ({user})"),
                    program => format!("{pid} ({program} as {user})"),
                };
                let holders: Vec<_> = holders.iter().map(holder).collect();
                format!("{blocked}; end that transaction; the oldest ones are of process {}", holders.join(", "))
            }
            Ok(_) => blocked,
            Err(error) => {
                tracing::debug!(%error, "cannot tell who holds the lock");
                format!("{blocked}; pg_stat_activity tells which are open")
            }
        }
    }
}

fn is_lock_conflict(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some(LOCK_NOT_AVAILABLE | DEADLOCK))
}

/// Applies the missing migrations, and returns their numbers. Does not use the driver's migrator, which prepares
/// statements: behind a pooler another client would get a session that contains them.
async fn apply_missing(session: &mut PgSession) -> Result<BTreeSet<i64>, sqlx::Error> {
    let (connection, _) = session.connection()?;
    sqlx::raw_sql(BEGIN_MIGRATION).execute(&mut *connection).await?;
    sqlx::raw_sql(AssertSqlSafe(create_table())).execute(&mut *connection).await?;
    let list = format!("SELECT version FROM {MIGRATIONS_TABLE}");
    let rows = sqlx::raw_sql(AssertSqlSafe(list)).fetch_all(&mut *connection).await?;
    let applied = rows.iter().map(|row| row.try_get(0)).collect::<Result<BTreeSet<i64>, _>>()?;
    let mut missing = BTreeSet::new();
    for migration in MIGRATIONS.iter().filter(|migration| !applied.contains(&migration.version)) {
        let started = Instant::now();
        sqlx::raw_sql(migration.sql.clone()).execute(&mut *connection).await?;
        let record = format!(
            "INSERT INTO {MIGRATIONS_TABLE} (version, description, success, checksum, execution_time) \
             VALUES ($1, $2, TRUE, $3, $4)"
        );
        sqlx::query(AssertSqlSafe(record))
            .bind(migration.version)
            .bind(&*migration.description)
            .bind(&*migration.checksum)
            .bind(i64::try_from(started.elapsed().as_nanos()).unwrap_or(i64::MAX))
            .persistent(false)
            .execute(&mut *connection)
            .await?;
        missing.insert(migration.version);
    }
    Ok(missing)
}

/// Returns the statement that creates the driver's table of applied migrations, with the driver's columns.
fn create_table() -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {MIGRATIONS_TABLE} (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
         installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL, \
         execution_time BIGINT NOT NULL)"
    )
}
