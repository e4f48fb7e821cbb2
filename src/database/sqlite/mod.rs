//! SQLite: one file, one writer at a time, readers beside it. The embedded default.

use super::DatabaseError;
use super::sql::{
    Dialect, ErrorKind, Fault, NAME_KEYS_MIGRATION, Which, apply_missing, renew_name_keys, session, which,
};
use async_trait::async_trait;
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
use tokio::time::sleep;

static MIGRATIONS: Migrator = sqlx::migrate!("src/database/sqlite/migrations");

/// How long to wait for another program's write to end.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait before the next try where SQLite itself does not wait.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// The result code of a file that another connection holds.
const BUSY: u32 = 5;

/// How long a call may queue for a connection, behind this program's own calls.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the connection for writing is used before the file is opened anew. That a file may only be read, a connection
/// finds out when it opens it, and never looks at again.
const WRITER_LIFETIME: Duration = Duration::from_secs(15);

const READERS: u32 = 4;

/// The database in one file.
pub(super) struct Sqlite {
    path: PathBuf,
    readers: SqlitePool,
    /// A single connection: writes queue here in order, where SQLite's own waiting is first come, last served.
    writer: SqlitePool,
}

impl Sqlite {
    /// Takes the file, or makes an empty one that only its owner may read. SQLite gives the files it makes beside it the
    /// same mode.
    pub fn open(path: PathBuf) -> Result<Self, DatabaseError> {
        ensure_file(&path).map_err(|reason| DatabaseError::File { path: path.clone(), reason })?;
        Ok(Self::on(path, SqliteConnectOptions::new()))
    }

    /// Takes a file that is there. One that may only be read is read, and nothing is made beside it.
    pub fn open_existing(path: PathBuf) -> Result<Self, DatabaseError> {
        let options = found(&path)?;
        Ok(Self::on(path, options))
    }

    /// The same; every write is refused.
    pub fn open_to_read(path: PathBuf) -> Result<Self, DatabaseError> {
        let options = options(found(&path)?, &path).pragma("query_only", "ON");
        Ok(Self::with(path, options.clone(), options))
    }

    /// Whether the file could be made, as far as can be told without making it.
    pub fn check_missing(path: &Path) -> Result<(), DatabaseError> {
        let folder = path.parent().unwrap_or(path).join(".").metadata();
        let refused = |error| DatabaseError::File { path: path.to_owned(), reason: unmakeable(&error) };
        folder.map(drop).map_err(refused)
    }

    fn on(path: PathBuf, rights: SqliteConnectOptions) -> Self {
        let options = options(rights, &path);
        let (reading, writing) =
            (options.clone().pragma("query_only", "ON"), options.journal_mode(SqliteJournalMode::Wal));
        Self::with(path, reading, writing)
    }

    fn with(path: PathBuf, reading: SqliteConnectOptions, writing: SqliteConnectOptions) -> Self {
        let pool = SqlitePoolOptions::new().acquire_timeout(QUEUE_TIMEOUT).after_release(|connection, _| {
            Box::pin(async {
                // SQLite itself rolls back after a full disk or an I/O error. The driver then believes for ever that the
                // transaction is open and begins no other, so such a connection is closed. The ping waits in line behind
                // the driver's own rolling back.
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        });
        Self {
            path,
            readers: pool.clone().max_connections(READERS).connect_lazy_with(reading),
            writer: pool.max_connections(1).max_lifetime(WRITER_LIFETIME).connect_lazy_with(writing),
        }
    }
}

/// How to open a file that is there: for writing where that is allowed, since whoever closes the log last then clears it
/// away, reader or not.
fn found(path: &Path) -> Result<SqliteConnectOptions, DatabaseError> {
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
            // Without its log nobody has the database open, and SQLite would make the log to read it.
            Ok(_) => Ok(options.read_only(true).immutable(!log_of(path).exists())),
            Err(_) => Err(refused(format!("this program must be able to read it: {error}"))),
        },
    }
}

/// The file of the write-ahead log.
fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

fn options(rights: SqliteConnectOptions, path: &Path) -> SqliteConnectOptions {
    rights.filename(path).foreign_keys(true).busy_timeout(BUSY_TIMEOUT).synchronous(SqliteSynchronous::Full)
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
        Err(error) => Err(unmakeable(&error)),
    }
}

/// Why a file that is missing cannot be made.
fn unmakeable(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return "there is no such folder to make the file in; make the folder first".to_owned();
    }
    format!("there is no such file, and it cannot be made: {error}")
}

/// The low byte of the extended result code: <https://www.sqlite.org/rescode.html>.
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

    const LOCK_KEYS: Option<&'static str> = None;

    /// The order of a CROSS JOIN is kept: each owner is looked up by the index, which a scan would otherwise be preferred to.
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

    fn at_a_time(&self) -> usize {
        READERS as usize + 1
    }

    async fn read(&self) -> Result<Self::Session, Fault> {
        Ok(self.readers.begin().await?)
    }

    async fn write(&self) -> Result<Self::Session, Fault> {
        let started = Instant::now();
        loop {
            // A transaction that begins to read and then writes fails at once if another wrote in between.
            match self.writer.begin_with("BEGIN IMMEDIATE").await {
                // A new file's first switch to the log needs the file for itself, and SQLite does not wait for that.
                Err(error) if is_busy(&error) && started.elapsed() < BUSY_TIMEOUT => sleep(BUSY_PAUSE).await,
                begun => return Ok(begun?),
            }
        }
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
            // ERROR, which only its message tells apart.
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
