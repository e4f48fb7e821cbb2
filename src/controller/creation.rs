//! The creation guard on a cluster. The statuses of all resources together show which accounts existed before.
//!
//! The creation of a missing account is held while many accounts are missing, or while the database is another one than
//! before. The resource is reconciled again when the database notifies about its account, or when a sweep finds its
//! account or finds that few accounts are missing.

use super::resources::Stores;
use crate::account::{Account, ClusterId, Owner};
use crate::api::ApiAccount;
use crate::database::{AccountDatabase, DatabaseError};
use crate::reconcile::{CreationGuard, Doubt, KnownAccount, Missing, NotReady, Unconfirmed, is_created_if_missing};
use async_trait::async_trait;
use kube::runtime::reflector::ObjectRef;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a recreated account counts together with the missing accounts.
const WINDOW: Duration = Duration::from_mins(10);

/// How long the result of one check of all accounts is used for other resources.
const VALID: Duration = Duration::from_secs(1);

type Resource = ObjectRef<ApiAccount>;

/// A creation guard that knows from statuses which accounts existed.
pub(super) struct ClusterCreationGuard {
    /// The percentage of accounts that may be missing and are still created again.
    pub percent: u8,
    pub cluster: ClusterId,
    pub database: Arc<dyn AccountDatabase>,
    pub stores: Arc<Stores>,
    /// How many scopes are watched.
    pub scopes: usize,
    assessment: tokio::sync::Mutex<Assessment>,
    state: Mutex<State>,
}

/// The result of the last check of all accounts.
#[derive(Default)]
struct Assessment {
    /// When all accounts were checked, and whether too many were missing.
    last: Option<(Instant, bool)>,
    /// The owners of the accounts that were missing then.
    approved: HashSet<Owner>,
    /// The owners of accounts whose creation was allowed, and when.
    recreated: HashMap<Owner, Instant>,
}

#[derive(Default)]
struct State {
    held: HashMap<Resource, Doubt>,
    identity: Option<String>,
}

