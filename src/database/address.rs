//! Opening the account database that somebody names, to work with it or to look at it.

use super::postgres::Postgres;
use super::server_url::{ServerUrls, Wanted};
use super::sql::{Dialect, SqlAccounts};
use super::sqlite::Sqlite;
use super::url::{Place, without_password};
use super::{AccountRegister, DatabaseError};
use std::path::Path;
use std::sync::Arc;

/// How many connections to a server there may be where nobody says.
const CONNECTIONS: u32 = 8;

/// Which database, and how to connect to it.
#[derive(Clone, Copy)]
pub struct Address<'a> {
    /// `sqlite://FILE` or `postgres://...`.
    pub url: &'a str,
    /// The file with the server's password, read anew for each connection.
    pub password_file: Option<&'a Path>,
    /// How many connections to a server there may be, beside the one that hears of changes.
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

/// The account database that is named: `sqlite://FILE`, where a missing file is made, or `postgres://...`.
///
/// The server need not be there yet: each call connects if need be, and [`DatabaseError::Unavailable`] says that it could
/// not. Of several servers, one that takes writes is used, unless the URL says otherwise. Must be called within a Tokio
/// runtime.
///
/// # Errors
/// [`DatabaseError::Url`] if the URL is no database URL, [`DatabaseError::File`] if the file cannot be used.
pub fn open<'a>(address: impl Into<Address<'a>>) -> Result<Arc<dyn AccountRegister>, DatabaseError> {
    let address = address.into();
    match address.place()? {
        Place::File(path) => Ok(shared(Sqlite::open(path)?)),
        Place::Server(urls) => Ok(shared(address.server(*urls, Wanted::ReadWrite)?)),
    }
}

/// The same for whoever works with a database that is there: a missing file is an error, and one that may only be read is
/// read.
///
/// # Errors
/// As [`open`]; [`DatabaseError::File`] if there is no such file, and [`DatabaseError::OlderSchema`] if it lacks migrations.
pub async fn open_existing<'a>(address: impl Into<Address<'a>>) -> Result<Arc<dyn AccountRegister>, DatabaseError> {
    let address = address.into();
    up_to_date(match address.place()? {
        Place::File(path) => shared(Sqlite::open_existing(path)?),
        Place::Server(urls) => shared(address.server(*urls, Wanted::ReadWrite)?),
    })
    .await
}

/// The same for whoever only looks: a standby will do.
///
/// # Errors
/// As [`open_existing`].
pub async fn open_to_look<'a>(address: impl Into<Address<'a>>) -> Result<Arc<dyn AccountRegister>, DatabaseError> {
    up_to_date(open_as_found(address)?).await
}

/// The same, whatever its schema: for whoever asks about that.
///
/// # Errors
/// As [`open`]; [`DatabaseError::File`] if there is no such file.
pub fn open_as_found<'a>(address: impl Into<Address<'a>>) -> Result<Arc<dyn AccountRegister>, DatabaseError> {
    let address = address.into();
    Ok(match address.place()? {
        Place::File(path) => shared(Sqlite::open_existing(path)?),
        Place::Server(urls) => shared(address.server(*urls, Wanted::Any)?),
    })
}

/// The same for whoever only looks, and takes a file that is missing, here `None`, for one that is yet to be made.
///
/// # Errors
/// As [`open`], also for a missing file without a folder to make it in; and [`DatabaseError::OlderSchema`] if it lacks
/// migrations, which a reader does not make.
pub async fn open_to_read<'a>(
    address: impl Into<Address<'a>>,
) -> Result<Option<Arc<dyn AccountRegister>>, DatabaseError> {
    let address = address.into();
    let database = match address.place()? {
        Place::File(path) if !path.exists() => return Sqlite::check_missing(&path).map(|()| None),
        Place::File(path) => shared(Sqlite::open_to_read(path)?),
        Place::Server(urls) => shared(address.server(*urls, Wanted::Any)?),
    };
    up_to_date(database).await.map(Some)
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

    /// The server for whoever wants this of it.
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

fn shared<D: Dialect>(dialect: D) -> Arc<dyn AccountRegister> {
    Arc::new(SqlAccounts::new(dialect))
}

async fn up_to_date(database: Arc<dyn AccountRegister>) -> Result<Arc<dyn AccountRegister>, DatabaseError> {
    match database.pending_migrations().await? {
        pending if pending.is_empty() => Ok(database),
        pending => Err(DatabaseError::OlderSchema { pending }),
    }
}
