//! Reads the existing accounts of many manifests in one database read, instead of one read for each manifest.

use crate::account::{Account, Life, Owner};
use crate::database::{AccountDatabase, DatabaseError};
use crate::manifests::Manifest;
use std::collections::HashMap;

/// The number of manifests in a batch: large enough for few database reads, and small enough to fit into memory.
pub(super) const BATCH: usize = 500;

/// The accounts of a batch of manifests, by their owners.
#[derive(Default)]
pub struct ExistingAccounts(HashMap<Owner, Account>);

impl ExistingAccounts {
    /// Reads the accounts of the batch. If one account cannot be read, the result is empty, and the reconciler then
    /// reads each account by itself.
    ///
    /// # Errors
    /// As [`AccountDatabase::find_by_owners`], except [`DatabaseError::Inconsistent`].
    pub async fn read(database: &dyn AccountDatabase, batch: &[&Manifest]) -> Result<Self, DatabaseError> {
        let owners: Vec<Owner> = batch.iter().map(|manifest| manifest.desired.owner.clone()).collect();
        let accounts = match database.find_by_owners(&owners).await {
            Err(DatabaseError::Inconsistent { .. }) => Vec::new(),
            accounts => accounts?,
        };
        Ok(Self(accounts.into_iter().filter_map(|account| Some((account.owner.clone()?, account))).collect()))
    }

    /// Returns the account of this owner if it has a Secret. A deleted account has none: the Secret is deleted with the
    /// account.
    pub fn with_secret(&self, owner: &Owner) -> Option<&Account> {
        self.0.get(owner).filter(|account| !matches!(account.life, Life::Deleted { .. }))
    }

    /// Removes the account of this owner, and returns it.
    pub fn take(&mut self, owner: &Owner) -> Option<Account> {
        self.0.remove(owner)
    }
}
