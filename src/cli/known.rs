//! The accounts that there are already, in one read instead of one for each.

use crate::account::{Account, ClusterId, Owner};
use crate::database::{AccountDatabase, DatabaseError};
use anyhow::Result;
use std::collections::HashMap;

/// A cluster's accounts, by their owners.
pub struct Known(HashMap<Owner, Account>);

impl Known {
    /// Reads them; if one of them cannot be read, none is known, and each is read by itself.
    pub async fn read(database: &dyn AccountDatabase, cluster: &ClusterId) -> Result<Self> {
        let accounts = match database.list_by_cluster(cluster).await {
            Err(DatabaseError::Inconsistent { .. }) => Vec::new(),
            accounts => accounts?,
        };
        Ok(Self(accounts.into_iter().filter_map(|account| Some((account.owner.clone()?, account))).collect()))
    }

    /// Whether this owner has one.
    pub fn has(&self, owner: &Owner) -> bool {
        self.0.contains_key(owner)
    }

    /// This owner's.
    pub fn take(&mut self, owner: &Owner) -> Option<Account> {
        self.0.remove(owner)
    }
}
