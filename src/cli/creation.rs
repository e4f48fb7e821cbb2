//! The creation guard without a cluster. The Secrets in the folder show which accounts existed before.
//!
//! A mistyped `--database` creates a new file. Without the guard, `apply` would create every account again in that
//! file, although the Secrets belong to accounts of another database.

use crate::account::{Account, Owner};
use crate::database::AccountDatabase;
use crate::manifests::Manifest;
use crate::reconcile::{CreationGuard, Desired, Doubt, Missing, Refusal};
use crate::secrets::directory::Directory;
use async_trait::async_trait;
use clap::Args;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::OnceCell;

use super::known::BATCH;

/// The percentage of accounts that may be missing and are still created again.
const PERCENT: u8 = 20;

/// The option that confirms the creation of missing accounts.
#[derive(Debug, Args)]
pub struct CreationArgs {
    /// Create accounts again that the database lacks although the folder has their Secrets. Without it, this is refused
    /// when many accounts are missing, because the database is probably the wrong one.
    #[arg(long)]
    pub confirm_creation: bool,
}

/// A creation guard that knows from a folder which accounts existed.
pub struct Folder {
    /// The declared owners that had a Secret at the start. A sorted list, because it uses less memory than a set.
    known: Vec<Owner>,
    database: Arc<dyn AccountDatabase>,
    is_confirmed: bool,
    /// Whether too many accounts are missing. The database is read when the first account is missing.
    too_many_missing: OnceCell<bool>,
}

impl Folder {
    /// Creates the guard from these manifests and from the Secrets that are in the folder now.
    pub fn new(
        manifests: &[Manifest],
        folder: &Directory,
        database: Arc<dyn AccountDatabase>,
        confirmed: &CreationArgs,
    ) -> Self {
        let declared: HashSet<&Owner> = manifests.iter().map(|manifest| &manifest.desired.owner).collect();
        let mut known = folder.owners_of_secrets(|owner| declared.contains(owner));
        known.sort_unstable();
        known.shrink_to_fit();
        Self { known, database, is_confirmed: confirmed.confirm_creation, too_many_missing: OnceCell::new() }
    }

    async fn are_too_many_missing(&self) -> Result<bool, Refusal> {
        let mut missing = Missing { known: self.known.len(), owners: self.known.iter().cloned().collect() };
        for owners in self.known.chunks(BATCH) {
            for account in self.database.find_by_owners(owners).await? {
                if let Some(owner) = &account.owner {
                    missing.owners.remove(owner);
                }
            }
        }
        Ok(missing.are_too_many(0, PERCENT))
    }
}

#[async_trait]
impl CreationGuard for Folder {
    async fn check(&self, desired: &Desired, found: Option<&Account>) -> Result<(), Refusal> {
        if found.is_some() || self.is_confirmed || self.known.binary_search(&desired.owner).is_err() {
            return Ok(());
        }
        match self.too_many_missing.get_or_try_init(|| self.are_too_many_missing()).await? {
            true => Err(Refusal::CreationHeld { account: desired.owner.to_string(), doubt: Doubt::Secrets }),
            false => Ok(()),
        }
    }
}
