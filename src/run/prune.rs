//! The accounts that no manifest declares any more: which accounts these are, and whether so many may be deleted in one
//! run.

use crate::account::{Account, ClusterId, Life, Owner};
use crate::database::{AccountDatabase, DatabaseError};
use crate::manifests::Manifest;
use crate::reconcile::{NotReady, Outcome, Reconciler, deletion_limit};
use crate::secrets::directory::Directory;
use std::collections::{BTreeSet, HashSet};

/// The accounts to delete.
#[derive(Debug, Default)]
pub struct PruneSet {
    /// Owners of live accounts, sorted.
    live: Vec<Owner>,
    /// Owners whose account is already deleted while their Secret is still in the folder, because an earlier run was
    /// interrupted.
    deleted: BTreeSet<Owner>,
    /// The number of accounts that may be deleted in one run; `None`: all of them.
    limit: Option<usize>,
}

impl PruneSet {
    /// Finds the accounts of this cluster that no manifest declares, and the owners of Secrets in the folder whose
    /// account is deleted. `percent` is the share of all accounts that may be deleted in one run.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn find(
        manifests: &[Manifest],
        database: &dyn AccountDatabase,
        cluster: &ClusterId,
        folder: Option<&Directory>,
        percent: u8,
    ) -> Result<Self, DatabaseError> {
        let declared: HashSet<&Owner> = manifests.iter().map(|manifest| &manifest.desired.owner).collect();
        let all = database.live(cluster).await?;
        let limit = deletion_limit(all.len(), percent);
        let mut live: Vec<Owner> = all.into_iter().filter(|owner| !declared.contains(owner)).collect();
        live.sort();
        let is_left = |owner: &Owner| {
            owner.cluster == *cluster && !declared.contains(owner) && live.binary_search(owner).is_err()
        };
        let mut deleted = BTreeSet::new();
        for owner in folder.map(|folder| folder.owners_of_secrets(is_left)).unwrap_or_default() {
            // The Secrets of retained accounts, and of accounts that this database never had, are kept.
            if is_deleted(database.find_by_owner(&owner).await)? {
                deleted.insert(owner);
            }
        }
        Ok(Self { live, deleted, limit })
    }

    /// Returns the number of owners.
    pub fn len(&self) -> usize {
        self.live.len() + self.deleted.len()
    }

    /// Returns all owners.
    pub fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.live.iter().chain(&self.deleted)
    }

    /// Returns the owners whose accounts still authenticate and would be deleted. Empty if the brake holds all
    /// deletions.
    pub fn to_confirm(&self) -> &[Owner] {
        if self.exceeded().is_some() { &[] } else { &self.live }
    }

    /// Returns the limit if more accounts than that would be deleted.
    fn exceeded(&self) -> Option<usize> {
        self.limit.filter(|limit| self.live.len() > *limit)
    }

    /// Deletes the account of one owner, or holds the deletion if there are too many. The rest of an interrupted
    /// deletion is never held, because its account has already lost its access.
    pub async fn delete(&self, owner: &Owner, reconciler: &Reconciler) -> Outcome {
        match self.exceeded() {
            Some(limit) if !self.deleted.contains(owner) => {
                Outcome::blocked(NotReady::PruningHeld { accounts: self.live.len(), limit })
            }
            _ => reconciler.delete_undeclared(owner).await,
        }
    }
}

/// An account that cannot be read counts as deleted: its deletion then fails with the reason.
fn is_deleted(found: Result<Option<Account>, DatabaseError>) -> Result<bool, DatabaseError> {
    match found {
        Err(DatabaseError::Inconsistent { .. }) => Ok(true),
        found => Ok(found?.is_some_and(|account| matches!(account.life, Life::Deleted { .. }))),
    }
}
