//! The SQLite adapter, the default: one file, one writer at a time, several readers. Its SQL is here where it differs
//! from PostgreSQL's.

mod data_version;
mod together;
mod wal_index;

use super::Change;
use super::DatabaseError;
use super::sql::{
    Acceptance, Accepted, ChangeGroup, Dialect, ErrorKind, Fault, Gathering, NAME_KEYS_MIGRATION, Session as _, Which,
    apply_missing, make_and_read_back, renew_name_keys, session, which,
};
use crate::account::Account;
use async_trait::async_trait;
use data_version::DataVersion;
use sqlx::Connection;
use sqlx::error::DatabaseError as ServerError;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use together::write_together;
use tokio::time::sleep;

static MIGRATIONS: Migrator = sqlx::migrate!("src/database/sqlite/migrations");

/// How long to wait for another program's write to end.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause between two tries where SQLite itself does not wait.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// The result code `SQLITE_BUSY`: another connection holds the file.
const BUSY: u32 = 5;

/// How long a call may wait for a connection that other calls of this program use.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the connection for writing is used before the file is opened again. A connection finds out only when it
/// opens the file whether it may write to it.
const WRITER_LIFETIME: Duration = Duration::from_secs(15);

const READERS: u32 = 4;

/// The database in one file.
pub(super) struct Sqlite {
    path: PathBuf,
    readers: SqlitePool,
    /// A single connection, so that writes are made in the order of the calls. SQLite's own waiting keeps no order.
    writer: SqlitePool,
    /// The acceptances that concurrent callers write together.
    acceptances: Gathering<Acceptance, Result<Accepted, Fault>>,
    data_version: DataVersion,
}

impl Sqlite {
    /// Opens the file, or creates an empty one with mode 0600. SQLite creates its other files beside it with the same
    /// mode.
    pub fn open(path: PathBuf) -> Result<Self, DatabaseError> {
        ensure_file(&path).map_err(|reason| DatabaseError::File { path: path.clone(), reason })?;
        Ok(Self::on(path, SqliteConnectOptions::new()))
    }

    /// Opens an existing file. If the program may not write to the file, it opens the file read-only, and SQLite
    /// creates no other files beside it.
    pub fn open_existing(path: PathBuf) -> Result<Self, DatabaseError> {
        let options = existing(&path)?;
        Ok(Self::on(path, options))
    }

    /// Opens an existing file like [`Self::open_existing`], and refuses every write.
    pub fn open_to_read(path: PathBuf) -> Result<Self, DatabaseError> {
        let options = options(existing(&path)?, &path).pragma("query_only", "ON");
        Ok(Self::with(path, options.clone(), options))
    }

    /// Checks that the file could be created, as far as this is possible without creating it: its folder must exist.
    pub fn check_missing(path: &Path) -> Result<(), DatabaseError> {
        let folder = path.parent().unwrap_or(path).join(".").metadata();
        let refused = |error| DatabaseError::File { path: path.to_owned(), reason: cannot_create(&error) };
        folder.map(drop).map_err(refused)
    }

    fn on(path: PathBuf, rights: SqliteConnectOptions) -> Self {
        let options = options(rights, &path);
        let (reading, writing) =
            (options.clone().pragma("query_only", "ON"), options.journal_mode(SqliteJournalMode::Wal));
        Self::with(path, reading, writing)
    }

    fn with(path: PathBuf, reading: SqliteConnectOptions, writing: SqliteConnectOptions) -> Self {
        // The other end of a connection is in this process, so a connection need not be tested before its use.
        let pool = SqlitePoolOptions::new().acquire_timeout(QUEUE_TIMEOUT).test_before_acquire(false).before_acquire(
            // After a full disk or an I/O error SQLite itself rolls back. The driver then regards the transaction as
            // open for ever and begins no other, so such a connection is closed. The driver's own rollback is over by
            // now, because the pool has waited for it when the connection was released.
            |connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }),
        );
        let writer = pool.clone().max_connections(1).max_lifetime(WRITER_LIFETIME).connect_lazy_with(writing);
        Self {
            data_version: DataVersion::new(path.clone(), reading.clone()),
            path,
            acceptances: Gathering::new(),
            readers: pool.max_connections(READERS).connect_lazy_with(reading),
            writer,
        }
    }
}

