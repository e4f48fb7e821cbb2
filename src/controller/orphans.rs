//! Orphans: accounts of this cluster whose resource is gone without a deletion having been done. Somebody took its
//! finalizer away, or the cluster was restored from an older backup. They are told of at once, and disabled only after a
//! grace, through the brake.

use super::brake::{Cause, Decision};
use super::connect::Ready;
use super::context::Context;
use super::resources::Resources;
use crate::account::{Life, Owner};
use crate::api::ApiAccount;
use crate::reconcile::{Deletion, DeletionPolicy, Outcome};
use crate::secrets::ResourceIdentity;
use crate::secrets::cache::SecretCaches;
use kube::runtime::reflector::ObjectRef;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// The orphans seen so far.
pub(super) struct Orphans {
    /// How long an account may be without its resource before it is disabled.
    pub grace: Duration,
    seen: HashMap<Owner, Orphan>,
    empty_reported: bool,
    secrets: SecretCaches,
    /// Owners without a resource whose Secrets stay, since their accounts are not deleted.
    kept: HashSet<Owner>,
}

struct Orphan {
    since: Instant,
    held_reported: bool,
}

impl Orphans {
    /// None seen yet. `secrets` is what is known of the cluster's Secrets.
    pub fn new(grace: Duration, secrets: SecretCaches) -> Self {
        Self { grace, seen: HashMap::new(), empty_reported: false, secrets, kept: HashSet::new() }
    }

    /// Looks which of these live accounts have no resource, and disables those that have had none for longer than the grace.
    pub async fn check(&mut self, live: Vec<Owner>, context: &Context, ready: &Ready, now: Instant) {
        let Some(resources) = context.resources() else {
            return;
        };
        let alive: HashSet<_> = live.iter().map(resource).collect();
        let missing: HashSet<&Owner> = live.iter().filter(|owner| resources.lacks(&resource(owner))).collect();
        context.metrics.orphans(missing.len());
        if resources.is_empty() && !missing.is_empty() {
            // More likely an accident of the cluster, or of this program, than the end of every account.
            if !self.empty_reported {
                tracing::warn!(
                    accounts = missing.len(),
                    "there are accounts and not a single ApiAccount; nothing is done about that"
                );
            }
            self.empty_reported = true;
            return;
        }
        self.empty_reported = false;
        self.seen.retain(|owner, _| missing.contains(owner));
        // An orphan whose resource came back, or a deletion whose end no watch has shown. Asked anew, since one whose resource
        // goes at this moment would be neither.
        let is_orphan = |held: &ObjectRef<ApiAccount>| alive.contains(held) && resources.lacks(held);
        context.brake.retain(|held| resources.is_being_deleted(held), is_orphan);
        let mut left = missing.len();
        for owner in missing {
            let orphan = self.seen.entry(owner.clone()).or_insert_with(|| {
                let grace = self.grace;
                tracing::warn!(
                    namespace = owner.namespace,
                    name = owner.name,
                    ?grace,
                    "the account has lost its ApiAccount; it will be disabled unless that comes back"
                );
                Orphan { since: now, held_reported: false }
            });
            if now.duration_since(orphan.since) >= self.grace {
                left -= usize::from(orphan.disable(owner, context, ready).await);
                context.metrics.orphans(left);
            }
        }
        self.remove_secrets(&live, &resources, context, ready).await;
    }

    /// Removes the Secrets of accounts that are deleted and have no resource: whoever ended one was interrupted before its
    /// Secret was gone. Those of accounts that were retained, or that this database does not have, stay.
    async fn remove_secrets(&mut self, live: &[Owner], resources: &Resources, context: &Context, ready: &Ready) {
        let live: HashSet<&Owner> = live.iter().collect();
        let mut left: HashSet<Owner> = self.secrets.owners().into_iter().collect();
        left.retain(|owner| {
            owner.cluster == context.cluster && !live.contains(owner) && resources.lacks(&resource(owner))
        });
        self.kept.retain(|owner| left.contains(owner));
        let unknown: Vec<Owner> = left.difference(&self.kept).cloned().collect();
        if unknown.is_empty() {
            return;
        }
        let accounts = match ready.reconciler.database.find_by_owners(&unknown).await {
            Ok(accounts) => accounts,
            Err(error) => {
                tracing::debug!(%error, "the accounts of Secrets that are left over could not be read");
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

impl Orphan {
    /// Answers whether its account is disabled now.
    async fn disable(&mut self, owner: &Owner, context: &Context, ready: &Ready) -> bool {
        let (namespace, name) = (&owner.namespace, &owner.name);
        let verdict = match context.brake.decide(&resource(owner), Cause::Orphan, None, Instant::now()) {
            Decision::NeedsCount => match context.count_deletions(ready).await {
                Ok(counted) => context.brake.decide(&resource(owner), Cause::Orphan, Some(counted), Instant::now()),
                Err(error) => {
                    tracing::debug!(%error, namespace, name, "the deletions of late could not be counted");
                    Decision::NeedsCount
                }
            },
            verdict => verdict,
        };
        if verdict != Decision::Allowed {
            if verdict == Decision::Held && !self.held_reported {
                tracing::error!(
                    namespace,
                    name,
                    percent = context.brake.percent,
                    "the account has lost its ApiAccount and is held: too many would lose their access at once; apply its \
                     ApiAccount again, and delete it if that is meant"
                );
            }
            self.held_reported |= verdict == Decision::Held;
            return false;
        }
        disable(owner, context, ready).await.not_ready.is_none()
    }
}

/// Disables the account of an owner that has no resource, and removes its Secrets.
async fn disable(owner: &Owner, context: &Context, ready: &Ready) -> Outcome {
    let (namespace, name) = (&owner.namespace, &owner.name);
    let identity = ResourceIdentity { owner: owner.clone(), uid: None };
    let outcome = ready.reconciler.delete(Deletion::of(&identity), DeletionPolicy::Delete).await;
    context.waiting.release_names(&outcome);
    context.log_done(namespace, name, &outcome.done);
    if outcome.not_ready.is_none() {
        context.brake.deleted(&resource(owner), Instant::now());
    }
    if let Some(not_ready) = &outcome.not_ready {
        tracing::warn!(namespace, name, "the account that lost its ApiAccount cannot be ended yet: {not_ready}");
    }
    outcome
}

fn resource(owner: &Owner) -> ObjectRef<ApiAccount> {
    ObjectRef::new(&owner.name).within(&owner.namespace)
}
