//! The work that is not urgent: orphans, the purge of accounts that were deleted long ago, memory of resources that are
//! gone, and old journal entries. It runs after a successful sweep, in a task of its own. A failed step is tried again
//! after the next sweep.

use super::connect::Ready;
use super::context::Context;
use super::orphans::Orphans;
use super::resources::resource;
use crate::account::Owner;
use crate::api::ApiAccount;
use crate::backoff::Backoff;
use crate::database::{AccountDatabase, Unpurged};
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The pauses before the next attempt to purge an account that could not be purged.
const BACKOFF: Backoff = Backoff::new(Duration::from_mins(10), Duration::from_hours(24));

/// The shortest time between two removals of old journal entries.
const TRIM_EVERY: Duration = Duration::from_hours(1);

/// Does the work that is not urgent.
pub(super) struct Cleanup {
    pub context: Arc<Context>,
    pub database: Arc<dyn AccountDatabase>,
    /// How long a deleted account is kept.
    pub retention: Duration,
    pub orphans: Orphans,
    pub unpurgeable: PurgeFailures,
    /// How long journal entries are kept; `None`: forever.
    pub journal_retention: Option<Duration>,
    /// When old journal entries were last removed.
    pub trimmed: Option<Instant>,
}

/// The deleted accounts that the database refused to purge.
#[derive(Default)]
pub(super) struct PurgeFailures(HashMap<Owner, Retry>);

struct Retry {
    until: Instant,
    failures: u32,
}

impl Cleanup {
    /// Runs once after each notification of `swept`, for as long as it is polled.
    pub async fn run(mut self, ready: Arc<Ready>, swept: Arc<Notify>) {
        loop {
            swept.notified().await;
            self.look_for_orphans(&ready).await;
            self.forget(&ready);
            if !self.context.freeze.is_on() {
                self.purge().await;
                self.trim_journal().await;
            }
        }
    }

    /// Removes what the controller remembers of resources that are gone. After a lost watch, a new list does not show
    /// which resources were deleted in the meantime.
    fn forget(&self, ready: &Ready) {
        let Some(resources) = self.context.resources() else {
            return;
        };
        let is_there = |resource: &ObjectRef<ApiAccount>| !resources.lacks(resource);
        self.context.waiting.retain(is_there);
        self.context.versions.retain(|key| !resources.lacks_key(key));
        self.context.revocations.retain(is_there);
        // A resource that was attempted has used its account from the bulk read, or will not use it.
        ready.startup_accounts.retain(|owner| {
            let resource = resource(owner);
            is_there(&resource) && !self.context.memory.was_attempted(&resource)
        });
        self.context.pickups.retain(|key| !resources.lacks_key(key));
        self.context.memory.retain(|key| !resources.lacks_key(key));
    }

    /// Removes the journal entries that are older than the retention, at most once per [`TRIM_EVERY`].
    async fn trim_journal(&mut self) {
        let (now, started) = (self.context.environment.now(), Instant::now());
        let Some(before) = self.journal_retention.and_then(|retention| now.checked_sub(retention).ok()) else {
            return;
        };
        if self.trimmed.is_some_and(|trimmed| started.duration_since(trimmed) < TRIM_EVERY) {
            return;
        }
        match self.database.trim_journal(before).await {
            Ok(0) => self.trimmed = Some(started),
            Ok(entries) => {
                self.trimmed = Some(started);
                tracing::info!(entries, "removed journal entries that are older than the journal retention");
            }
            Err(error) => {
                tracing::warn!(%error, "old journal entries could not be removed; trying again after the next sweep");
            }
        }
    }

    async fn look_for_orphans(&mut self, ready: &Ready) {
        if let Err(error) = self.orphans.check(&self.context, ready, Instant::now()).await {
            tracing::debug!(%error, "the live accounts could not be read");
        }
    }

