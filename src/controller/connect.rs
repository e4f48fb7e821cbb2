//! Waiting for the account database: until it answers, the controller runs and says so on each resource.

use super::error::ControllerError;
use crate::account::{Account, ClusterId, Owner, UnassignedPolicy, Version};
use crate::backoff::Backoff;
use crate::database::{AccountDatabase, DatabaseError, Keyring, UnknownAffiliate};
use crate::reconcile::{CreationGuard, Declarations, Environment, Reconciler};
use crate::secrets::SecretStore;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The pauses between two attempts to use the database.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));

/// How many accounts that cannot be read are told of one by one.
const SHOWN: usize = 10;

/// Whether the account database can be used.
#[derive(Clone, Default)]
pub enum Connection {
    /// The first try is under way.
    #[default]
    Trying,
    /// Not yet, for this reason.
    Waiting {
        /// In words for a person.
        reason: String,
        /// Whether the server refuses the login, and a person has to act.
        is_login: bool,
    },
    /// It can.
    Ready(Arc<Ready>),
}

/// What works with a usable database.
pub struct Ready {
    /// Reconciles one resource at a time.
    pub reconciler: Reconciler,
    /// The accounts as the one bulk read at the start found them.
    pub startup_accounts: StartupAccounts,
}

/// Accounts that were read in bulk, each for the first look at it instead of a read of its own.
#[derive(Default)]
pub struct StartupAccounts(Mutex<HashMap<Owner, Account>>);

impl StartupAccounts {
    fn new(accounts: Vec<Account>) -> Self {
        let owned = accounts.into_iter().filter_map(|account| Some((account.owner.clone()?, account)));
        Self(Mutex::new(owned.collect()))
    }

    /// The account of this owner, once.
    pub fn take(&self, owner: &Owner) -> Option<Account> {
        self.accounts().remove(owner)
    }

    /// Takes in what became of an account since.
    pub fn account_changed(&self, owner: &Owner, version: Option<Version>) {
        let mut accounts = self.accounts();
        if accounts.get(owner).is_some_and(|account| Some(account.version) != version) {
            accounts.remove(owner);
        }
    }

    /// Takes in what became of all accounts since.
    pub fn retain_current(&self, listed: &HashMap<Owner, Version>) {
        self.accounts().retain(|owner, account| listed.get(owner) == Some(&account.version));
    }

    /// Lets go of those that nobody will take any more.
    pub fn retain(&self, is_awaited: impl Fn(&Owner) -> bool) {
        self.accounts().retain(|owner, _| is_awaited(owner));
    }

    /// A panic elsewhere cannot leave the map half changed.
    fn accounts(&self) -> MutexGuard<'_, HashMap<Owner, Account>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a [`Reconciler`] is made of, beside database and keyring.
pub struct ReconcilerParts {
    /// Where Secrets are.
    pub secrets: Arc<dyn SecretStore>,
    /// What to do about unknown affiliates.
    pub unknown_affiliate: UnknownAffiliate,
    /// Who may take over an account that was imported for no namespace.
    pub unassigned: UnassignedPolicy,
    /// Time and randomness.
    pub environment: Arc<dyn Environment>,
    /// Where to ask whether what was read is still declared.
    pub declarations: Arc<dyn Declarations>,
    /// Where to ask whether an account that is missing may be made.
    pub creations: Arc<dyn CreationGuard>,
}

/// Tries until the database is up, migrated and known to open with the keyring, and tells it through `connection`.
///
/// # Errors
/// [`ControllerError`] for whatever no waiting heals.
pub async fn connect(
    database: Arc<dyn AccountDatabase>,
    keyring: Keyring,
    cluster: ClusterId,
    parts: ReconcilerParts,
    connection: watch::Sender<Connection>,
) -> Result<(), ControllerError> {
    let mut failures = 0;
    let accounts = loop {
        match prepare(database.as_ref(), &keyring, &cluster, parts.creations.as_ref()).await {
            Ok(accounts) => break accounts,
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
    };
    tracing::info!(accounts = accounts.len(), %cluster, "the account database is ready");
    let startup_accounts = StartupAccounts::new(accounts);
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
    connection.send_replace(Connection::Ready(Arc::new(Ready { reconciler, startup_accounts })));
    Ok(())
}

async fn prepare(
    database: &dyn AccountDatabase,
    keyring: &Keyring,
    cluster: &ClusterId,
    creations: &dyn CreationGuard,
) -> Result<Vec<Account>, ControllerError> {
    database.migrate().await?;
    creations.begin().await?;
    keyring.check(&database.sealing_keys_in_use().await?)?;
    // One account that cannot be read keeps no other waiting: its resource says so, and is looked at by itself.
    let (accounts, unreadable): (Vec<_>, Vec<_>) =
        database.list_readable(cluster).await?.into_iter().partition(Result::is_ok);
    for error in unreadable.iter().filter_map(|account| account.as_ref().err()).take(SHOWN) {
        tracing::warn!("{error}; its resource says so, and the others are not concerned");
    }
    if unreadable.len() > SHOWN {
        tracing::warn!(accounts = unreadable.len(), "there are more accounts that cannot be read");
    }
    Ok(accounts.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{
        AccountId, AccountName, AllowedIps, Description, Life, RotationRequests, Settings, StoredSettings,
    };

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
        StartupAccounts::new(vec![account("same"), account("other"), account("gone")])
    }

    fn left(startup_accounts: &StartupAccounts) -> Vec<&'static str> {
        ["same", "other", "gone"].into_iter().filter(|name| startup_accounts.take(&owner(name)).is_some()).collect()
    }

    #[test]
    fn what_was_read_at_the_start_serves_once_and_not_after_it_changed() {
        let heard = startup_accounts();
        heard.account_changed(&owner("same"), Some(Version(3)));
        heard.account_changed(&owner("other"), Some(Version(4)));
        heard.account_changed(&owner("gone"), None);
        assert_eq!(left(&heard), ["same"]);
        assert_eq!(left(&heard), [""; 0]);
        let swept = startup_accounts();
        swept.retain_current(&HashMap::from([(owner("same"), Version(3)), (owner("other"), Version(2))]));
        assert_eq!(left(&swept), ["same"]);
        let tidied = startup_accounts();
        tidied.retain(|owner| owner.name == "other");
        assert_eq!(left(&tidied), ["other"]);
    }
}
