//! Waiting for the account database: until it answers, the controller runs and says so on each resource.

use super::error::ControllerError;
use crate::account::{Account, ClusterId, Owner, Version};
use crate::database::{AccountDatabase, DatabaseError, Keyring, UnknownAffiliate};
use crate::reconcile::{Reconciler, Surroundings};
use crate::secrets::SecretStore;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

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
    },
    /// It can.
    Ready(Arc<Ready>),
}

/// What works with a usable database.
pub struct Ready {
    /// Reconciles one resource at a time.
    pub reconciler: Reconciler,
    at_start: Mutex<HashMap<Owner, Account>>,
}

impl Ready {
    /// The account as the one bulk read at the start found it: for the first look at each, instead of a read each.
    pub fn known_at_start(&self, owner: &Owner) -> Option<Account> {
        self.at_start().remove(owner)
    }

    /// Takes in what became of an account since.
    pub fn hear(&self, owner: &Owner, version: Option<Version>) {
        let mut at_start = self.at_start();
        if at_start.get(owner).is_some_and(|account| Some(account.version) != version) {
            at_start.remove(owner);
        }
    }

    /// Drops what was found at the start and is no longer so.
    pub fn retain_from_start(&self, still_is: impl Fn(&Owner, Version) -> bool) {
        self.at_start().retain(|owner, account| still_is(owner, account.version));
    }

    /// A panic elsewhere cannot leave the map half changed.
    fn at_start(&self) -> MutexGuard<'_, HashMap<Owner, Account>> {
        self.at_start.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a [`Reconciler`] is made of, beside database and keyring.
pub struct Parts {
    /// Where Secrets are.
    pub secrets: Arc<dyn SecretStore>,
    /// What to do about unknown affiliates.
    pub unknown_affiliate: UnknownAffiliate,
    /// Time and randomness.
    pub surroundings: Arc<dyn Surroundings>,
}

/// Tries until the database is up, migrated and known to open with the keyring, and tells it through `connection`.
///
/// # Errors
/// [`ControllerError`] for whatever no waiting heals.
pub async fn connect(
    database: Arc<dyn AccountDatabase>,
    keyring: Keyring,
    cluster: ClusterId,
    parts: Parts,
    connection: watch::Sender<Connection>,
) -> Result<(), ControllerError> {
    let mut pause = FIRST_PAUSE;
    let accounts = loop {
        match prepare(database.as_ref(), &keyring, &cluster).await {
            Ok(accounts) => break accounts,
            Err(ControllerError::Database(error)) if error.is_retryable() => {
                let reason = match error {
                    DatabaseError::Unavailable { reason } => reason,
                    other => other.to_string(),
                };
                tracing::warn!(%reason, "waiting for the account database");
                connection.send_replace(Connection::Waiting { reason });
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    };
    tracing::info!(accounts = accounts.len(), %cluster, "the account database is ready");
    let at_start = accounts.into_iter().filter_map(|account| Some((account.owner.clone()?, account))).collect();
    let reconciler = Reconciler {
        database,
        secrets: parts.secrets,
        keyring,
        unknown_affiliate: parts.unknown_affiliate,
        actor: "controller".to_owned(),
        surroundings: parts.surroundings,
    };
    connection.send_replace(Connection::Ready(Arc::new(Ready { reconciler, at_start: Mutex::new(at_start) })));
    Ok(())
}

async fn prepare(
    database: &dyn AccountDatabase,
    keyring: &Keyring,
    cluster: &ClusterId,
) -> Result<Vec<Account>, ControllerError> {
    database.migrate().await?;
    keyring.check(&database.sealing_keys_in_use().await?)?;
    match database.list_by_cluster(cluster).await {
        Err(error @ DatabaseError::Inconsistent { .. }) => {
            // One account that cannot be read must not keep all the others waiting: each is read by itself then.
            tracing::warn!("{error}; reading each account by itself");
            Ok(Vec::new())
        }
        accounts => Ok(accounts?),
    }
}