    async fn purge(&mut self) {
        let (now, started) = (self.context.environment.now(), Instant::now());
        let (Ok(before), Some(resources)) = (now.checked_sub(self.retention), self.context.resources()) else {
            return;
        };
        // An account is kept if its resource exists, since a refused or paused resource may become ready again. It is
        // also kept if its namespace is not watched, since its resource may exist there.
        let is_kept = |owner: &Owner| !resources.lacks(&resource(owner)) || self.unpurgeable.is_paused(owner, started);
        let purged = match self.database.purge(&self.context.cluster, &is_kept, before, now).await {
            Ok(purged) => purged,
            Err(error) => {
                tracing::warn!(%error, "deleted accounts could not be purged; trying again after the next sweep");
                return;
            }
        };
        if purged.accounts > 0 {
            tracing::info!(accounts = purged.accounts, "purged deleted accounts whose retention has ended");
        }
        for Unpurged { account, owner, reason } in self.unpurgeable.record(purged.refused, started) {
            tracing::warn!(
                account,
                namespace = owner.namespace,
                name = owner.name,
                %reason,
                "a deleted account cannot be purged; remove what refers to it in the database"
            );
        }
        self.context.metrics.unpurgeable(self.unpurgeable.0.len());
    }
}

impl PurgeFailures {
    /// Returns whether the pause after the last failed purge of this account has not ended.
    fn is_paused(&self, owner: &Owner, now: Instant) -> bool {
        self.0.get(owner).is_some_and(|retry| now < retry.until)
    }

    /// Records the accounts that could not be purged, and returns those that were not known before. Known accounts
    /// whose pause has ended and that were not refused again are removed.
    fn record(&mut self, refused: Vec<Unpurged>, now: Instant) -> Vec<Unpurged> {
        let is_refused = |owner: &Owner| refused.iter().any(|unpurged| unpurged.owner == *owner);
        self.0.retain(|owner, retry| now < retry.until || is_refused(owner));
        let mut new = Vec::new();
        for unpurged in refused {
            if let Some(retry) = self.0.get_mut(&unpurged.owner) {
                retry.failures += 1;
                retry.until = now + BACKOFF.pause(retry.failures);
                continue;
            }
            self.0.insert(unpurged.owner.clone(), Retry { until: now + BACKOFF.pause(0), failures: 0 });
            new.push(unpurged);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::ClusterId;

    fn unpurged(name: &str) -> Unpurged {
        let cluster = ClusterId::parse("here").unwrap();
        let owner = Owner { cluster, namespace: "ns".to_owned(), name: name.to_owned() };
        Unpurged { account: name.to_owned(), owner, reason: "referred to".to_owned() }
    }

    #[test]
    fn a_failed_purge_is_reported_once_and_tried_after_growing_pauses() {
        let (mut unpurgeable, start) = (PurgeFailures::default(), Instant::now());
        let first = BACKOFF.pause(0);
        let (acme, bolt) = (unpurged("acme"), unpurged("bolt"));
        assert_eq!(unpurgeable.record(vec![acme.clone()], start), std::slice::from_ref(&acme));
        let soon = start + first / 2;
        assert!(unpurgeable.is_paused(&acme.owner, soon) && !unpurgeable.is_paused(&bolt.owner, soon));
        assert_eq!(unpurgeable.record(vec![bolt.clone()], soon), std::slice::from_ref(&bolt));
        let later = start + first;
        assert!(!unpurgeable.is_paused(&acme.owner, later) && unpurgeable.is_paused(&bolt.owner, later));
        assert_eq!(unpurgeable.record(vec![acme.clone()], later), []);
        assert!(unpurgeable.is_paused(&acme.owner, later + first));
        assert!(!unpurgeable.is_paused(&acme.owner, later + first * 2));
        // The purge succeeded.
        unpurgeable.record(Vec::new(), later + first * 2);
        assert!(unpurgeable.0.is_empty());
    }
}
