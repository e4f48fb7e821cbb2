//! Orphans: live accounts of this cluster whose resource is gone although its deletion was not processed. This happens
//! when a user removes the finalizer, or when the cluster is restored from an older backup. An orphan is reported at
//! once, and its account is disabled only after a grace period, and only if the brake allows it. A frozen controller
//! only reports it.

use super::brake::{Cause, Decision};
use super::connect::Ready;
use super::context::Context;
use super::held::Key;
use super::resources::{Resources, resource};
use crate::account::{Life, Owner};
use crate::api::ApiAccount;
use crate::database::DatabaseError;
use crate::reconcile::Outcome;
use crate::secrets::cache::SecretCaches;
use kube::runtime::reflector::ObjectRef;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// The number of live accounts that are read at a time.
const PAGE: usize = 5_000;

/// The known orphans.
pub(super) struct Orphans {
    /// How long an account may exist without its resource before it is disabled.
    pub grace: Duration,
    seen: HashMap<Owner, Orphan>,
    empty_reported: bool,
    secrets: SecretCaches,
    /// Owners without a resource whose Secrets are kept, because their accounts are not deleted.
    kept: HashSet<Owner>,
}

struct Orphan {
    since: Instant,
    held_reported: bool,
}

impl Orphans {
    /// Creates a list without orphans. `secrets` are the caches of the cluster's Secrets.
    pub fn new(grace: Duration, secrets: SecretCaches) -> Self {
        Self { grace, seen: HashMap::new(), empty_reported: false, secrets, kept: HashSet::new() }
    }

    /// Finds the live accounts that have no resource, and disables those that have had none for longer than the grace
    /// period. Does nothing until all resources have been listed.
    ///
    /// # Errors
    /// The live accounts cannot be read.
    pub async fn check(&mut self, context: &Context, ready: &Ready, now: Instant) -> Result<(), DatabaseError> {
        let Some(resources) = context.resources() else {
            return Ok(());
        };
        let missing = without_resource(ready, context, &resources).await?;
        context.metrics.orphans(missing.len());
        if resources.is_empty() && !missing.is_empty() {
            // The likely reason is a fault of the cluster or of this program. So nothing is disabled.
            if !self.empty_reported {
                tracing::warn!(
                    accounts = missing.len(),
                    "there are accounts but not a single ApiAccount; the controller disables no account"
                );
            }
            self.empty_reported = true;
            return Ok(());
        }
        self.empty_reported = false;
        self.seen.retain(|owner, _| missing.contains(owner));
        // Releases orphans whose resource exists again, and deletions that ended without an event of the watch. Both
        // conditions are checked anew, because a resource that disappears at this moment would fulfil neither of two
        // older results.
        let alive: HashSet<_> = missing.iter().map(resource).collect();
        let is_orphan = |held: &ObjectRef<ApiAccount>| alive.contains(held) && resources.lacks(held);
        context.brake.retain(|held| resources.is_being_deleted(held), is_orphan);
        let mut left = missing.len();
        for owner in &missing {
            let orphan = self.seen.entry(owner.clone()).or_insert_with(|| {
                let grace = self.grace;
                tracing::warn!(
                    namespace = owner.namespace,
                    name = owner.name,
                    ?grace,
                    "the ApiAccount of the account no longer exists; the account will be disabled unless the ApiAccount is applied again"
                );
                Orphan { since: now, held_reported: false }
            });
            if now.duration_since(orphan.since) >= self.grace && !context.freeze.is_on() {
                left -= usize::from(orphan.disable(owner, context, ready).await);
                context.metrics.orphans(left);
            }
        }
        if !context.freeze.is_on() {
            self.remove_secrets(&missing, &resources, context, ready).await;
        }
        Ok(())
    }

