//! Accounts that no manifest declares any more: which they are, and whether so many may go.

use super::confirm::ConfirmArgs;
use super::manifests::count;
use super::output::Output;
use crate::account::{ClusterId, Owner};
use crate::database::AccountDatabase;
use crate::manifests::Manifest;
use crate::reconcile::{Outcome, Reconciler, Refusal, deletion_limit};
use crate::secrets::Belonging;
use anyhow::Result;
use clap::Args;
use std::collections::HashSet;

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
pub struct Doomed {
    owners: Vec<Owner>,
    /// How many accounts may go at once; `None`: all of them.
    limit: Option<usize>,
}

impl PruneArgs {
    /// The accounts that no manifest declares; none without `--prune`.
    pub async fn doomed(
        &self,
        manifests: &[Manifest],
        database: &dyn AccountDatabase,
        cluster: &ClusterId,
    ) -> Result<Doomed> {
        if !self.prune {
            return Ok(Doomed { owners: Vec::new(), limit: None });
        }
        let declared: HashSet<&Owner> = manifests.iter().map(|manifest| &manifest.desired.owner).collect();
        let live = database.live(cluster).await?;
        let limit = deletion_limit(live.len(), self.deletion_brake);
        let mut owners: Vec<Owner> = live.into_iter().filter(|owner| !declared.contains(owner)).collect();
        owners.sort();
        Ok(Doomed { owners, limit })
    }
}

impl Doomed {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whose they are.
    pub fn owners(&self) -> &[Owner] {
        &self.owners
    }

    /// How many accounts may go at once, if this many are more.
    pub fn exceeded_by(&self, accounts: usize) -> Option<usize> {
        self.limit.filter(|limit| accounts > *limit)
    }

    /// Deletes the account of one of them; or holds it, if they are too many.
    pub async fn prune(&self, owner: &Owner, reconciler: &Reconciler) -> Outcome {
        match self.exceeded_by(self.len()) {
            Some(limit) => Outcome::refused(Refusal::PruningHeld { accounts: self.len(), limit }),
            None => reconciler.prune(&Belonging { owner: owner.clone(), uid: None }).await,
        }
    }

    /// Lists them, and asks whether to delete them.
    ///
    /// # Errors
    /// They said anything but yes, or there is nobody to ask.
    pub fn confirm(&self, confirm: &ConfirmArgs, output: &Output) -> Result<()> {
        if self.owners.is_empty() || self.exceeded_by(self.len()).is_some() {
            return Ok(());
        }
        output.complain(format!("{} declared by no manifest, to be deleted:", count(self.len())));
        for owner in &self.owners {
            output.complain(format!("  {}/{}", owner.namespace, owner.name));
        }
        confirm.ask(&format!("deleting {}, which stop authenticating at once", count(self.len())))
    }
}
