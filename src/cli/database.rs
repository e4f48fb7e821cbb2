//! The account database and its keyring, as the command line names them.

use super::environment::SystemEnvironment;
use super::output::Output;
use crate::database::{self, AccountDatabase, AccountRegister, Address, Keyring, KeyringError, UnknownAffiliate};
use crate::reconcile::Environment;
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Which database.
#[derive(Debug, Args)]
pub struct DatabaseArgs {
    /// Its URL.
    #[arg(
        help = "The account database: sqlite://FILE or postgres://USER@HOST/DATABASE. Give one with a password by the variable: arguments are seen by every user of a machine. `controller`, `apply`, `import` and `migrate` make a missing FILE, and no other command does",
        long,
        value_name = "URL",
        env = "OPSADMIN_DATABASE_URL",
        default_value = "sqlite://opsadmin.db",
        hide_env_values = true
    )]
    pub database: String,

    /// The file that holds the password of a PostgreSQL server, when the URL has none. It is read anew for each connection, so
    /// that a new password needs no restart.
    #[arg(long, value_name = "FILE", env = "OPSADMIN_DATABASE_PASSWORD_FILE")]
    pub database_password_file: Option<PathBuf>,
}

/// Which keyring.
#[derive(Debug, Args)]
pub struct KeyringArgs {
    /// The keyring that seals secret keys in the database, and in no other. Default: beside an SQLite file, with the ending
    /// .keyring, and made by whoever makes that; for PostgreSQL there is none. Back it up with the database: without it, no
    /// secret key can be read again.
    #[arg(long, value_name = "FILE", env = "OPSADMIN_KEYRING")]
    pub keyring: Option<PathBuf>,
}

/// A keyring that was looked for.
enum Found {
    /// It is there.
    There(Keyring),
    /// The one beside an SQLite file is not, and is made if nothing is sealed yet.
    NotYet {
        /// Its file.
        path: PathBuf,
        /// What to say if something is.
        missing: KeyringError,
    },
}

/// What to do about unknown affiliates, as the command line says it.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum OnUnknownAffiliate {
    /// Refuse the account.
    #[default]
    Refuse,
    /// Register the affiliate in OpsAdmin, and go on.
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
    /// The database, not yet asked anything.
    pub fn open(&self) -> Result<Arc<dyn AccountRegister>> {
        Ok(database::open(self.address())?)
    }

    /// The same, with this many connections to a server.
    pub fn open_with(&self, connections: u32) -> Result<Arc<dyn AccountRegister>> {
        Ok(database::open(Address { connections, ..self.address() })?)
    }

    /// The database that is there, with this program's tables. Makes neither: to look must not leave anything behind.
    pub async fn open_existing(&self) -> Result<Arc<dyn AccountRegister>> {
        Ok(database::open_existing(self.address()).await?)
    }

    /// The same for a command that changes nothing.
    pub async fn open_to_look(&self) -> Result<Arc<dyn AccountRegister>> {
        Ok(database::open_to_look(self.address()).await?)
    }

    /// The database that is there, whatever its schema.
    pub fn open_as_found(&self) -> Result<Arc<dyn AccountRegister>> {
        Ok(database::open_as_found(self.address())?)
    }

    /// The same for a command that says what would be made; `None`: the database is yet to be.
    pub async fn open_to_read(&self) -> Result<Option<Arc<dyn AccountRegister>>> {
        Ok(database::open_to_read(self.address()).await?)
    }

    fn address(&self) -> Address<'_> {
        Address { password_file: self.database_password_file.as_deref(), ..Address::from(&self.database) }
    }

    /// Whether it is a file that is not there yet.
    pub fn is_missing_file(&self) -> bool {
        self.sqlite_file().is_some_and(|file| !file.exists())
    }

    fn sqlite_file(&self) -> Option<&Path> {
        let file = self.database.strip_prefix("sqlite:")?;
        let file = file.strip_prefix("//").unwrap_or(file);
        Some(Path::new(file.split('?').next().unwrap_or(file)))
    }
}

impl KeyringArgs {
    /// The keyring for this database; the one beside an SQLite file is made if there is none and nothing is sealed yet.
    pub async fn load(&self, named: &DatabaseArgs, database: &dyn AccountDatabase) -> Result<Keyring> {
        let found = match self.find(named) {
            Err(missing) => return Err(lost(missing, Some(database)).await),
            found => found?,
        };
        match found {
            Found::There(keyring) => Ok(keyring),
            Found::NotYet { path, .. } if nothing_is_sealed(database).await? => {
                let keyring = new_keyring()?;
                match keyring.create(&path) {
                    // Somebody else came first.
                    Err(KeyringError::Exists { .. }) => Ok(Keyring::load(&path)?),
                    made => Ok(made.map(|()| keyring)?),
                }
            }
            Found::NotYet { missing, .. } => Err(lost(missing.into(), Some(database)).await),
        }
    }