    /// Deletes the Secrets of deleted accounts that have no resource: an earlier deletion was interrupted before the
    /// Secret was deleted. Secrets of retained accounts, and of accounts that this database does not have, are kept.
    ///
    /// `missing` are the live accounts without a resource.
    async fn remove_secrets(
        &mut self,
        missing: &HashSet<Owner>,
        resources: &Resources,
        context: &Context,
        ready: &Ready,
    ) {
        let left = self.secrets.owners(|owner| {
            owner.cluster == context.cluster && !missing.contains(owner) && resources.lacks_key(&Key::from(owner))
        });
        self.kept.retain(|owner| left.contains(owner));
        let unknown: Vec<Owner> = left.difference(&self.kept).cloned().collect();
        if unknown.is_empty() {
            return;
        }
        let accounts = match ready.reconciler.database.find_by_owners(&unknown).await {
            Ok(accounts) => accounts,
            Err(error) => {
                tracing::debug!(%error, "the accounts of leftover Secrets could not be read");
                return;
            }
        };
        let deleted = accounts.into_iter().filter(|account| matches!(account.life, Life::Deleted { .. }));
        let deleted: HashSet<Owner> = deleted.filter_map(|account| account.owner).collect();
        for owner in unknown {
            if deleted.contains(&owner) {
                disable(&owner, context, ready).await;
            } else {
                self.kept.insert(owner);
            }
        }
    }
}

/// Returns the owners of live accounts that have no resource. Reads the live accounts page by page.
async fn without_resource(
    ready: &Ready,
    context: &Context,
    resources: &Resources,
) -> Result<HashSet<Owner>, DatabaseError> {
    let (mut missing, mut last) = (HashSet::new(), None);
    loop {
        let page = ready.reconciler.database.live_after(&context.cluster, last.as_ref(), PAGE).await?;
        missing.extend(page.iter().filter(|owner| resources.lacks_key(&Key::from(*owner))).cloned());
        let is_last = page.len() < PAGE;
        last = page.into_iter().next_back();
        if is_last {
            return Ok(missing);
        }
    }
}

impl Orphan {
    /// Disables the account if the brake allows it, and returns whether the account is disabled now.
    async fn disable(&mut self, owner: &Owner, context: &Context, ready: &Ready) -> bool {
        let (namespace, name) = (&owner.namespace, &owner.name);
        let decision = match context.brake.decide(&resource(owner), Cause::Orphan, None, Instant::now()) {
            Decision::NeedsCount => match context.count_deletions(ready).await {
                Ok(counted) => context.brake.decide(&resource(owner), Cause::Orphan, Some(counted), Instant::now()),
                Err(error) => {
                    tracing::debug!(%error, namespace, name, "the recent deletions could not be counted");
                    Decision::NeedsCount
                }
            },
            decision => decision,
        };
        if decision != Decision::Allowed {
            if decision == Decision::Held && !self.held_reported {
                tracing::error!(
                    namespace,
                    name,
                    percent = context.brake.percent,
                    "the ApiAccount of the account no longer exists, and the account is held: too many accounts would lose their access at once; apply its \
                     ApiAccount again, and then delete it if the account is to end"
                );
            }
            self.held_reported |= decision == Decision::Held;
            return false;
        }
        disable(owner, context, ready).await.not_ready.is_none()
    }
}

/// Disables the account of an owner that has no resource, and deletes its Secrets.
async fn disable(owner: &Owner, context: &Context, ready: &Ready) -> Outcome {
    let (namespace, name) = (&owner.namespace, &owner.name);
    let outcome = ready.reconciler.delete_undeclared(owner).await;
    context.waiting.release_names(&outcome);
    context.log_done(namespace, name, None, &outcome.done);
    if outcome.not_ready.is_none() {
        context.brake.deleted(&resource(owner), Instant::now());
    }
    if let Some(not_ready) = &outcome.not_ready {
        tracing::warn!(namespace, name, "the account without an ApiAccount cannot be disabled yet: {not_ready}");
    }
    outcome
}