/// Begins a transaction that writes.
async fn begin(writer: &SqlitePool) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>, sqlx::Error> {
    let started = Instant::now();
    loop {
        // IMMEDIATE, because a transaction that begins with a read and then writes fails at once if another one wrote
        // in between.
        match writer.begin_with("BEGIN IMMEDIATE").await {
            // The first switch of a new file to the write-ahead log needs exclusive access, and SQLite does not wait
            // for that.
            Err(error) if is_busy(&error) && started.elapsed() < BUSY_TIMEOUT => sleep(BUSY_PAUSE).await,
            begun => return begun,
        }
    }
}

/// Returns the options to open an existing file. It is opened for writing where the program may write, even by a
/// reader, because the connection that closes the write-ahead log last removes the log.
fn existing(path: &Path) -> Result<SqliteConnectOptions, DatabaseError> {
    let refused = |reason: String| DatabaseError::File { path: path.to_owned(), reason };
    if path.is_dir() {
        return Err(refused("it is a folder".to_owned()));
    }
    let options = SqliteConnectOptions::new();
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Ok(options),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(refused(
            "there is no such file, and this command makes none; name the one that `opsadmin controller` or `opsadmin apply` works with"
                .to_owned(),
        )),
        Err(error) => match OpenOptions::new().read(true).open(path) {
            // Without a log no program has the database open. SQLite would have to create the log to read the file,
            // unless the file is declared immutable.
            Ok(_) => Ok(options.read_only(true).immutable(!log_of(path).exists())),
            Err(_) => Err(refused(format!("this program must be able to read it: {error}"))),
        },
    }
}

/// Returns the path of the write-ahead log.
fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

fn options(rights: SqliteConnectOptions, path: &Path) -> SqliteConnectOptions {
    let options =
        rights.filename(path).foreign_keys(true).busy_timeout(BUSY_TIMEOUT).synchronous(SqliteSynchronous::Full);
    // A savepoint needs a temporary file, and a container with a read-only root has no folder for one.
    options.pragma("temp_store", "MEMORY")
}

fn ensure_file(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        return Err("it is a folder".to_owned());
    }
    match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match OpenOptions::new().read(true).write(true).open(path) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("this program must be able to read and write it: {error}")),
            }
        }
        Err(error) => Err(cannot_create(&error)),
    }
}

/// Returns why a missing file cannot be created.
fn cannot_create(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return "there is no such folder to make the file in; make the folder first".to_owned();
    }
    format!("there is no such file, and it cannot be made: {error}")
}

/// Returns the primary result code, the low byte of the extended one: <https://www.sqlite.org/rescode.html>.
fn result_code(error: &dyn ServerError) -> Option<u32> {
    error.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff)
}

fn is_busy(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(result_code) == Some(BUSY)
}

#[async_trait]
impl Dialect for Sqlite {
    type Session = sqlx::Transaction<'static, sqlx::Sqlite>;

    const COUNTS_EACH_ROW: bool = true;

    const MISSING_PRIVILEGES: Option<&'static str> = None;

    const AUTH_SERVER_ROLE: Option<&'static str> = None;

    const LOCK_KEYS: Option<&'static str> = None;

    const HISTORY: Option<&'static str> = None;

    const CHANGES: Option<&'static str> = None;

    /// SQLite does not reorder a CROSS JOIN. So it finds each owner by the index; otherwise it would prefer a table
    /// scan.
    const BY_OWNERS: Which = which!(
        "id IN (SELECT owned.id FROM json_each($1) AS wanted CROSS JOIN accounts AS owned \
         WHERE owned.owner_cluster = wanted.value ->> 0 AND owned.owner_namespace = wanted.value ->> 1 \
         AND owned.owner_name = wanted.value ->> 2)"
    );

    const HOLDERS: Which = which!(
        "id IN (SELECT named.id FROM json_each($1) AS wanted CROSS JOIN accounts AS named \
         WHERE named.name_key = wanted.value AND named.deleted_at IS NULL UNION SELECT account_id FROM json_each($2) AS wanted \
         CROSS JOIN account_keys AS held WHERE held.api_key = wanted.value)"
    );

    const NAMES: &'static str = "SELECT named.name_key, named.id, named.version, named.owner_cluster, named.retained_at \
         FROM json_each($1) AS wanted CROSS JOIN accounts AS named \
         WHERE named.name_key = wanted.value AND named.deleted_at IS NULL";

    const AFFILIATES: &'static str = "SELECT name FROM affiliates WHERE name IN (SELECT value FROM json_each($1))";

