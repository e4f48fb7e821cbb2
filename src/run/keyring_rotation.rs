//! The protocol of a keyring rotation: add a key, seal with it, seal again what older keys sealed, remove the older keys.
//!
//! Each step can be repeated, and a run that was interrupted goes on where it stopped: the file of the keyring and the database say how
//! far it came. The order matters to other programs that hold a copy of the keyring: a key opens before it seals, and it is
//! removed only after the database has retired it, so that no program seals with it any more.

use crate::database::{AccountAdmin, DatabaseError, Keyring, KeyringError, LockedKeyring, Resealed, SealedPair};
use crate::reconcile::{Environment, RandomnessError, random, random_secret};
use serde::Serialize;
use std::collections::BTreeSet;
use thiserror::Error;

/// How many key pairs are sealed again in one transaction, for which other writers wait.
const BATCH: u16 = 100;

/// A rotation of one keyring file, and what was done so far.
pub struct KeyringRotation<'a> {
    file: LockedKeyring,
    database: &'a dyn AccountAdmin,
    environment: &'a dyn Environment,
    /// What was done so far.
    pub done: RotationDone,
}

/// What a rotation has done.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationDone {
    /// The id of the key that was added.
    pub added: Option<String>,
    /// Whether this run changed which key seals.
    pub switched: bool,
    /// The number of secret keys that were sealed again.
    pub resealed: u64,
    /// The number of secret keys that cannot be opened and were not changed.
    pub unreadable: u64,
    /// The ids of the keys that were removed.
    pub removed: Vec<String>,
    /// The file that holds the removed keys.
    pub removed_to: Option<String>,
}

/// What happens while secret keys are sealed again.
#[derive(Debug)]
pub enum ResealProgress {
    /// A secret key cannot be opened. It is left as it is.
    Unreadable(KeyringError),
    /// A batch was sealed.
    Sealed {
        /// So many secret keys so far.
        done: u64,
        /// Of so many.
        all: u64,
    },
}

/// Why a rotation stopped.
#[derive(Debug, Error)]
pub enum RotationError {
    /// The account database did not do it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The keyring or its file cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The system has no randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// Some secret keys cannot be opened, and so cannot be sealed again.
    #[error("secret keys that cannot be opened: {0}; they and the key that they need were not changed")]
    Unreadable(u64),
}

impl<'a> KeyringRotation<'a> {
    /// A rotation that has done nothing yet.
    ///
    /// # Errors
    /// The keyring lacks a key that the database needs.
    pub async fn of(
        file: LockedKeyring,
        database: &'a dyn AccountAdmin,
        environment: &'a dyn Environment,
    ) -> Result<Self, RotationError> {
        file.keyring().check(&database.sealing_keys_in_use().await?)?;
        Ok(Self { file, database, environment, done: RotationDone::default() })
    }

    /// Whether an earlier run began a rotation and did not finish it.
    pub fn is_under_way(&self) -> bool {
        self.keyring().ids().count() > 1
    }

    /// Returns the id of the key that seals.
    pub fn sealing_key(&self) -> &str {
        self.keyring().ids().next().unwrap_or_default()
    }

    /// Returns the ids of the other keys in the keyring. While there are any, the rotation is not finished.
    pub fn other_keys(&self) -> impl Iterator<Item = &str> {
        self.keyring().ids().skip(1)
    }

    fn keyring(&self) -> &Keyring {
        self.file.keyring()
    }

    /// Adds a new key to the keyring. It opens, and does not seal yet.
    ///
    /// # Errors
    /// There is no randomness, or the file cannot be written.
    pub fn add(&mut self) -> Result<(), RotationError> {
        let key = random_secret(self.environment)?;
        self.file.replace(self.keyring().clone().with_another(key))?;
        self.done.added = self.keyring().ids().last().map(str::to_owned);
        Ok(())
    }

    /// Records in the database that another key will replace the key that seals now. As the first write to the database, it
    /// fails before the file changes if the right to write is missing.
    ///
    /// # Errors
    /// The database did not record it.
    pub async fn supersede(&self) -> Result<(), RotationError> {
        Ok(self.database.supersede(self.sealing_key(), self.environment.now()).await?)
    }

    /// Makes the key that was added last the sealing key. After that, the old key is the last one in the keyring. The database
    /// knows the old key, so that a repeated run does not switch back.
    ///
    /// # Errors
    /// The database did not answer, or the file cannot be written.
    pub async fn switch(&mut self) -> Result<(), RotationError> {
        let (in_use, outgoing) = (self.database.sealing_keys_in_use().await?, self.database.outgoing_keys().await?);
        let is_new = |key: &str| !in_use.contains(key) && !outgoing.contains(key);
        if self.is_under_way() && self.keyring().ids().last().is_some_and(is_new) {
            self.supersede().await?;
            self.file.replace(self.keyring().clone().sealing_with_last_key())?;
            self.done.switched = true;
        }
        Ok(())
    }

    /// Seals again every secret key that another key has sealed. Returns how many other programs have sealed with another key
    /// meanwhile.
    ///
    /// # Errors
    /// [`RotationError::Unreadable`] once all others are sealed; anything else at once.
    pub async fn reseal(&mut self, progress: &mut dyn FnMut(ResealProgress)) -> Result<u64, RotationError> {
        let sealing = self.sealing_key().to_owned();
        let all = self.sealed_with_others(&sealing).await?;
        let mut last: Option<SealedPair> = None;
        loop {
            let pairs = self.database.sealed_with_other_keys(&sealing, last.as_ref(), BATCH).await?;
            let Some(end) = pairs.last() else { break };
            let mut resealed = Vec::new();
            for pair in &pairs {
                match self.keyring().open(pair.account, pair.key.id, &pair.key.sealed) {
                    Ok(secret_key) => {
                        let nonce = random(self.environment)?;
                        let sealed = self.keyring().seal(pair.account, pair.key.id, &secret_key, nonce);
                        let before = pair.key.sealed.sealed_with.clone();
                        resealed.push(Resealed { account: pair.account, key: pair.key.id, before, sealed });
                    }
                    Err(error) => {
                        self.done.unreadable += 1;
                        progress(ResealProgress::Unreadable(error));
                    }
                }
            }
            self.done.resealed += self.database.reseal(&resealed, self.environment.now()).await?;
            progress(ResealProgress::Sealed { done: self.done.resealed, all });
            last = Some(end.clone());
        }
        if self.done.unreadable > 0 {
            return Err(RotationError::Unreadable(self.done.unreadable));
        }
        self.sealed_with_others(&sealing).await
    }

    async fn sealed_with_others(&self, sealing: &str) -> Result<u64, RotationError> {
        let pairs = self.database.sealed_pairs().await?;
        Ok(pairs.iter().filter(|(key, _)| *key != sealing).map(|(_, pairs)| pairs).sum())
    }

    /// Removes the keys with which no secret key is sealed. The database retires them first, so that no program seals with them
    /// any more. Returns whether there was any other key at all.
    ///
    /// # Errors
    /// The database did not answer, or the file cannot be written.
    pub async fn remove(&mut self) -> Result<bool, RotationError> {
        self.keyring().check(&self.database.sealing_keys_in_use().await?)?;
        let others: BTreeSet<String> = self.other_keys().map(str::to_owned).collect();
        let retired = self.database.retire(&others, self.environment.now()).await?;
        if !retired.is_empty() {
            self.file.remove(&retired)?;
            self.done.removed_to = Some(self.file.removed().display().to_string());
        }
        self.done.removed.extend(retired);
        Ok(!others.is_empty())
    }
}
