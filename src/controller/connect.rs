//! Connects to the account database. Until the database answers, the controller runs, and reports the reason on each
//! resource.

use super::context::Context;
use super::error::ControllerError;
use super::freeze::Freeze;
use crate::account::{Account, Owner, UnassignedPolicy, Version};
use crate::backoff::Backoff;
use crate::database::{AccountDatabase, CurrentKeyring, DatabaseError, Keyring, UnknownAffiliate};
use crate::reconcile::{CreationGuard, Declarations, Environment, Known, Reconciler};
use crate::secrets::SecretStore;
use futures::future::{Either, select};
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The pauses between two attempts to connect.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));

/// Whether the account database can be used.
#[derive(Clone, Default)]
pub enum Connection {
    /// The first attempt has not ended.
    #[default]
    Trying,
    /// The database cannot be used yet.
    Waiting {
        /// The reason, as text for people.
        reason: String,
        /// Whether the database server refuses the login. A user has to correct that.
        is_login: bool,
    },
    /// The database can be used.
    Ready(Arc<Ready>),
}

/// What is available once the database can be used.
pub struct Ready {
    /// The reconciler that uses this database.
    pub reconciler: Reconciler,
    /// What was read in bulk at the start and is not used yet.
    pub startup_accounts: StartupAccounts,
}

/// What bulk reads found: accounts, and owners that have none. The first reconcile of each resource uses what is found
/// here instead of reading its account.
#[derive(Default)]
pub struct StartupAccounts(Mutex<HashMap<Owner, Option<Account>>>);

impl StartupAccounts {
    /// Adds the account of this owner that was just read, or that it has none.
    pub fn add(&self, owner: Owner, account: Option<Account>) {
        self.accounts().insert(owner, account);
    }

    /// Removes what was found for this owner, and returns it.
    pub fn take(&self, owner: &Owner) -> Known {
        match self.accounts().remove(owner) {
            None => Known::Nothing,
            Some(None) => Known::NoAccount,
            Some(Some(account)) => Known::Account(Box::new(account)),
        }
    }

    /// Removes what was found for this owner if the database now has another version of its account. `None`: it has none.
    pub fn account_changed(&self, owner: &Owner, version: Option<Version>) {
        let mut accounts = self.accounts();
        let found = accounts.get(owner).map(|account| account.as_ref().map(|account| account.version));
        if found.is_some_and(|found| found != version) {
            accounts.remove(owner);
        }
    }

    /// Returns the owners.
    pub fn owners(&self) -> HashSet<Owner> {
        self.accounts().keys().cloned().collect()
    }

    /// Removes what no resource will use any more.
    pub fn retain(&self, is_awaited: impl Fn(&Owner) -> bool) {
        self.accounts().retain(|owner, _| is_awaited(owner));
    }

