//! Accounts that no manifest declares any more: which they are, and whether so many may go.

use super::confirm::ConfirmArgs;
use super::manifests::count;
use super::output::Output;
use crate::account::{Account, ClusterId, Life, Owner};
use crate::database::{AccountDatabase, DatabaseError};
use crate::manifests::Manifest;
use crate::reconcile::{Deletion, DeletionPolicy, NotReady, Outcome, Reconciler, deletion_limit};
use crate::secrets::{ResourceIdentity, directory::Directory};
use anyhow::Result;
use clap::Args;
use std::collections::{BTreeSet, HashSet};

/// Whether accounts are deleted that no manifest declares, and how many.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Also delete the accounts of this --cluster-id that no manifest declares, and their Secrets, whatever deletionPolicy
    /// their manifests had. Name all the manifests then: what is not among them goes.
    #[arg(long)]
    pub prune: bool,

    /// The share of all accounts that may be deleted in one run, and at least 5; more are held. 100: no limit.
    #[arg(long, value_name = "PERCENT", default_value = "20", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub deletion_brake: u8,
}

/// What is to be pruned.
pub struct PruneSet {
    owners: Vec<Owner>,
    /// Those whose accounts are deleted already, but not their Secrets: an earlier run came only so far.
    half_gone: BTreeSet<Owner>,
    /// How many accounts may go at once; `None`: all of them.
    limit: Option<usize>,
}

impl PruneArgs {
    /// The accounts that no manifest declares, also those of which only Secrets are left in the folder; none without
    /// `--prune`.
    pub async fn prune_set(
        &self,
        manifests: &[Manifest],
        database: &dyn AccountDatabase,
        cluster: &ClusterId,
        folder: Option<&Directory>,
    ) -> Result<PruneSet> {
        if !self.prune {
            return Ok(PruneSet { owners: Vec::new(), half_gone: BTreeSet::new(), limit: None });
        }
        let declared: HashSet<&Owner> = manifests.iter().map(|manifest| &manifest.desired.owner).collect();
        let live = database.live(cluster).await?;
        let limit = deletion_limit(live.len(), self.deletion_brake);
        let mut owners: Vec<Owner> = live.into_iter().filter(|owner| !declared.contains(owner)).collect();
        owners.sort();
        let is_left = |owner: &Owner| {
            owner.cluster == *cluster && !declared.contains(owner) && owners.binary_search(owner).is_err()
        };
        let mut half_gone = BTreeSet::new();
        for owner in folder.map(|folder| folder.owners_of_secrets(is_left)).unwrap_or_default() {
            // Of an account that was let go, or that this database has never had, the Secret stays.
            if is_deleted(database.find_by_owner(&owner).await)? {
                half_gone.insert(owner);
            }
        }
        Ok(PruneSet { owners, half_gone, limit })
    }
}

/// One that cannot be read counts as deleted: nothing can be done to it then, and that is told when its turn comes.
fn is_deleted(found: Result<Option<Account>, DatabaseError>) -> Result<bool, DatabaseError> {
    match found {
        Err(DatabaseError::Inconsistent { .. }) => Ok(true),
        found => Ok(found?.is_some_and(|account| matches!(account.life, Life::Deleted { .. }))),
    }
}

impl PruneSet {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.owners.len() + self.half_gone.len()
    }

    /// Whose they are.
    pub fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.owners.iter().chain(&self.half_gone)
    }

    /// How many accounts may go at once, if this many are more.
    pub fn exceeded_by(&self, accounts: usize) -> Option<usize> {
        self.limit.filter(|limit| accounts > *limit)
    }

    /// Deletes the account of one of them; or holds it, if they are too many. One that is deleted already loses nothing by
    /// going all the way.
    pub async fn prune(&self, owner: &Owner, reconciler: &Reconciler) -> Outcome {
        let accounts = self.owners.len();
        match self.exceeded_by(accounts) {
            Some(limit) if !self.half_gone.contains(owner) => {
                Outcome::blocked(NotReady::PruningHeld { accounts, limit })
            }
            _ => {
                let identity = ResourceIdentity { owner: owner.clone(), uid: None };
                reconciler.delete(Deletion::of(&identity), DeletionPolicy::Delete).await
            }
        }
    }

    /// Lists those that still authenticate, and asks whether to delete them.
    ///
    /// # Errors
    /// They said anything but yes, or there is nobody to ask.
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
