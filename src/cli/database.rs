//! The options that name the account database and its keyring, and the functions that open them.

use super::environment::SystemEnvironment;
use super::output::Output;
use crate::database::{
    self, AccountAdmin, AccountDatabase, Address, Keyring, KeyringError, UnknownAffiliate, WithLogins,
};
use crate::login::LoginDatabase;
use crate::reconcile::random_secret;
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The options for the account database.
#[derive(Debug, Args)]
pub struct DatabaseArgs {
    /// The URL of the database.
    #[arg(
        help = "The account database: sqlite://FILE or postgres://USER@HOST/DATABASE. Set a URL with a password in the variable, because every user of the machine can see arguments. `controller`, `apply`, `import` and `migrate` create a missing FILE; other commands do not",
        long,
        value_name = "URL",
        env = "OPSADMIN_DATABASE_URL",
        default_value = "sqlite://opsadmin.db",
        hide_env_values = true
    )]
    pub database: String,

    /// The file with the password of the PostgreSQL server, when the URL has none. It is read for each new connection,
    /// so a new password needs no restart.
    #[arg(long, value_name = "FILE", env = "OPSADMIN_DATABASE_PASSWORD_FILE")]
    pub database_password_file: Option<PathBuf>,
}

/// The options for the keyring.
#[derive(Debug, Args)]
pub struct KeyringArgs {
    /// The keyring that seals secret keys in this database, and in no other. Default: the file beside the SQLite file
    /// with the ending .keyring, which is created together with the SQLite file. For PostgreSQL there is no default.
    /// Back it up with the database: without it, no secret key can be read again.
    #[arg(long, value_name = "FILE", env = "OPSADMIN_KEYRING")]
    pub keyring: Option<PathBuf>,
}

/// The result of the search for a keyring.
enum KeyringSource {
    /// The keyring exists.
    Existing(Keyring),
    /// The default keyring beside an SQLite file does not exist. It is created if no secret key is sealed yet.
    ToCreate {
        /// The file to create.
        path: PathBuf,
        /// The error if a secret key is sealed already.
        missing: KeyringError,
    },
}

/// What to do when OpsAdmin does not know an affiliate. The command line's form of [`UnknownAffiliate`].
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum OnUnknownAffiliate {
    /// Refuse the account.
    #[default]
    Refuse,
    /// Register the affiliate in OpsAdmin, and continue.
    Register,
}

impl From<OnUnknownAffiliate> for UnknownAffiliate {
    fn from(on: OnUnknownAffiliate) -> Self {
        match on {
            OnUnknownAffiliate::Refuse => Self::Refuse,
            OnUnknownAffiliate::Register => Self::Register,
        }
    }
}

impl DatabaseArgs {
    /// Opens the database. A missing SQLite file is created. A connection to a server is made at the first use.
    pub fn open(&self) -> Result<Arc<dyn AccountAdmin>> {
        Ok(database::open(self.address())?)
    }

    /// As [`Self::open`], with this maximum number of connections to a server.
    pub fn open_with(&self, connections: u32) -> Result<Arc<dyn AccountAdmin>> {
        Ok(database::open(Address { connections, ..self.address() })?)
    }

    /// Opens an existing database with the tables of this program. It creates neither a file nor tables, so that a
    /// command that only reads leaves nothing behind.
    pub async fn open_existing(&self) -> Result<Arc<dyn AccountAdmin>> {
        Ok(database::open_existing(self.address()).await?)
    }

    /// As [`Self::open_existing`], for a command that changes nothing. A standby server is enough.
    pub async fn open_read_only(&self) -> Result<Arc<dyn AccountAdmin>> {
        Ok(database::open_to_query(self.address()).await?)
    }

    /// Opens an existing database with any schema.
    pub fn open_unchecked(&self) -> Result<Arc<dyn AccountAdmin>> {
        Ok(database::open_unchecked(self.address())?)
    }

    /// As [`Self::open_to_query`], for a command that shows what would be done. `None`: the database file does not exist
    /// yet.
    pub async fn open_read_only_if_exists(&self) -> Result<Option<Arc<dyn AccountAdmin>>> {
        Ok(database::open_to_read(self.address()).await?)
    }

    /// Opens an existing database with its logins. A connection to a server is made at the first use.
    pub fn open_with_logins(&self) -> Result<WithLogins> {
        Ok(database::open_with_logins(self.address())?)
    }

    /// Opens the logins of an existing database over one connection, beside the one for notifications, so that a feed of
    /// changes does not wait for other calls.
    pub fn open_feed(&self) -> Result<Arc<dyn LoginDatabase>> {
        Ok(database::open_with_logins(Address { connections: 1, ..self.address() })?.logins)
    }

    fn address(&self) -> Address<'_> {
        Address { password_file: self.database_password_file.as_deref(), ..Address::from(&self.database) }
    }

    /// Returns whether the database is an SQLite file that does not exist.
    pub fn is_missing_file(&self) -> bool {
        self.sqlite_file().is_some_and(|file| !file.exists())
    }

    /// Returns whether the database is an SQLite file.
    pub fn is_sqlite(&self) -> bool {
        self.sqlite_file().is_some()
    }

    fn sqlite_file(&self) -> Option<&Path> {
        let file = self.database.strip_prefix("sqlite:")?;
        let file = file.strip_prefix("//").unwrap_or(file);
        Some(Path::new(file.split('?').next().unwrap_or(file)))
    }
}

