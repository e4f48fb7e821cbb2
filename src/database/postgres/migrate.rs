//! Migrating while others use the database: a migration waits for a lock only briefly, since whoever comes after it waits too.

use super::pool::PgSession;
use super::{MIGRATIONS, Postgres};
use crate::backoff::Backoff;
use crate::database::DatabaseError;
use crate::database::sql::{Dialect as _, Fault, MIGRATIONS_TABLE, NAME_KEYS_MIGRATION, Session as _, renew_name_keys};
use sqlx::{AssertSqlSafe, Row as _};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Before anything is migrated. A migration itself may take minutes. Those who migrate take turns by a lock: the letters
/// `opsa`. For the lock of a table it may wait only a second, since logins that come meanwhile wait behind it.
const TAKE_TURNS: &str = "SET LOCAL statement_timeout = '5min'; SELECT pg_advisory_xact_lock(1869640545); \
     SET LOCAL lock_timeout = '1s'";

/// The code of an error that says that a lock was not to be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// The code of an error that says that two transactions waited for each other, and that this one was given up.
const DEADLOCK: &str = "40P01";

/// The pauses between two attempts, in which transactions that waited behind the attempt go on.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));

/// How long to try before the caller is told.
const TRY_FOR: Duration = Duration::from_mins(1);

/// Who holds locks of tables in this database now, the oldest transactions first.
const HOLDERS: &str = "SELECT a.pid, coalesce(a.usename, 'unknown')::text, a.application_name \
     FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid() AND a.datname = current_database() \
     AND EXISTS (SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
         WHERE l.pid = a.pid AND l.granted AND c.relkind = 'r' AND c.oid >= 16384) \
     ORDER BY a.xact_start NULLS LAST LIMIT 3";

impl Postgres {
    /// Makes the migrations that are missing, and gives way to those who use the tables.
    pub(super) async fn migrate_between_others(&self) -> Result<(), Fault> {
        let (started, mut failures) = (Instant::now(), 0);
        loop {
            match self.try_to_migrate().await {
                Err(Fault::Driver(error)) if is_in_the_way(&error) => {
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

    /// What to tell of a migration that got no lock. Nothing of it was done.
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

fn is_in_the_way(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some(LOCK_NOT_AVAILABLE | DEADLOCK))
}

/// Answers with the numbers of those that were missing. Not the driver's own way: that one prepares statements, which another client of a pooler would come upon.
async fn apply_missing(session: &mut PgSession) -> Result<BTreeSet<i64>, sqlx::Error> {
    let (connection, _) = session.connection()?;
    sqlx::raw_sql(TAKE_TURNS).execute(&mut *connection).await?;
    sqlx::raw_sql(AssertSqlSafe(make_table())).execute(&mut *connection).await?;
    let list = format!("SELECT version FROM {MIGRATIONS_TABLE}");
    let rows = sqlx::raw_sql(AssertSqlSafe(list)).fetch_all(&mut *connection).await?;
    let applied = rows.iter().map(|row| row.try_get(0)).collect::<Result<BTreeSet<i64>, _>>()?;
    let mut missing = BTreeSet::new();
    for migration in MIGRATIONS.iter().filter(|migration| !applied.contains(&migration.version)) {
        let started = Instant::now();
        sqlx::raw_sql(migration.sql.clone()).execute(&mut *connection).await?;
        let note = format!(
            "INSERT INTO {MIGRATIONS_TABLE} (version, description, success, checksum, execution_time) \
             VALUES ($1, $2, TRUE, $3, $4)"
        );
        sqlx::query(AssertSqlSafe(note))
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

/// The driver's record of migrations, in its form.
fn make_table() -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {MIGRATIONS_TABLE} (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
         installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL, \
         execution_time BIGINT NOT NULL)"
    )
}