    /// The keyring as it is before anybody asks the database.
    ///
    /// # Errors
    /// None is named, or it cannot be read; one that is missing is an error only if it was named.
    fn find(&self, named: &DatabaseArgs) -> Result<Found> {
        let (path, beside) = self.file(named)?;
        tell_who_else_reads(&path);
        match Keyring::load(&path) {
            Err(missing @ KeyringError::Missing { .. }) if beside => Ok(Found::NotYet { path, missing }),
            other => Ok(Found::There(other?)),
        }
    }

    /// The keyring that this database is sealed with. It is never made here.
    pub async fn load_existing(&self, named: &DatabaseArgs, database: &dyn AccountDatabase) -> Result<Keyring> {
        let keyring = match Keyring::load(&self.path(named)?) {
            Err(missing) => return Err(lost(missing.into(), Some(database)).await),
            keyring => keyring?,
        };
        keyring.check(&database.sealing_keys_in_use().await?)?;
        Ok(keyring)
    }

    /// The keyring for this database, for a command that changes nothing; `None`: it is yet to be made, and so is
    /// whatever would be sealed with it.
    pub async fn load_to_read(
        &self,
        named: &DatabaseArgs,
        database: Option<&dyn AccountDatabase>,
    ) -> Result<Option<Keyring>> {
        let found = match self.find(named) {
            Err(missing) => return Err(lost(missing, database).await),
            found => found?,
        };
        match (found, database) {
            (Found::There(keyring), _) => Ok(Some(keyring)),
            (Found::NotYet { missing, .. }, Some(database)) if !database.sealing_keys_in_use().await?.is_empty() => {
                Err(lost(missing.into(), Some(database)).await)
            }
            (Found::NotYet { .. }, _) => Ok(None),
        }
    }

    /// The file that holds it.
    pub fn path(&self, named: &DatabaseArgs) -> Result<PathBuf> {
        let (path, _) = self.file(named)?;
        tell_who_else_reads(&path);
        Ok(path)
    }

    /// The file, and whether it is the one beside an SQLite file because none was named.
    fn file(&self, named: &DatabaseArgs) -> Result<(PathBuf, bool)> {
        match (&self.keyring, named.sqlite_file()) {
            (Some(path), _) => Ok((path.clone(), false)),
            (None, Some(file)) => Ok((file.with_extension("keyring"), true)),
            (None, None) => bail!(
                "a PostgreSQL database needs --keyring FILE; make one with `opsadmin keyring init --keyring FILE`, and keep it as safe as the database"
            ),
        }
    }
}

/// Warns of a keyring that every user of this machine may read, or more than its owner change.
///
/// It is used all the same: a Secret volume has such a mode unless its `defaultMode` says otherwise, and there it harms nobody.
/// A group may read it, as `fsGroup` has it.
fn tell_who_else_reads(path: &Path) {
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
    // A controller logs; whoever called a command reads its standard error.
    if tracing::dispatcher::has_been_set() {
        tracing::warn!("{said}");
    } else {
        Output::default().complain(format!("warning: {said}"));
    }
}

/// A keyring that nothing is sealed with yet.
pub fn new_keyring() -> Result<Keyring> {
    Ok(Keyring::from_random(new_key()?))
}

/// A new key for a keyring.
pub fn new_key() -> Result<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    SystemEnvironment.fill(key.as_mut_slice())?;
    Ok(key)
}

/// The error of a keyring that is not there, if the database needs it: a new one would be no help. Any other as it is.
async fn lost(error: anyhow::Error, database: Option<&dyn AccountDatabase>) -> anyhow::Error {
    let Some(KeyringError::Missing { path }) = error.downcast_ref() else { return error };
    let Some(database) = database else { return error };
    // A database that does not answer may be one without any account yet.
    match database.sealing_keys_in_use().await {
        Ok(in_use) if !in_use.is_empty() => KeyringError::Lost { path: path.clone() }.into(),
        _ => error,
    }
}

async fn nothing_is_sealed(database: &dyn AccountDatabase) -> Result<bool> {
    database.migrate().await?;
    Ok(database.sealing_keys_in_use().await?.is_empty())
}

/// Makes a new keyring file.
pub fn create(path: &Path) -> Result<Keyring> {
    let keyring = new_keyring()?;
    keyring.create(path)?;
    Ok(keyring)
}
