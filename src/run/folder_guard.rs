//! The creation guard without a cluster. The Secrets in the folder show which accounts existed before.
//!
//! With a mistyped `--database`, SQLite creates a new file. Every account would be created again in it, although the
//! folder has the keys of accounts in another database.

use super::known::BATCH;
use crate::account::{Account, Owner};
use crate::database::AccountDatabase;
use crate::manifests::Manifest;
use crate::reconcile::{CreationGuard, Doubt, KnownAccount, Missing, NotReady};
use crate::secrets::directory::Directory;
use async_trait::async_trait;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// The percentage of accounts that may be missing and are still created again.
const PERCENT: u8 = 20;

/// A creation guard that knows from a folder which accounts existed.
pub struct FolderGuard {
    /// The owners of the declared accounts that had a Secret at the start, sorted. A list needs less memory than a set.
    known: Vec<Owner>,
    database: Arc<dyn AccountDatabase>,
    is_confirmed: bool,
    /// Whether too many accounts are missing. The database is read when the first account is missing.
    too_many_missing: OnceCell<bool>,
}

impl FolderGuard {
    /// Creates the guard for these manifests and the Secrets that are in the folder now.
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
        Self { known, database, is_confirmed, too_many_missing: OnceCell::new() }
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
    async fn check(&self, owner: &Owner, _: Option<&KnownAccount>, found: Option<&Account>) -> Result<(), NotReady> {
        if found.is_some() || self.is_confirmed || self.known.binary_search(owner).is_err() {
            return Ok(());
        }
        match self.too_many_missing.get_or_try_init(|| self.are_too_many_missing()).await? {
            true => Err(NotReady::CreationHeld { account: owner.to_string(), doubt: Doubt::Secrets }),
            false => Ok(()),
        }
    }
}
