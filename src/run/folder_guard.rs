//! The guard of creations without a cluster: the Secrets in the folder say which accounts there were.
//!
//! A `--database` that was mistyped makes a new file, in which every account would be made anew beside Secrets that tell of
//! another database.

use super::known::BATCH;
use crate::account::{Account, Owner};
use crate::database::AccountDatabase;
use crate::manifests::Manifest;
use crate::reconcile::{CreationGuard, Desired, Doubt, Missing, NotReady};
use crate::secrets::directory::Directory;
use async_trait::async_trait;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// The percentage of accounts that may be missing and are still made anew.
const PERCENT: u8 = 20;

/// Knows from a folder which accounts there were.
pub struct FolderGuard {
    /// Those declared that had a Secret at the start, sorted: a list takes less memory than a set.
    known: Vec<Owner>,
    database: Arc<dyn AccountDatabase>,
    is_confirmed: bool,
    /// Whether too many are missing: asked for the first that is.
    verdict: OnceCell<bool>,
}

impl FolderGuard {
    /// Of these manifests, with the Secrets that are in the folder now.
    pub fn new(
        manifests: &[Manifest],
        folder: &Directory,
        database: Arc<dyn AccountDatabase>,
        is_confirmed: bool,
    ) -> Self {
        let declared: HashSet<&Owner> = manifests.iter().map(|manifest| &manifest.desired.owner).collect();
        let mut known = folder.owners_of_secrets(|owner| declared.contains(owner));
        known.sort_unstable();
        known.shrink_to_fit();
        Self { known, database, is_confirmed, verdict: OnceCell::new() }
    }

    async fn are_too_many_missing(&self) -> Result<bool, NotReady> {
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
impl CreationGuard for FolderGuard {
    async fn check(&self, desired: &Desired, found: Option<&Account>) -> Result<(), NotReady> {
        if found.is_some() || self.is_confirmed || self.known.binary_search(&desired.owner).is_err() {
            return Ok(());
        }
        match self.verdict.get_or_try_init(|| self.are_too_many_missing()).await? {
            true => Err(NotReady::CreationHeld { account: desired.owner.to_string(), doubt: Doubt::Secrets }),
            false => Ok(()),
        }
    }
}
