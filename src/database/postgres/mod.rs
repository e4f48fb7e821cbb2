//! PostgreSQL: for production, and for several replicas.

mod changes;
mod migrate;

use super::Changed;
use super::sql::{Dialect, Fault, Meaning, Which, session, which};
use async_trait::async_trait;
use futures::stream::BoxStream;
use sqlx::error::DatabaseError as ServerError;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};
use std::fmt;
use std::time::Duration;
use tokio::time::timeout;

static MIGRATIONS: Migrator = sqlx::migrate!("src/database/postgres/migrations");

/// How long to wait for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to ask the server itself why there was none.
const REASON_TIMEOUT: Duration = Duration::from_secs(2);

const CONNECTIONS: u32 = 8;

/// A database on a PostgreSQL server.
pub(super) struct Postgres {
    place: String,
    options: PgConnectOptions,
    pool: PgPool,
}

impl Postgres {
    /// The server need not be there yet.
    pub fn open(options: PgConnectOptions) -> Self {
        let place = place(&options);
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("opsadmin"),
        };
        // Whoever hangs in the middle of a transaction must not hold its locks for ever.
        let options = options.options([("statement_timeout", "10s"), ("idle_in_transaction_session_timeout", "30s")]);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // The pool tests each connection that comes back, for as long as that takes. On a connection whose other end is
            // gone without a word it takes many minutes, in which the connection's place in the pool would be lost.
            .after_release(|connection, _| {
                Box::pin(async {
                    timeout(ACQUIRE_TIMEOUT, connection.ping()).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
                    Ok(true)
                })
            })
            .connect_lazy_with(options.clone());
        Self { place, options, pool }
    }

    async fn begin(&self, how: &'static str) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, sqlx::Error> {
        match self.pool.begin_with(how).await {
            Err(sqlx::Error::PoolTimedOut) => Err(self.why_none().await),
            begun => begun,
        }
    }

    /// Why there was no connection within the time allowed. The pool tries again while the server refuses, and then keeps
    /// the server's reason to itself.
    async fn why_none(&self) -> sqlx::Error {
        match timeout(REASON_TIMEOUT, self.options.connect()).await {
            Ok(Err(refused)) => refused,
            Ok(Ok(_)) | Err(_) => sqlx::Error::PoolTimedOut,
        }
    }
}

fn place(options: &PgConnectOptions) -> String {
    let server = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let user = options.get_username();
    format!("{server}/{} as {user}", options.get_database().unwrap_or(user))
}

fn meaning(error: &dyn ServerError) -> Meaning {
    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    let code = error.code();
    match code.as_deref().unwrap_or_default() {
        // undefined_table, undefined_column
        "42P01" | "42703" => Meaning::Schema,
        // invalid_catalog_name, read_only_sql_transaction (a standby), idle_in_transaction_session_timeout,
        // lock_not_available, query_canceled (by statement_timeout)
        "3D000" | "25006" | "25P03" | "55P03" | "57014" => Meaning::Later,
        // Connection, authorization, rollback, resources, the operator, the system: healed by whoever runs the server.
        code if ["08", "28", "40", "53", "57P", "58"].iter().any(|class| code.starts_with(class)) => Meaning::Later,
        _ => Meaning::Refused,
    }
}

#[async_trait]
impl Dialect for Postgres {
    type Session = sqlx::Transaction<'static, sqlx::Postgres>;

    const COUNTS_EACH_ROW: bool = false;

    const LOCK_KEYS: Option<&'static str> = Some("LOCK TABLE account_keys IN SHARE ROW EXCLUSIVE MODE");

    const BY_OWNERS: Which = which!(
        "(owner_cluster, owner_namespace, owner_name) IN \
         (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_array_elements($1::json))"
    );

    const HOLDERS: Which = which!(
        "id IN (SELECT id FROM accounts WHERE deleted_at IS NULL \
         AND name_key IN (SELECT json_array_elements_text($1::json)) UNION SELECT account_id FROM account_keys \
         WHERE api_key IN (SELECT json_array_elements_text($2::json)))"
    );

    const REVOKED: &'static str = "SELECT api_key_sha256 FROM revoked_keys \
         WHERE api_key_sha256 IN (SELECT json_array_elements_text($1::json))";

    async fn read(&self) -> Result<Self::Session, sqlx::Error> {
        self.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    async fn write(&self) -> Result<Self::Session, sqlx::Error> {
        // Not `READ WRITE`: a standby would refuse that as a feature it lacks, and not as what it is.
        self.begin("BEGIN ISOLATION LEVEL READ COMMITTED").await
    }

    fn migrations(&self) -> &'static Migrator {
        &MIGRATIONS
    }

    async fn migrate(&self) -> Result<(), Fault> {
        self.migrate_between_others().await
    }

    fn meaning(&self, error: &dyn ServerError) -> Meaning {
        meaning(error)
    }

    fn changes(&self) -> BoxStream<'static, Changed> {
        changes::changes(self.options.clone())
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Postgres").field(&self.place).finish()
    }
}

impl fmt::Display for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

session!(Postgres);