impl ClusterCreationGuard {
    /// Creates a guard that has not checked anything yet.
    pub fn new(
        percent: u8,
        cluster: &ClusterId,
        database: &Arc<dyn AccountDatabase>,
        stores: &Arc<Stores>,
        scopes: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            percent,
            cluster: cluster.clone(),
            database: Arc::clone(database),
            stores: Arc::clone(stores),
            scopes,
            assessment: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        })
    }

    /// Returns the identity of the database, as it was last read.
    pub fn identity(&self) -> Option<String> {
        self.state().identity.clone()
    }

    /// Reads the identity of the database, and returns whether it differs from the one before.
    ///
    /// # Errors
    /// As [`AccountDatabase::identity`].
    pub async fn identify(&self) -> Result<bool, DatabaseError> {
        let identity = self.database.identity().await?;
        let before = std::mem::replace(&mut self.state().identity, identity.clone());
        let is_other = before.is_some() && before != identity;
        if is_other {
            tracing::error!(
                before = before.as_deref().unwrap_or("none"),
                now = identity.as_deref().unwrap_or("none"),
                "the account database is not the same as before; missing accounts are not created until a user confirms it"
            );
        }
        Ok(is_other)
    }

    /// Returns whether the creation of this resource's account is held.
    pub fn holds(&self, resource: &Resource) -> bool {
        self.state().held.contains_key(resource)
    }

    /// Returns whether any creation is held.
    pub fn holds_any(&self) -> bool {
        !self.state().held.is_empty()
    }

    /// Returns whether this may be the wrong database, or one that lost most of its accounts.
    pub fn may_be_wrong_database(&self) -> bool {
        let state = self.state();
        state.held.len() > 1 || state.held.values().any(|doubt| *doubt == Doubt::Many)
    }

    /// Removes a resource that no longer exists or whose creation is no longer held.
    pub fn forget(&self, resource: &Resource) {
        self.state().held.remove(resource);
    }

    /// Returns the held resources to reconcile again after a sweep that found accounts of all these owners.
    pub async fn resources_to_retry(&self, found: &HashSet<Owner>) -> Vec<Resource> {
        if !self.holds_any() {
            return Vec::new();
        }
        let are_few = match self.missing(|owner| found.contains(owner)) {
            Some(missing) => {
                let mut assessment = self.assessment.lock().await;
                assessment.forget_old(Instant::now());
                !missing.are_too_many(assessment.recreated.len(), self.percent)
            }
            None => false,
        };
        let is_there = |resource: &Resource| {
            let namespace = resource.namespace.clone().unwrap_or_default();
            let owner = Owner { cluster: self.cluster.clone(), namespace, name: resource.name.clone() };
            found.contains(&owner)
        };
        let state = self.state();
        let again =
            state.held.iter().filter(|(resource, doubt)| is_there(resource) || (are_few && **doubt == Doubt::Many));
        again.map(|(resource, _)| resource.clone()).collect()
    }

    /// Determines which accounts are missing that existed before and are created if they are missing. Returns `None`
    /// until all resources have been listed.
    fn missing(&self, is_there: impl Fn(&Owner) -> bool) -> Option<Missing> {
        let resources = self.stores.complete(self.scopes)?;
        let known = resources.all().filter(|resource| is_created_if_missing(resource) && has_account(resource));
        let known = known.map(|resource| Owner::of(&resource, &self.cluster));
        Some(Missing::of(known.map(|owner| {
            let is_there = is_there(&owner);
            (owner, is_there)
        })))
    }

    async fn doubt(
        &self,
        known: &KnownAccount,
        owner: &Owner,
        found: Option<&Account>,
    ) -> Result<Option<Doubt>, NotReady> {
        self.identify().await?;
        if let Some(doubt) = known.other_database(self.identity().as_deref()) {
            return Ok(Some(doubt));
        }
        if found.is_some() || self.percent >= 100 {
            return Ok(None);
        }
        let now = Instant::now();
        // Under a lock, because many resources ask at once when a database is empty, and one check is enough for all of
        // them.
        let mut assessment = self.assessment.lock().await;
        assessment.forget_old(now);
        let is_held = match assessment.last {
            Some((at, true)) if now.duration_since(at) < VALID => true,
            Some((at, false)) if now.duration_since(at) < VALID && assessment.approved.contains(owner) => false,
            _ => {
                let there: HashSet<Owner> =
                    self.database.versions(&self.cluster).await?.into_iter().map(|(owner, _)| owner).collect();
                let missing = self.missing(|owner| there.contains(owner)).ok_or_else(|| {
                    Unconfirmed("its account is missing, and not every namespace has been listed yet".to_owned())
                })?;
                let recreated_lately =
                    assessment.recreated.keys().filter(|made| !missing.owners.contains(*made)).count();
                let is_held = missing.are_too_many(recreated_lately, self.percent);
                assessment.last = Some((now, is_held));
                assessment.approved = missing.owners;
                is_held
            }
        };
        if is_held {
            return Ok(Some(Doubt::Many));
        }
        assessment.recreated.insert(owner.clone(), now);
        Ok(None)
    }

    /// A panic of another task cannot leave the state half changed, so a poisoned lock is still usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Assessment {
    fn forget_old(&mut self, now: Instant) {
        self.recreated.retain(|_, at| now.duration_since(*at) < WINDOW);
    }
}

#[async_trait]
impl CreationGuard for ClusterCreationGuard {
    async fn check(
        &self,
        owner: &Owner,
        known: Option<&KnownAccount>,
        found: Option<&Account>,
    ) -> Result<(), NotReady> {
        let resource = ObjectRef::new(&owner.name).within(&owner.namespace);
        let Some(known) = known.filter(|known| !known.is_settled(found)) else {
            self.forget(&resource);
            return Ok(());
        };
        if let Some(doubt) = self.doubt(known, owner, found).await? {
            self.state().held.insert(resource, doubt.clone());
            return Err(known.clone().held(doubt));
        }
        self.forget(&resource);
        Ok(())
    }

    async fn begin(&self) -> Result<(), DatabaseError> {
        self.identify().await.map(|_| ())
    }
}

fn has_account(resource: &ApiAccount) -> bool {
    resource.status.as_ref().is_some_and(|status| status.account_id.is_some())
}
