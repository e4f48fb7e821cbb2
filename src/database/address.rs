//! Opens the account database at a URL, for writing or only for reading.

use super::postgres::Postgres;
use super::server_url::{ServerUrls, Wanted};
use super::sql::{Dialect, SqlAccounts};
use super::sqlite::Sqlite;
use super::url::{Place, without_password};
use super::{AccountAdmin, DatabaseError};
use crate::login::LoginDatabase;
use std::path::Path;
use std::sync::Arc;

/// The default limit of connections to a server.
const CONNECTIONS: u32 = 8;

/// The URL of a database, and how to connect to it.
#[derive(Clone, Copy)]
pub struct Address<'a> {
    /// `sqlite://FILE` or `postgres://...`.
    pub url: &'a str,
    /// The file with the server's password. It is read again for each connection.
    pub password_file: Option<&'a Path>,
    /// The limit of connections to a server, beside the connection that receives notifications of changes.
    pub connections: u32,
}

impl<'a> From<&'a str> for Address<'a> {
    fn from(url: &'a str) -> Self {
        Self { url, password_file: None, connections: CONNECTIONS }
    }
}

impl<'a> From<&'a String> for Address<'a> {
    fn from(url: &'a String) -> Self {
        Self::from(url.as_str())
    }
}

/// Opens the account database at this address for reading and writing: `sqlite://FILE`, where a missing file is
/// created, or `postgres://...`.
///
/// The server need not be available yet: each call connects when necessary, and fails with
/// [`DatabaseError::Unavailable`] if it cannot. Of several servers, one that takes writes is used, unless the URL has
/// `target_session_attrs`. Must be called within a Tokio runtime.
///
/// # Errors
/// [`DatabaseError::Url`] if the URL is no database URL, [`DatabaseError::File`] if the file cannot be used.
pub fn open<'a>(address: impl Into<Address<'a>>) -> Result<Arc<dyn AccountAdmin>, DatabaseError> {
    let address = address.into();
    match address.place()? {
        Place::File(path) => Ok(shared(Sqlite::open(path)?)),
        Place::Server(urls) => Ok(shared(address.server(*urls, Wanted::ReadWrite)?)),
    }
}

/// Opens an existing account database for reading and writing. A missing file is an error. A file that the program may
/// not write to is opened read-only.
///
/// # Errors
/// As [`open`]; also [`DatabaseError::File`] if the file does not exist, and [`DatabaseError::OlderSchema`] if the
/// database lacks migrations.
pub async fn open_existing<'a>(address: impl Into<Address<'a>>) -> Result<Arc<dyn AccountAdmin>, DatabaseError> {
    let address = address.into();
    up_to_date(match address.place()? {
        Place::File(path) => shared(Sqlite::open_existing(path)?),
        Place::Server(urls) => shared(address.server(*urls, Wanted::ReadWrite)?),
    })
    .await
}

/// Opens an existing account database for a command that only reads. A standby is accepted.
///
/// # Errors
/// As [`open_existing`].
pub async fn open_to_query<'a>(address: impl Into<Address<'a>>) -> Result<Arc<dyn AccountAdmin>, DatabaseError> {
    up_to_date(open_unchecked(address)?).await
}

/// Opens an existing account database without checking its schema, for commands that inspect the schema. A standby is
/// accepted.
///
/// # Errors
/// As [`open`]; also [`DatabaseError::File`] if the file does not exist.
pub fn open_unchecked<'a>(address: impl Into<Address<'a>>) -> Result<Arc<dyn AccountAdmin>, DatabaseError> {
    let address = address.into();
    Ok(match address.place()? {
        Place::File(path) => shared(Sqlite::open_existing(path)?),
        Place::Server(urls) => shared(address.server(*urls, Wanted::Any)?),
    })
}

/// Opens an account database for a command that only reads, and refuses every write to an SQLite file. A standby is
/// accepted. Returns `None` if the file does not exist but could be created.
///
/// # Errors
/// As [`open`]; also [`DatabaseError::File`] if neither the file nor its folder exists, and
/// [`DatabaseError::OlderSchema`] if the database lacks migrations, because a reader does not apply them.
pub async fn open_to_read<'a>(address: impl Into<Address<'a>>) -> Result<Option<Arc<dyn AccountAdmin>>, DatabaseError> {
    let address = address.into();
    let database = match address.place()? {
        Place::File(path) if !path.exists() => return Sqlite::check_missing(&path).map(|()| None),
        Place::File(path) => shared(Sqlite::open_to_read(path)?),
        Place::Server(urls) => shared(address.server(*urls, Wanted::Any)?),
    };
    up_to_date(database).await.map(Some)
}

/// The accounts and the logins of one database, over the same connections.
#[derive(Debug, Clone)]
pub struct WithLogins {
    /// The accounts.
    pub accounts: Arc<dyn AccountAdmin>,
    /// The logins.
    pub logins: Arc<dyn LoginDatabase>,
}

/// Opens an existing account database with its logins, for reading and writing. Does not check its schema: see
/// [`AccountDatabase::pending_migrations`](super::AccountDatabase::pending_migrations). A missing file is an error; a
/// server need not be available yet.
///
/// # Errors
/// As [`open`]; also [`DatabaseError::File`] if the file does not exist.
pub fn open_with_logins<'a>(address: impl Into<Address<'a>>) -> Result<WithLogins, DatabaseError> {
    let address = address.into();
    Ok(match address.place()? {
        Place::File(path) => with_logins(Sqlite::open_existing(path)?),
        Place::Server(urls) => with_logins(address.server(*urls, Wanted::ReadWrite)?),
    })
}

impl Address<'_> {
    fn place(&self) -> Result<Place, DatabaseError> {
        match Place::parse(self.url)? {
            Place::File(_) if self.password_file.is_some() => {
                Err(self.refused("a password file is for PostgreSQL, and this is a file"))
            }
            place => Ok(place),
        }
    }

    /// Returns the server, which must be in the state `wanted` unless the URL has `target_session_attrs`.
    fn server(&self, urls: ServerUrls, wanted: Wanted) -> Result<Postgres, DatabaseError> {
        if urls.has_password && self.password_file.is_some() {
            return Err(self.refused("it has a password, and a password file is given too; take one of them away"));
        }
        if wanted == Wanted::ReadWrite && urls.wanted.is_some_and(|wanted| !wanted.allows_writes()) {
            return Err(self
                .refused("its target_session_attrs asks for a server that takes no writes, and this command writes"));
        }
        Ok(Postgres::open(urls, wanted, self.password_file.map(Path::to_owned), self.connections))
    }

    fn refused(&self, reason: &str) -> DatabaseError {
        DatabaseError::Url { url: without_password(self.url), reason: reason.to_owned() }
    }
}

fn shared<D: Dialect>(dialect: D) -> Arc<dyn AccountAdmin> {
    Arc::new(SqlAccounts::new(dialect))
}

fn with_logins<D: Dialect>(dialect: D) -> WithLogins {
    let database = Arc::new(SqlAccounts::new(dialect));
    WithLogins { accounts: Arc::clone(&database) as _, logins: database }
}

async fn up_to_date(database: Arc<dyn AccountAdmin>) -> Result<Arc<dyn AccountAdmin>, DatabaseError> {
    match database.pending_migrations().await? {
        pending if pending.is_empty() => Ok(database),
        pending => Err(DatabaseError::OlderSchema { pending }),
    }
}
