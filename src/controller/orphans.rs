//! Orphans: accounts of this cluster whose resource is gone without a deletion having been done. Somebody took its
//! finalizer away, or the cluster was restored from an older backup. They are told of at once, and disabled only after a
//! grace, through the brake.

use super::brake::End;
use super::connect::Ready;
use super::object::Controlled;
use crate::account::Owner;
use crate::api::ApiAccount;
use crate::reconcile::DeletionPolicy;
use crate::secrets::Belonging;
use kube::runtime::reflector::ObjectRef;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// The orphans seen so far.
pub(super) struct Orphans {
    /// How long an account may be without its resource before it is disabled.
    pub grace: Duration,
    seen: HashMap<Owner, Orphan>,
    nothing_told: bool,
}

struct Orphan {
    since: Instant,
    held_told: bool,
}

impl Orphans {
    /// None seen yet.
    pub fn new(grace: Duration) -> Self {
        Self { grace, seen: HashMap::new(), nothing_told: false }
    }

    /// Looks which of these live accounts have no resource, and disables those that have had none for longer than the grace.
    pub async fn look(&mut self, live: Vec<Owner>, controlled: &Controlled, ready: &Ready, now: Instant) {
        let Some(resources) = controlled.resources() else {
            return;
        };
        let alive: HashSet<_> = live.iter().map(resource).collect();
        let missing: Vec<Owner> = live.into_iter().filter(|owner| resources.lacks(&resource(owner))).collect();
        controlled.metrics.orphans(missing.len());
        if resources.is_empty() && !missing.is_empty() {
            // More likely an accident of the cluster, or of this program, than the end of every account.
            if !self.nothing_told {
                tracing::warn!(
                    accounts = missing.len(),
                    "there are accounts and not a single ApiAccount; nothing is done about that"
                );
            }
            self.nothing_told = true;
            return;
        }
        self.nothing_told = false;
        self.seen.retain(|owner, _| missing.contains(owner));
        // An orphan whose resource came back, or a deletion whose end no watch has shown. Asked anew, since one whose resource
        // goes at this moment would be neither.
        let is_orphan = |held: &ObjectRef<ApiAccount>| alive.contains(held) && resources.lacks(held);
        controlled.brake.keep(|held| resources.is_going(held), is_orphan);
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
                Orphan { since: now, held_told: false }
            });
            if now.duration_since(orphan.since) >= self.grace {
                left -= usize::from(orphan.end(&owner, controlled, ready, now).await);
                controlled.metrics.orphans(left);
            }
        }
    }
}

impl Orphan {
    /// Answers whether its account is disabled now.
    async fn end(&mut self, owner: &Owner, controlled: &Controlled, ready: &Ready, now: Instant) -> bool {
        let (namespace, name) = (&owner.namespace, &owner.name);
        if let Err(held) = controlled.brake.let_go(&resource(owner), End::Orphan, controlled.versions.known(), now) {
            if !self.held_told {
                tracing::error!(
                    namespace,
                    name,
                    limit = held.limit,
                    "the account has lost its ApiAccount and is held: too many would lose their access at once; apply its \
                     ApiAccount again, and delete it if that is meant"
                );
            }
            self.held_told = true;
            return false;
        }
        let belonging = Belonging { owner: owner.clone(), uid: None };
        let outcome = ready.reconciler.release(&belonging, DeletionPolicy::Delete, None).await;
        controlled.waiting.let_go(&outcome);
        controlled.note(namespace, name, &outcome.done);
        if let Some(refusal) = &outcome.refusal {
            tracing::warn!(namespace, name, "the account that lost its ApiAccount cannot be disabled yet: {refusal}");
        }
        outcome.refusal.is_none()
    }
}

fn resource(owner: &Owner) -> ObjectRef<ApiAccount> {
    ObjectRef::new(&owner.name).within(&owner.namespace)
}
