//! Migrating while others use the database: a migration waits for a lock only briefly, since whoever comes after it waits too.

use super::{MIGRATIONS, Postgres};
use crate::database::DatabaseError;
use crate::database::sql::{Dialect as _, Fault, apply_missing, renew_name_keys};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Those who migrate take turns by this lock: the letters `opsa`.
const TAKE_TURNS: &str = "SELECT pg_advisory_xact_lock(1869640545)";

/// How long a migration itself may take.
const STATEMENT_TIMEOUT: &str = "SET LOCAL statement_timeout = '5min'";

/// How long a migration may wait for the lock of a table. Logins that come meanwhile wait behind it.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '1s'";

/// The code of an error that says that a lock was not to be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// The code of an error that says that two transactions waited for each other, and that this one was given up.
const DEADLOCK: &str = "40P01";

/// The pause after the first try, in which whoever waited behind it goes on; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

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
        let (started, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            match self.try_to_migrate().await {
                Err(Fault::Driver(error)) if is_in_the_way(&error) => {
                    let reason = self.blocked().await;
                    if started.elapsed() >= TRY_FOR {
                        return Err(Fault::Said(DatabaseError::Unavailable { reason }));
                    }
                    tracing::warn!("{reason}; trying again");
                }
                done => return done,
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn try_to_migrate(&self) -> Result<(), Fault> {
        let mut transaction = self.write().await?;
        sqlx::query(STATEMENT_TIMEOUT).execute(&mut *transaction).await?;
        sqlx::query(TAKE_TURNS).execute(&mut *transaction).await?;
        sqlx::query(LOCK_TIMEOUT).execute(&mut *transaction).await?;
        apply_missing(&mut *transaction, &MIGRATIONS).await?;
        renew_name_keys(&mut transaction).await?;
        Ok(transaction.commit().await?)
    }

    /// What to tell of a migration that got no lock. Nothing of it was done.
    async fn blocked(&self) -> String {
        let blocked = format!("{self}: the migration waits for a lock that another transaction holds");
        match sqlx::query_as::<_, (i32, String, String)>(HOLDERS).fetch_all(&self.pool).await {
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
