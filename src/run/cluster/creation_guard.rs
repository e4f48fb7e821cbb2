//! The guard of creations for a plan: which accounts the statuses of a cluster's resources name.

use crate::account::{Account, Owner};
use crate::database::AccountDatabase;
use crate::reconcile::{CreationGuard, Desired, Doubt, KnownAccount, Missing, NotReady};
use async_trait::async_trait;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// What a controller's guard does, with its default of 20 percent and for the namespaces that the plan looks at.
const PERCENT: u8 = 20;

/// Knows from statuses which accounts there were.
pub struct Statuses {
    known: HashMap<Owner, KnownAccount>,
    database: Arc<dyn AccountDatabase>,
    /// Whether too many are missing: asked for the first that is.
    verdict: OnceCell<bool>,
}

impl Statuses {
    /// Of resources whose status names these accounts.
    pub fn new(known: HashMap<Owner, KnownAccount>, database: Arc<dyn AccountDatabase>) -> Self {
        Self { known, database, verdict: OnceCell::new() }
    }

    async fn are_too_many_missing(&self, owner: &Owner) -> Result<bool, NotReady> {
        let there: HashSet<Owner> =
            self.database.versions(&owner.cluster).await?.into_iter().map(|(owner, _)| owner).collect();
        let missing = Missing::of(self.known.keys().map(|owner| (owner.clone(), there.contains(owner))));
        Ok(missing.are_too_many(0, PERCENT))
    }
}

#[async_trait]
impl CreationGuard for Statuses {
    async fn check(&self, desired: &Desired, found: Option<&Account>) -> Result<(), NotReady> {
        let Some(known) = self.known.get(&desired.owner).filter(|known| !known.is_settled(found)) else {
            return Ok(());
        };
        if let Some(doubt) = known.other_database(self.database.identity().await?.as_deref()) {
            return Err(known.clone().held(doubt));
        }
        if found.is_none() && *self.verdict.get_or_try_init(|| self.are_too_many_missing(&desired.owner)).await? {
            return Err(known.clone().held(Doubt::Many));
        }
        Ok(())
    }
}
