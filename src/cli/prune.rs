//! The options of `--prune`, and the confirmation of what it deletes.

use super::confirm::ConfirmArgs;
use super::manifests::count_accounts;
use super::output::Output;
use crate::account::ClusterId;
use crate::database::AccountDatabase;
use crate::manifests::Manifest;
use crate::run::PruneSet;
use crate::secrets::directory::Directory;
use anyhow::Result;
use clap::Args;

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

impl PruneArgs {
    /// Finds the accounts to delete; none without `--prune`.
    pub async fn prune_set(
        &self,
        manifests: &[Manifest],
        database: &dyn AccountDatabase,
        cluster: &ClusterId,
        folder: Option<&Directory>,
    ) -> Result<PruneSet> {
        if !self.prune {
            return Ok(PruneSet::default());
        }
        Ok(PruneSet::find(manifests, database, cluster, folder, self.deletion_brake).await?)
    }
}

/// Lists the accounts that still authenticate, and asks whether to delete them.
///
/// # Errors
/// The answer is not yes, or there is nobody to ask.
pub fn confirm(prune_set: &PruneSet, confirm: &ConfirmArgs, output: &Output) -> Result<()> {
    let owners = prune_set.to_confirm();
    if owners.is_empty() {
        return Ok(());
    }
    output.note(format!("{} declared by no manifest, to be deleted:", count_accounts(owners.len())));
    for owner in owners {
        output.note(format!("  {}/{}", owner.namespace, owner.name));
    }
    confirm.ask(&format!("deleting {}, which stop authenticating at once", count_accounts(owners.len())))
}