    /// A panic of another task cannot leave the map half changed, so a poisoned lock is still usable.
    fn accounts(&self) -> MutexGuard<'_, HashMap<Owner, Option<Account>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The parts of a [`Reconciler`], except the database and the keyring.
pub struct ReconcilerParts {
    /// The store of the Secrets.
    pub secrets: Arc<dyn SecretStore>,
    /// The policy for unknown affiliates.
    pub unknown_affiliate: UnknownAffiliate,
    /// Which resources may adopt an account that was imported without a namespace.
    pub unassigned: UnassignedPolicy,
    /// Time and randomness.
    pub environment: Arc<dyn Environment>,
    /// Confirms that a resource still declares what was read.
    pub declarations: Arc<dyn Declarations>,
    /// Decides whether a missing account may be created.
    pub creations: Arc<dyn CreationGuard>,
}

/// Stands by until this process leads, and then connects.
///
/// # Errors
/// [`ControllerError`] for an error that waiting does not solve.
pub(super) async fn once_leading(
    context: &Context,
    database: &Arc<dyn AccountDatabase>,
    keyring: CurrentKeyring,
    interval: Duration,
    parts: ReconcilerParts,
    connection: watch::Sender<Connection>,
) -> Result<(), ControllerError> {
    {
        let standing_by = stand_by(database.as_ref(), &keyring, interval, &context.reached);
        if let Either::Right((Err(error), _)) = select(pin!(context.leadership.acquired()), pin!(standing_by)).await {
            return Err(error);
        }
    }
    context.begin_leading();
    connect(Arc::clone(database), keyring, context, parts, connection).await
}

/// Checks, for as long as it is polled, that a follower could use the database: it answers, and the keyring opens its
/// secret keys. Writes nothing. Sets `reached` at the first success.
///
/// # Errors
/// [`ControllerError`] for an error that waiting does not solve.
async fn stand_by(
    database: &dyn AccountDatabase,
    keyring: &CurrentKeyring,
    interval: Duration,
    reached: &AtomicBool,
) -> Result<Infallible, ControllerError> {
    let mut failures = 0;
    loop {
        match check(database, &keyring.get()).await {
            Ok(()) => {
                failures = 0;
                reached.store(true, Ordering::Relaxed);
                tokio::time::sleep(interval).await;
                continue;
            }
            Err(ControllerError::Database(error)) if error.is_retryable() => {
                if failures == 0 {
                    tracing::warn!("this follower cannot use the account database: {error}; trying again");
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(BACKOFF.pause(failures)).await;
        failures += 1;
    }
}

/// Reads whether the database can be used. The tables may be missing or older: the leader migrates them.
async fn check(database: &dyn AccountDatabase, keyring: &Keyring) -> Result<(), ControllerError> {
    if database.pending_migrations().await?.is_empty() {
        keyring.check(&database.sealing_keys_in_use().await?)?;
    }
    Ok(())
}

/// Repeats until the database is reachable, migrated and verified against the keyring, and reports each state through
/// `connection`.
///
/// # Errors
/// [`ControllerError`] for an error that waiting does not solve.
async fn connect(
    database: Arc<dyn AccountDatabase>,
    keyring: CurrentKeyring,
    context: &Context,
    parts: ReconcilerParts,
    connection: watch::Sender<Connection>,
) -> Result<(), ControllerError> {
    let mut failures = 0;
    loop {
        match prepare(database.as_ref(), &keyring.get(), parts.creations.as_ref(), context.freeze).await {
            Ok(()) => break,
            Err(ControllerError::Database(error)) if error.is_retryable() => {
                let (reason, is_login) = match error {
                    DatabaseError::Unavailable { reason } => (reason, false),
                    DatabaseError::LoginRefused { reason } => (reason, true),
                    other => (other.to_string(), false),
                };
                tracing::warn!(%reason, "waiting for the account database");
                connection.send_replace(Connection::Waiting { reason, is_login });
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(BACKOFF.pause(failures)).await;
        failures += 1;
    }
    context.reached.store(true, Ordering::Relaxed);
    tracing::info!(cluster = %context.cluster, "the account database is ready");
    let reconciler = Reconciler {
        database,
        secrets: parts.secrets,
        keyring,
        unknown_affiliate: parts.unknown_affiliate,
        unassigned: parts.unassigned,
        actor: "controller".to_owned(),
        environment: parts.environment,
        declarations: parts.declarations,
        creations: parts.creations,
    };
    connection
        .send_replace(Connection::Ready(Arc::new(Ready { reconciler, startup_accounts: StartupAccounts::default() })));
    Ok(())
}

async fn prepare(
    database: &dyn AccountDatabase,
    keyring: &Keyring,
    creations: &dyn CreationGuard,
    freeze: Freeze,
) -> Result<(), ControllerError> {
    if freeze.is_on() {
        freeze.permits_schema(&database.pending_migrations().await?)?;
    } else {
        database.migrate().await?;
    }
    creations.begin().await?;
    keyring.check(&database.sealing_keys_in_use().await?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{
        AccountId, AccountName, AllowedIps, ClusterId, Description, Life, RotationRequests, Settings, StoredSettings,
    };

    const NAMES: [&str; 5] = ["same", "other", "gone", "new", "created"];

    fn owner(name: &str) -> Owner {
        Owner { cluster: ClusterId::parse("here").unwrap(), namespace: "ns".to_owned(), name: name.to_owned() }
    }

    fn startup_accounts() -> StartupAccounts {
        let settings = Settings {
            name: AccountName::parse("name").unwrap(),
            description: Description::default(),
            enabled: true,
            use_refresh_token: false,
            affiliate: None,
            roles: std::collections::BTreeSet::new(),
            allowed_ips: AllowedIps::any(),
        };
        let account = |name: &str| Account {
            id: AccountId::from_random([1; 16]),
            version: Version(3),
            owner: Some(owner(name)),
            adopter: None,
            life: Life::Live,
            settings: StoredSettings::from(&settings),
            keys: Vec::new(),
            answered_requests: RotationRequests::default(),
            suspension: None,
        };
        let read = StartupAccounts::default();
        for name in ["same", "other", "gone"] {
            read.add(owner(name), Some(account(name)));
        }
        for name in ["new", "created"] {
            read.add(owner(name), None);
        }
        read
    }

    fn left(startup_accounts: &StartupAccounts) -> Vec<&'static str> {
        let is_known = |name: &&str| match startup_accounts.take(&owner(name)) {
            Known::Nothing => false,
            Known::NoAccount => ["new", "created"].contains(name),
            Known::Account(account) => account.owner == Some(owner(name)),
        };
        NAMES.into_iter().filter(is_known).collect()
    }

    #[test]
    fn startup_accounts_are_used_once_and_not_after_a_change() {
        let notified = startup_accounts();
        notified.account_changed(&owner("same"), Some(Version(3)));
        notified.account_changed(&owner("other"), Some(Version(4)));
        notified.account_changed(&owner("gone"), None);
        notified.account_changed(&owner("new"), None);
        notified.account_changed(&owner("created"), Some(Version(1)));
        assert_eq!(left(&notified), ["same", "new"]);
        assert_eq!(left(&notified), [""; 0]);
        assert_eq!(startup_accounts().owners(), HashSet::from(NAMES.map(owner)));
        let cleaned_up = startup_accounts();
        cleaned_up.retain(|owner| owner.name == "other");
        assert_eq!(left(&cleaned_up), ["other"]);
    }
}
