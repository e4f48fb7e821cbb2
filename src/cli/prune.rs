//! `--prune`: finds the accounts that no manifest declares, and deletes them unless the brake holds the deletions.

use super::confirm::ConfirmArgs;
use super::manifests::count;
use super::output::Output;
use crate::account::{Account, ClusterId, Life, Owner};
use crate::database::{AccountDatabase, DatabaseError};
use crate::manifests::Manifest;
use crate::reconcile::{Deletion, DeletionPolicy, Outcome, Reconciler, Refusal, deletion_limit};
use crate::secrets::{ResourceIdentity, directory::Directory};
use anyhow::Result;
use clap::Args;
use std::collections::{BTreeSet, HashSet};

/// The options for the deletion of accounts that no manifest declares.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Also delete the accounts of this --cluster-id that no manifest declares, and their Secrets, whatever
    /// deletionPolicy their manifests had. Name all manifests: every account that none of them declares is deleted.
    #[arg(long)]
    pub prune: bool,

    /// The percentage of all accounts that one run may delete; 5 accounts are always allowed. If more are to be
    /// deleted, all of them are held. 100: no limit.
    #[arg(long, value_name = "PERCENT", default_value = "20", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub deletion_brake: u8,
}

/// The accounts to prune.
pub struct PruneSet {
    owners: Vec<Owner>,
    /// The owners whose accounts are deleted and whose Secrets are not: an earlier run stopped in between.
    secrets_left: BTreeSet<Owner>,
    /// The number of accounts that one run may delete. `None`: no limit.
    limit: Option<usize>,
}

impl PruneArgs {
    /// Returns the accounts that no manifest declares, and the deleted accounts whose Secrets are still in the folder.
    /// Returns an empty set without `--prune`.
    pub async fn prune_set(
        &self,
        manifests: &[Manifest],
        database: &dyn AccountDatabase,
        cluster: &ClusterId,
        folder: Option<&Directory>,
    ) -> Result<PruneSet> {
        if !self.prune {
            return Ok(PruneSet { owners: Vec::new(), secrets_left: BTreeSet::new(), limit: None });
        }
        let declared: HashSet<&Owner> = manifests.iter().map(|manifest| &manifest.desired.owner).collect();
        let live = database.live(cluster).await?;
        let limit = deletion_limit(live.len(), self.deletion_brake);
        let mut owners: Vec<Owner> = live.into_iter().filter(|owner| !declared.contains(owner)).collect();
        owners.sort();
        let is_candidate = |owner: &Owner| {
            owner.cluster == *cluster && !declared.contains(owner) && owners.binary_search(owner).is_err()
        };
        let mut secrets_left = BTreeSet::new();
        for owner in folder.map(|folder| folder.owners_of_secrets(is_candidate)).unwrap_or_default() {
            // The Secret of a retained account stays, and so does the Secret of an account that this database does not
            // have.
            if is_deleted(database.find_by_owner(&owner).await)? {
                secrets_left.insert(owner);
            }
        }
        Ok(PruneSet { owners, secrets_left, limit })
    }
}

/// Returns whether the account is deleted. An account that cannot be read counts as deleted: its deletion then fails
/// and reports the error.
fn is_deleted(found: Result<Option<Account>, DatabaseError>) -> Result<bool, DatabaseError> {
    match found {
        Err(DatabaseError::Inconsistent { .. }) => Ok(true),
        found => Ok(found?.is_some_and(|account| matches!(account.life, Life::Deleted { .. }))),
    }
}

impl PruneSet {
    /// Returns the number of accounts to prune.
    pub fn len(&self) -> usize {
        self.owners.len() + self.secrets_left.len()
    }

    /// Returns the owners of the accounts.
    pub fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.owners.iter().chain(&self.secrets_left)
    }

    /// Returns the limit if this number of accounts exceeds it.
    pub fn exceeded_by(&self, accounts: usize) -> Option<usize> {
        self.limit.filter(|limit| accounts > *limit)
    }

    /// Deletes the account of this owner, or holds the deletion if the accounts are too many. An account that is
    /// deleted already is never held: it has no access to lose, and only its Secrets are removed.
    pub async fn prune(&self, owner: &Owner, reconciler: &Reconciler) -> Outcome {
        let accounts = self.owners.len();
        match self.exceeded_by(accounts) {
            Some(limit) if !self.secrets_left.contains(owner) => {
                Outcome::refused(Refusal::PruningHeld { accounts, limit })
            }
            _ => {
                let identity = ResourceIdentity { owner: owner.clone(), uid: None };
                reconciler.release(Deletion::of(&identity), DeletionPolicy::Delete).await
            }
        }
    }

    /// Lists the accounts that still authenticate, and asks the user whether to delete them.
    ///
    /// # Errors
    /// The user did not answer yes, or there is no terminal to ask on.
    pub fn confirm(&self, confirm: &ConfirmArgs, output: &Output) -> Result<()> {
        let accounts = self.owners.len();
        if accounts == 0 || self.exceeded_by(accounts).is_some() {
            return Ok(());
        }
        output.complain(format!("{} declared by no manifest, to be deleted:", count(accounts)));
        for owner in &self.owners {
            output.complain(format!("  {}/{}", owner.namespace, owner.name));
        }
        confirm.ask(&format!("deleting {}, which stop authenticating at once", count(accounts)))
    }
}