impl KeyringArgs {
    /// Loads the keyring of this database. Creates the default keyring beside an SQLite file if it is missing and no
    /// secret key is sealed yet.
    pub async fn load(&self, named: &DatabaseArgs, database: &dyn AccountDatabase) -> Result<Keyring> {
        let found = match self.find(named) {
            Err(missing) => return Err(lost_if_in_use(missing, Some(database)).await),
            found => found?,
        };
        match found {
            KeyringSource::Existing(keyring) => Ok(keyring),
            KeyringSource::ToCreate { path, .. } if nothing_is_sealed(database).await? => {
                let keyring = new_keyring()?;
                match keyring.create(&path) {
                    // Another program has created the file meanwhile.
                    Err(KeyringError::Exists { .. }) => Ok(Keyring::load(&path)?),
                    made => Ok(made.map(|()| keyring)?),
                }
            }
            KeyringSource::ToCreate { missing, .. } => Err(lost_if_in_use(missing.into(), Some(database)).await),
        }
    }

    /// Finds the keyring without reading the database.
    ///
    /// # Errors
    /// No keyring is named for PostgreSQL, the file cannot be read, or a file named by `--keyring` is missing.
    fn find(&self, named: &DatabaseArgs) -> Result<KeyringSource> {
        let (path, beside) = self.file(named)?;
        warn_if_others_have_access(&path);
        match Keyring::load(&path) {
            Err(missing @ KeyringError::Missing { .. }) if beside => Ok(KeyringSource::ToCreate { path, missing }),
            other => Ok(KeyringSource::Existing(other?)),
        }
    }

    /// Loads the existing keyring of this database, and checks that it has all keys that are in use. Never creates a
    /// keyring.
    pub async fn load_existing(&self, named: &DatabaseArgs, database: &dyn AccountDatabase) -> Result<Keyring> {
        let keyring = match Keyring::load(&self.path(named)?) {
            Err(missing) => return Err(lost_if_in_use(missing.into(), Some(database)).await),
            keyring => keyring?,
        };
        keyring.check(&database.sealing_keys_in_use().await?)?;
        Ok(keyring)
    }

    /// Loads the keyring of this database for a command that changes nothing. `None`: the keyring does not exist yet,
    /// and no secret key is sealed.
    pub async fn load_read_only(
        &self,
        named: &DatabaseArgs,
        database: Option<&dyn AccountDatabase>,
    ) -> Result<Option<Keyring>> {
        let found = match self.find(named) {
            Err(missing) => return Err(lost_if_in_use(missing, database).await),
            found => found?,
        };
        match (found, database) {
            (KeyringSource::Existing(keyring), _) => Ok(Some(keyring)),
            (KeyringSource::ToCreate { missing, .. }, Some(database))
                if !database.sealing_keys_in_use().await?.is_empty() =>
            {
                Err(lost_if_in_use(missing.into(), Some(database)).await)
            }
            (KeyringSource::ToCreate { .. }, _) => Ok(None),
        }
    }

    /// Returns the file of the keyring, and warns if other users may read or change it.
    pub fn path(&self, named: &DatabaseArgs) -> Result<PathBuf> {
        let (path, _) = self.file(named)?;
        warn_if_others_have_access(&path);
        Ok(path)
    }

    /// Returns the file of the keyring, and whether it is the default file beside an SQLite file.
    pub(super) fn file(&self, named: &DatabaseArgs) -> Result<(PathBuf, bool)> {
        match (&self.keyring, named.sqlite_file()) {
            (Some(path), _) => Ok((path.clone(), false)),
            (None, Some(file)) => Ok((file.with_extension("keyring"), true)),
            (None, None) => bail!(
                "a PostgreSQL database needs --keyring FILE; make one with `opsadmin keyring init --keyring FILE`, and keep it as safe as the database"
            ),
        }
    }
}

/// Warns of a keyring that every user of this machine may read, or that other users than its owner may change.
///
/// The keyring is still used: the files of a Secret volume have such a mode unless `defaultMode` says otherwise, and in
/// a container that is harmless. The group may read the file, because `fsGroup` needs that.
fn warn_if_others_have_access(path: &Path) {
    let Some(mode) = path.metadata().ok().map(|found| found.permissions().mode() & 0o777) else { return };
    let others = match mode {
        _ if mode & 0o004 != 0 => "every user of this machine may read",
        _ if mode & 0o022 != 0 => "others than its owner may change",
        _ => return,
    };
    let path = path.display();
    let said = format!(
        "the keyring {path} is one that {others} (mode {mode:04o}); run `chmod 600 {path}`, or give a Secret volume `defaultMode: 0440`"
    );
    // A controller writes logs; other commands write to standard error.
    if tracing::dispatcher::has_been_set() {
        tracing::warn!("{said}");
    } else {
        Output::default().note(format!("warning: {said}"));
    }
}

/// Creates a keyring with one random key, in memory.
pub fn new_keyring() -> Result<Keyring> {
    Ok(Keyring::from_random(random_secret(&SystemEnvironment)?))
}

/// Returns [`KeyringError::Lost`] for a missing keyring if the database has sealed secret keys, because a new keyring
/// cannot open them. Returns any other error unchanged.
async fn lost_if_in_use(error: anyhow::Error, database: Option<&dyn AccountDatabase>) -> anyhow::Error {
    let Some(KeyringError::Missing { path }) = error.downcast_ref() else { return error };
    let Some(database) = database else { return error };
    // If the database does not answer, it is unknown whether it has sealed secret keys.
    match database.sealing_keys_in_use().await {
        Ok(in_use) if !in_use.is_empty() => KeyringError::Lost { path: path.clone() }.into(),
        _ => error,
    }
}

async fn nothing_is_sealed(database: &dyn AccountDatabase) -> Result<bool> {
    database.migrate().await?;
    Ok(database.sealing_keys_in_use().await?.is_empty())
}

/// Creates a new keyring file.
pub fn create(path: &Path) -> Result<Keyring> {
    let keyring = new_keyring()?;
    keyring.create(path)?;
    Ok(keyring)
}
