//! The PostgreSQL adapter, for production and for several replicas. Its SQL is here where it differs from SQLite's.

mod changes;
mod commit;
mod creations;
mod listening;
mod logins;
mod migrate;
mod pool;
mod rights;
mod servers;
mod whole;

use super::sql::{Acceptance, Accepted, ChangeGroup, Dialect, ErrorKind, Fault, Value, Which, binding, said, which};
use super::{Change, Changed, server_url};
use crate::account::Account;
use crate::login::AccessChange;
use async_trait::async_trait;
use futures::stream::BoxStream;
use listening::listen;
use logins::Beginnings;
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
    /// The logins that begin.
    beginnings: Beginnings,
}

impl Postgres {
    /// Makes no connection yet, so the server need not be available. `wanted` applies if the URL has no
    /// `target_session_attrs`.
    pub fn open(urls: ServerUrls, wanted: Wanted, password_file: Option<PathBuf>, connections: u32) -> Self {
        let pool = Pool::new(Servers::new(urls, wanted, password_file), connections);
        Self { pool, beginnings: Beginnings::new() }
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

    const MISSING_PRIVILEGES: Option<&'static str> = Some(rights::MISSING_PRIVILEGES);

    const AUTH_SERVER_ROLE: Option<&'static str> = Some(rights::AUTH_SERVER_ROLE);

    const LOCK_KEYS: Option<&'static str> = Some("LOCK TABLE account_keys IN SHARE ROW EXCLUSIVE MODE");

    /// The server, its timeline and the database. Each promotion and each recovery from a backup begins another timeline.
    /// A database keeps its number for as long as it exists, whatever its name, so a copy of it has another one.
    const HISTORY: Option<&'static str> = Some(
        "SELECT system_identifier || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || '/' || oid \
         FROM pg_control_system(), pg_database WHERE datname = current_database()",
    );

    // Transaction ids repeat after 4 billion transactions. A row that has not changed for half of them seems to be of the
    // future.
    const CHANGES: Option<&'static str> = Some(
        "SELECT owner_namespace, owner_name, version, moment, owners FROM \
         (SELECT pg_snapshot_xmin(pg_current_snapshot())::xid::text AS moment, count(*) || ' ' || \
         coalesce(sum(hashtextextended(owner_namespace || '/' || owner_name || '/' || id, 0)), 0) AS owners \
         FROM accounts WHERE owner_cluster = $1) AS mark LEFT JOIN accounts ON owner_cluster = $1 \
         AND age(accounts.xmin) BETWEEN 0 AND age($2::text::xid) AND owners = $3",
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

    /// Locks each key pair in the same order as other servers do, so that no two wait for each other.
    const RECORD_USES: &'static str = "INSERT INTO key_uses (key_id, first_used_at, last_used_at) \
         SELECT pair.id, min((used.value ->> 1)::bigint), max((used.value ->> 2)::bigint) \
         FROM json_array_elements($1::json) AS used (value) JOIN account_keys AS pair ON pair.id = used.value ->> 0 \
         GROUP BY pair.id ORDER BY pair.id ON CONFLICT (key_id) DO UPDATE SET \
         first_used_at = least(key_uses.first_used_at, excluded.first_used_at), \
         last_used_at = greatest(key_uses.last_used_at, excluded.last_used_at) RETURNING key_id";

    /// Skips rows that another program removes or changes at the same time, so that no two wait for each other.
    const PURGE_BY_TIME: [&'static str; 2] = [
        "DELETE FROM logins WHERE ctid = ANY (ARRAY(SELECT ctid FROM logins WHERE expires_at <= $1 \
         ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING id",
        "DELETE FROM login_assertions WHERE ctid = ANY (ARRAY(SELECT ctid FROM login_assertions WHERE keep_until < $1 \
         ORDER BY keep_until LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING key_id",
    ];

    const PURGE_USES: &'static str = "DELETE FROM key_uses WHERE ctid = ANY (ARRAY(SELECT ctid FROM key_uses \
         WHERE NOT EXISTS (SELECT 1 FROM account_keys WHERE account_keys.id = key_uses.key_id) \
         LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING key_id";

    fn at_a_time(&self) -> usize {
        self.pool.size() as usize
    }

    async fn read(&self) -> Result<Self::Session, Fault> {
        self.pool.begin(READ).await
    }

    async fn write(&self) -> Result<Self::Session, Fault> {
        self.pool.begin(WRITE).await
    }

    async fn find(&self, which: &Which, values: &[Value<'_>]) -> Result<Option<Account>, Fault> {
        Ok(self.read_whole(which, values).await?.pop())
    }

    async fn commit_together(&self, changes: &ChangeGroup) {
        self.commit_group(changes).await;
    }

    async fn commit_alone(&self, change: &Change) -> Result<Account, Fault> {
        self.commit_one(change).await
    }

    async fn single(&self) -> Result<Self::Session, Fault> {
        self.pool.single(WRITE).await
    }

    async fn accept(&self, acceptance: Acceptance) -> Result<Accepted, Fault> {
        self.write_acceptance(acceptance).await
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
        listen(self.pool.clone())
    }

    fn access_changes(&self) -> BoxStream<'static, AccessChange> {
        listen(self.pool.clone())
    }

    async fn heartbeat(&self, number: u64) -> Result<(), Fault> {
        self.send_heartbeat(number).await
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
