//! The accounts that there are already, in one read for many of them instead of one for each.

use crate::account::{Account, Life, Owner};
use crate::database::{AccountDatabase, DatabaseError};
use crate::manifests::Manifest;
use std::collections::HashMap;

/// How many manifests are dealt with at a time: enough to make few reads of many, and few enough to fit into memory.
pub(super) const BATCH: usize = 500;

/// The accounts of a batch of manifests, by their owners.
#[derive(Default)]
pub struct Known(HashMap<Owner, Account>);

impl Known {
    /// Reads them; if one of them cannot be read, none is known, and each is read by itself.
    ///
    /// # Errors
    /// As [`AccountDatabase::find_by_owners`], but for that.
    pub async fn read(database: &dyn AccountDatabase, batch: &[&Manifest]) -> Result<Self, DatabaseError> {
        let owners: Vec<Owner> = batch.iter().map(|manifest| manifest.desired.owner.clone()).collect();
        let accounts = match database.find_by_owners(&owners).await {
            Err(DatabaseError::Inconsistent { .. }) => Vec::new(),
            accounts => accounts?,
        };
        Ok(Self(accounts.into_iter().filter_map(|account| Some((account.owner.clone()?, account))).collect()))
    }

    /// The one of this owner that has its Secret, which goes when an account is deleted.
    pub fn with_secret(&self, owner: &Owner) -> Option<&Account> {
        self.0.get(owner).filter(|account| !matches!(account.life, Life::Deleted { .. }))
    }

    /// This owner's.
    pub fn take(&mut self, owner: &Owner) -> Option<Account> {
        self.0.remove(owner)
    }
}