    const REVOKED: &'static str =
        "SELECT api_key_sha256 FROM revoked_keys WHERE api_key_sha256 IN (SELECT value FROM json_each($1))";

    const RECORD_USES: &'static str = "INSERT INTO key_uses (key_id, first_used_at, last_used_at) \
         SELECT pair.id, min(used.value ->> 1), max(used.value ->> 2) \
         FROM json_each($1) AS used CROSS JOIN account_keys AS pair WHERE pair.id = used.value ->> 0 \
         GROUP BY pair.id ON CONFLICT (key_id) DO UPDATE SET \
         first_used_at = min(first_used_at, excluded.first_used_at), \
         last_used_at = max(last_used_at, excluded.last_used_at) RETURNING key_id";

    const PURGE_BY_TIME: [&'static str; 2] = [
        "DELETE FROM logins WHERE id IN (SELECT id FROM logins WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2) \
         RETURNING id",
        "DELETE FROM login_assertions WHERE (key_id, jti_hash) IN (SELECT key_id, jti_hash FROM login_assertions \
         WHERE keep_until < $1 ORDER BY keep_until LIMIT $2) RETURNING key_id",
    ];

    const PURGE_USES: &'static str = "DELETE FROM key_uses WHERE key_id IN (SELECT key_id FROM key_uses \
         WHERE NOT EXISTS (SELECT 1 FROM account_keys WHERE account_keys.id = key_uses.key_id) LIMIT $1) RETURNING key_id";

    fn at_a_time(&self) -> usize {
        READERS as usize + 1
    }

    async fn read(&self) -> Result<Self::Session, Fault> {
        Ok(self.readers.begin().await?)
    }

    async fn write(&self) -> Result<Self::Session, Fault> {
        Ok(begin(&self.writer).await?)
    }

    async fn commit_together(&self, changes: &ChangeGroup) {
        write_together(&self.writer, changes).await;
    }

    async fn commit_alone(&self, change: &Change) -> Result<Account, Fault> {
        let mut transaction = self.write().await?;
        let account = make_and_read_back::<Self>(&mut transaction, change).await?;
        transaction.finish().await?;
        Ok(account)
    }

    async fn accept(&self, acceptance: Acceptance) -> Result<Accepted, Fault> {
        let writer = self.writer.clone();
        let work = |group| async move { write_together(&writer, &group).await };
        self.acceptances.join(acceptance, work).await.ok_or(sqlx::Error::WorkerCrashed)?
    }

    async fn data_version(&self) -> Result<Option<i64>, Fault> {
        Ok(Some(self.data_version.current().await?))
    }

    fn data_version_at_once(&self) -> Option<i64> {
        self.data_version.unchanged()
    }

    fn migrations(&self) -> &'static Migrator {
        &MIGRATIONS
    }

    async fn migrate(&self) -> Result<(), Fault> {
        let mut transaction = self.write().await?;
        if apply_missing(&mut *transaction, &MIGRATIONS).await?.contains(&NAME_KEYS_MIGRATION) {
            renew_name_keys(&mut transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    fn error_kind(&self, error: &dyn ServerError) -> ErrorKind {
        match result_code(error) {
            // ERROR. Only the message tells these cases from others.
            Some(1)
                if error.message().starts_with("no such table") || error.message().starts_with("no such column") =>
            {
                ErrorKind::Schema
            }
            // BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL, CANTOPEN, PROTOCOL
            Some(BUSY | 6 | 7 | 8 | 10 | 13 | 14 | 15) => ErrorKind::Later,
            _ => ErrorKind::Refused,
        }
    }

    async fn close(&self) {
        self.data_version.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sqlite").field(&self.path).finish()
    }
}

impl fmt::Display for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

session!(Sqlite);

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 stands for memory: <https://www.sqlite.org/pragma.html#pragma_temp_store>. In a pod, a temporary file is a disk
    /// I/O error.
    #[tokio::test]
    async fn no_connection_needs_a_folder_for_temporary_files() {
        let folder = tempfile::tempdir().unwrap();
        let database = Sqlite::open(folder.path().join("a.db")).unwrap();
        for pool in [&database.writer, &database.readers] {
            let temp_store: i64 = sqlx::query_scalar("PRAGMA temp_store").fetch_one(pool).await.unwrap();
            assert_eq!(temp_store, 2);
        }
    }
}
