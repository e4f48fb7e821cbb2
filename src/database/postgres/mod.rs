//! The PostgreSQL adapter, for production and for several replicas. Its SQL is here where it differs from SQLite's.

mod changes;
mod migrate;
mod pool;
mod servers;

use super::sql::{Dialect, ErrorKind, Fault, Which, binding, said, which};
use super::{Changed, server_url};
use async_trait::async_trait;
use futures::stream::BoxStream;
use pool::{PgSession, Pool, READ, WRITE};
use server_url::{ServerUrls, Wanted};
use servers::Servers;
use sqlx::error::DatabaseError as ServerError;
use sqlx::migrate::Migrator;
use std::fmt;
use std::path::PathBuf;

static MIGRATIONS: Migrator = sqlx::migrate!("src/database/postgres/migrations");

binding!(Postgres);

/// A database on a PostgreSQL server, or on the suitable one of several servers.
pub(super) struct Postgres {
    pool: Pool,
}

impl Postgres {
    /// Makes no connection yet, so the server need not be available. `wanted` applies if the URL has no
    /// `target_session_attrs`.
    pub fn open(urls: ServerUrls, wanted: Wanted, password_file: Option<PathBuf>, connections: u32) -> Self {
        Self { pool: Pool::new(Servers::new(urls, wanted, password_file), connections) }
    }
}

/// Part of what `PgBouncer` reports if it gives each statement another session. Its error code also has other causes.
const STATEMENT_MODE: &str = "statement pooling mode";

fn meaning(error: &dyn ServerError) -> ErrorKind {
    if error.message().contains(STATEMENT_MODE) {
        return ErrorKind::Refused;
    }
    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    let code = error.code();
    match code.as_deref().unwrap_or_default() {
        // undefined_table, undefined_column
        "42P01" | "42703" => ErrorKind::Schema,
        // invalid_catalog_name, read_only_sql_transaction (a standby), idle_in_transaction_session_timeout,
        // lock_not_available, query_canceled (by statement_timeout)
        "3D000" | "25006" | "25P03" | "55P03" | "57014" => ErrorKind::Later,
        // The classes of connection, authorization, rollback, resource, operator and system errors. Who runs the server
        // can correct them.
        code if ["08", "28", "40", "53", "57P", "58"].iter().any(|class| code.starts_with(class)) => ErrorKind::Later,
        _ => ErrorKind::Refused,
    }
}

#[async_trait]
impl Dialect for Postgres {
    type Session = PgSession;

    const COUNTS_EACH_ROW: bool = false;

    const MISSING_PRIVILEGES: Option<&'static str> = Some(
        "SELECT privilege || ' ' || name FROM (VALUES \
             ('accounts', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']), \
             ('account_roles', ARRAY['SELECT', 'INSERT', 'DELETE']), \
             ('account_allowed_ips', ARRAY['SELECT', 'INSERT', 'DELETE']), \
             ('account_keys', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']), \
             ('affiliates', ARRAY['SELECT', 'INSERT']), \
             ('account_journal', ARRAY['SELECT', 'INSERT']), \
             ('outgoing_sealing_keys', ARRAY['SELECT']), \
             ('database_identity', ARRAY['SELECT']), \
             ('revoked_keys', ARRAY['SELECT', 'INSERT']), \
             ('schema_compatibility', ARRAY['SELECT']), \
             ('_sqlx_migrations', ARRAY['SELECT'])) AS needed (name, privileges) \
         CROSS JOIN LATERAL unnest(privileges) AS privilege \
         WHERE NOT has_table_privilege(name, privilege)",
    );

    const LOCK_KEYS: Option<&'static str> = Some("LOCK TABLE account_keys IN SHARE ROW EXCLUSIVE MODE");

    /// The server and its timeline. Each promotion and each recovery from a backup begins another timeline.
    const HISTORY: Option<&'static str> = Some(
        "SELECT system_identifier || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) FROM pg_control_system()",
    );

    const BY_OWNERS: Which = which!(
        "(owner_cluster, owner_namespace, owner_name) IN \
         (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_array_elements($1::json))"
    );

    const HOLDERS: Which = which!(
        "id IN (SELECT id FROM accounts WHERE deleted_at IS NULL \
         AND name_key IN (SELECT json_array_elements_text($1::json)) UNION SELECT account_id FROM account_keys \
         WHERE api_key IN (SELECT json_array_elements_text($2::json)))"
    );

    const NAMES: &'static str = "SELECT name_key, id, version, owner_cluster, retained_at FROM accounts \
         WHERE deleted_at IS NULL AND name_key IN (SELECT json_array_elements_text($1::json))";

    const AFFILIATES: &'static str =
        "SELECT name FROM affiliates WHERE name IN (SELECT json_array_elements_text($1::json))";

    const REVOKED: &'static str = "SELECT api_key_sha256 FROM revoked_keys \
         WHERE api_key_sha256 IN (SELECT json_array_elements_text($1::json))";

    fn at_a_time(&self) -> usize {
        self.pool.size() as usize
    }

    async fn read(&self) -> Result<Self::Session, Fault> {
        self.pool.begin(READ).await
    }

    async fn write(&self) -> Result<Self::Session, Fault> {
        self.pool.begin(WRITE).await
    }

    fn migrations(&self) -> &'static Migrator {
        &MIGRATIONS
    }

    async fn migrate(&self) -> Result<(), Fault> {
        self.migrate_between_others().await
    }

    fn error_kind(&self, error: &dyn ServerError) -> ErrorKind {
        meaning(error)
    }

    fn changes(&self) -> BoxStream<'static, Changed> {
        changes::changes(self.pool.clone())
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Postgres").field(&self.to_string()).finish()
    }
}

impl fmt::Display for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.servers().fmt(f)
    }
}
