//! The creation guard of a plan against a cluster. The statuses of the resources show which accounts existed before.

use crate::account::{Account, Owner};
use crate::database::AccountDatabase;
use crate::reconcile::{CreationGuard, Doubt, KnownAccount, Missing, NotReady};
use async_trait::async_trait;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// The percentage of accounts that may be missing and are still created: the default of the controller. A plan counts
/// only the namespaces that it reads.
const PERCENT: u8 = 20;

/// A creation guard that knows from statuses which accounts existed.
pub struct StatusGuard {
    known: HashMap<Owner, KnownAccount>,
    database: Arc<dyn AccountDatabase>,
    /// Whether too many accounts are missing. The database is read when the first account is missing.
    too_many_missing: OnceCell<bool>,
}

impl StatusGuard {
    /// Creates the guard from the accounts that statuses name.
    pub fn new(known: HashMap<Owner, KnownAccount>, database: Arc<dyn AccountDatabase>) -> Self {
        Self { known, database, too_many_missing: OnceCell::new() }
    }

    async fn are_too_many_missing(&self, owner: &Owner) -> Result<bool, NotReady> {
        let existing: HashSet<Owner> =
            self.database.versions(&owner.cluster).await?.into_iter().map(|(owner, _)| owner).collect();
        let missing = Missing::of(self.known.keys().map(|owner| (owner.clone(), existing.contains(owner))));
        Ok(missing.are_too_many(0, PERCENT))
    }
}

#[async_trait]
impl CreationGuard for StatusGuard {
    async fn check(&self, owner: &Owner, _: Option<&KnownAccount>, found: Option<&Account>) -> Result<(), NotReady> {
        let Some(known) = self.known.get(owner).filter(|known| !known.is_settled(found)) else {
            return Ok(());
        };
        if let Some(doubt) = known.other_database(self.database.identity().await?.as_deref()) {
            return Err(known.clone().held(doubt));
        }
        if found.is_none() && *self.too_many_missing.get_or_try_init(|| self.are_too_many_missing(owner)).await? {
            return Err(known.clone().held(Doubt::Many));
        }
        Ok(())
    }
}
