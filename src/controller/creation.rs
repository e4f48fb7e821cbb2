//! The guard of creations on a cluster: the statuses of all resources together say which accounts there were.
//!
//! A resource whose account is missing is held while many are missing or the database is another one than before. It is
//! looked at again when that changes: when the database tells of its account, or when a sweep finds it or few missing.

use super::memory::Memory;
use super::resources::Stores;
use crate::account::{Account, ClusterId, Owner, Version};
use crate::api::ApiAccount;
use crate::database::{AccountDatabase, DatabaseError};
use crate::reconcile::{
    CreationGuard, Desired, Doubt, KnownAccount, Missing, NotReady, Unconfirmed, is_made_if_missing,
};
use async_trait::async_trait;
use kube::runtime::reflector::ObjectRef;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long accounts that were made anew count together with those that are missing.
const WINDOW: Duration = Duration::from_mins(10);

/// How long one look at all accounts serves those that ask one after another.
const VALID: Duration = Duration::from_secs(1);

type Resource = ObjectRef<ApiAccount>;

/// Knows from statuses which accounts there were.
pub(super) struct Creations {
    /// The percentage of accounts that may be missing and are still made anew.
    pub percent: u8,
    pub cluster: ClusterId,
    pub database: Arc<dyn AccountDatabase>,
    pub memory: Arc<Memory>,
    pub stores: Arc<Stores>,
    /// How many scopes are watched.
    pub scopes: usize,
    assessment: tokio::sync::Mutex<Assessment>,
    state: Mutex<State>,
}

/// What is known of all accounts together.
#[derive(Default)]
struct Assessment {
    /// When they were looked at, and whether too many were missing.
    last: Option<(Instant, bool)>,
    /// Those that were missing then, and may be made anew.
    approved: HashSet<Owner>,
    /// Those that were let through, and when.
    recreated: HashMap<Owner, Instant>,
}

#[derive(Default)]
struct State {
    held: HashMap<Resource, Doubt>,
    identity: Option<String>,
}

impl Creations {
    /// A guard that has yet to look.
    pub fn new(
        percent: u8,
        cluster: &ClusterId,
        database: &Arc<dyn AccountDatabase>,
        memory: &Arc<Memory>,
        stores: &Arc<Stores>,
        scopes: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            percent,
            cluster: cluster.clone(),
            database: Arc::clone(database),
            memory: Arc::clone(memory),
            stores: Arc::clone(stores),
            scopes,
            assessment: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        })
    }

    /// The identity of the database, as it was read last.
    pub fn identity(&self) -> Option<String> {
        self.state().identity.clone()
    }

    /// Reads the identity of the database, and answers whether it is another one than before.
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
                "this is another account database than before; accounts that it lacks are not made anew unless somebody confirms it"
            );
        }
        Ok(is_other)
    }

    /// Whether this resource is held.
    pub fn holds(&self, resource: &Resource) -> bool {
        self.state().held.contains_key(resource)
    }

    /// Whether any is.
    pub fn is_holding(&self) -> bool {
        !self.state().held.is_empty()
    }

    /// Whether this looks like the wrong database, or one that lost most of what it had.
    pub fn is_doubtful(&self) -> bool {
        let state = self.state();
        state.held.len() > 1 || state.held.values().any(|doubt| *doubt == Doubt::Many)
    }

    /// Forgets a resource that is gone.
    pub fn forget(&self, resource: &Resource) {
        self.state().held.remove(resource);
    }

    /// The resources to look at again, now that a sweep has found these accounts.
    pub async fn resources_to_retry(&self, versions: &HashMap<Owner, Version>) -> Vec<Resource> {
        if !self.is_holding() {
            return Vec::new();
        }
        let are_few = match self.missing(|owner| versions.contains_key(owner)) {
            Some(missing) => {
                let mut judging = self.assessment.lock().await;
                judging.forget_old(Instant::now());
                !missing.are_too_many(judging.recreated.len(), self.percent)
            }
            None => false,
        };
        let is_there = |resource: &Resource| {
            let namespace = resource.namespace.clone().unwrap_or_default();
            let owner = Owner { cluster: self.cluster.clone(), namespace, name: resource.name.clone() };
            versions.contains_key(&owner)
        };
        let state = self.state();
        let again =
            state.held.iter().filter(|(resource, doubt)| is_there(resource) || (are_few && **doubt == Doubt::Many));
        again.map(|(resource, _)| resource.clone()).collect()
    }

    /// Of the resources whose account is made if it is missing; `None` until all have been listed.
    fn missing(&self, is_there: impl Fn(&Owner) -> bool) -> Option<Missing> {
        let resources = self.stores.complete(self.scopes)?;
        let known = resources.all().filter(|resource| is_made_if_missing(resource) && has_account(resource));
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
        // One at a time: many ask at once when a database is empty, and one look serves them all.
        let mut judging = self.assessment.lock().await;
        judging.forget_old(now);
        let is_held = match judging.last {
            Some((at, true)) if now.duration_since(at) < VALID => true,
            Some((at, false)) if now.duration_since(at) < VALID && judging.approved.contains(owner) => false,
            _ => {
                let there: HashSet<Owner> =
                    self.database.versions(&self.cluster).await?.into_iter().map(|(owner, _)| owner).collect();
                let missing = self.missing(|owner| there.contains(owner)).ok_or_else(|| {
                    Unconfirmed("its account is missing, and not every namespace has been listed yet".to_owned())
                })?;
                let made_lately = judging.recreated.keys().filter(|made| !missing.owners.contains(*made)).count();
                let is_held = missing.are_too_many(made_lately, self.percent);
                judging.last = Some((now, is_held));
                judging.approved = missing.owners;
                is_held
            }
        };
        if is_held {
            return Ok(Some(Doubt::Many));
        }
        judging.recreated.insert(owner.clone(), now);
        Ok(None)
    }

    /// A panic elsewhere cannot leave the state half changed.
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
impl CreationGuard for Creations {
    async fn check(&self, desired: &Desired, found: Option<&Account>) -> Result<(), NotReady> {
        let resource = ObjectRef::new(&desired.owner.name).within(&desired.owner.namespace);
        let known = self.stores.get(&resource).and_then(|shown| {
            let status = self.memory.status(&shown);
            KnownAccount::of(&shown, status.as_ref())
        });
        let Some(known) = known.filter(|known| !known.is_settled(found)) else {
            self.forget(&resource);
            return Ok(());
        };
        if let Some(doubt) = self.doubt(&known, &desired.owner, found).await? {
            self.state().held.insert(resource, doubt.clone());
            return Err(known.held(doubt));
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
