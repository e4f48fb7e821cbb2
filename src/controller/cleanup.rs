//! What is not urgent, done after a sweep in a task of its own: accounts without a resource, accounts that were deleted long
//! ago, and what nobody asks for any more. What fails is for the next time.

use super::connect::Ready;
use super::context::Context;
use super::orphans::Orphans;
use crate::account::Owner;
use crate::api::ApiAccount;
use crate::backoff::Backoff;
use crate::database::{AccountDatabase, Unpurged};
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The pauses before an account is tried again that could not be purged.
const BACKOFF: Backoff = Backoff::new(Duration::from_mins(10), Duration::from_hours(24));

/// The shortest time from one shortening of the journal to the next.
const TRIM_EVERY: Duration = Duration::from_hours(1);

/// Tidies up.
pub(super) struct Cleanup {
    pub context: Arc<Context>,
    pub database: Arc<dyn AccountDatabase>,
    /// How long a deleted account is kept.
    pub retention: Duration,
    pub orphans: Orphans,
    pub unpurgeable: PurgeFailures,
    /// How long the journal tells of every change; `None`: for ever.
    pub journal_retention: Option<Duration>,
    /// When the journal was last shortened.
    pub trimmed: Option<Instant>,
}

/// The deleted accounts that the database did not let go.
#[derive(Default)]
pub(super) struct PurgeFailures(HashMap<Owner, Retry>);

struct Retry {
    until: Instant,
    failures: u32,
}

impl Cleanup {
    /// Tidies up whenever it is told to, for as long as it is polled.
    pub async fn run(mut self, ready: Arc<Ready>, told: Arc<Notify>) {
        loop {
            told.notified().await;
            self.look_for_orphans(&ready).await;
            self.forget(&ready);
            self.purge().await;
            self.trim_journal().await;
        }
    }

    /// What is remembered of resources that are gone. A list that came after a watch was lost does not tell of the end of any.
    fn forget(&self, ready: &Ready) {
        let Some(resources) = self.context.resources() else {
            return;
        };
        let is_there = |resource: &ObjectRef<ApiAccount>| !resources.lacks(resource);
        self.context.waiting.retain(is_there);
        self.context.versions.retain(is_there);
        // Who was looked at has taken the account, or will not.
        ready.startup_accounts.retain(|owner| {
            let resource = resource(owner);
            is_there(&resource) && !self.context.memory.was_attempted(&resource)
        });
        self.context.memory.retain(is_there);
    }

    /// What happened longer ago than the journal is to tell, not more often than it is worth.
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
                tracing::info!(entries, "removed from the journal what is older than it is kept");
            }
            Err(error) => {
                tracing::warn!(%error, "the journal could not be shortened; trying again after the next sweep");
            }
        }
    }

    async fn look_for_orphans(&mut self, ready: &Ready) {
        match self.database.live(&self.context.cluster).await {
            Ok(live) => self.orphans.check(live, &self.context, ready, Instant::now()).await,
            Err(error) => tracing::debug!(%error, "the live accounts could not be read"),
        }
    }

    async fn purge(&mut self) {
        let (now, started) = (self.context.environment.now(), Instant::now());
        let (Ok(before), Some(resources)) = (now.checked_sub(self.retention), self.context.resources()) else {
            return;
        };
        // One that is refused or paused may yet be healed, and one in a namespace that is not watched may be there.
        let is_kept =
            |owner: &Owner| !resources.lacks(&resource(owner)) || self.unpurgeable.is_left_alone(owner, started);
        let purged = match self.database.purge(&self.context.cluster, &is_kept, before, now).await {
            Ok(purged) => purged,
            Err(error) => {
                tracing::warn!(%error, "what was deleted long ago could not be purged; trying again after the next sweep");
                return;
            }
        };
        if purged.accounts > 0 {
            tracing::info!(accounts = purged.accounts, "purged what was deleted longer ago than it is kept");
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
    /// Whether it was tried not long ago.
    fn is_left_alone(&self, owner: &Owner, now: Instant) -> bool {
        self.0.get(owner).is_some_and(|left| now < left.until)
    }

    /// Takes in which of those that were tried are still there, and answers with those that nobody was told of.
    fn record(&mut self, refused: Vec<Unpurged>, now: Instant) -> Vec<Unpurged> {
        let is_refused = |owner: &Owner| refused.iter().any(|unpurged| unpurged.owner == *owner);
        self.0.retain(|owner, left| now < left.until || is_refused(owner));
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

fn resource(owner: &Owner) -> ObjectRef<ApiAccount> {
    ObjectRef::new(&owner.name).within(&owner.namespace)
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
    fn who_cannot_be_purged_is_told_of_once_and_tried_less_and_less_often() {
        let (mut unpurgeable, start) = (PurgeFailures::default(), Instant::now());
        let first = BACKOFF.pause(0);
        let (acme, bolt) = (unpurged("acme"), unpurged("bolt"));
        assert_eq!(unpurgeable.record(vec![acme.clone()], start), std::slice::from_ref(&acme));
        let soon = start + first / 2;
        assert!(unpurgeable.is_left_alone(&acme.owner, soon) && !unpurgeable.is_left_alone(&bolt.owner, soon));
        assert_eq!(unpurgeable.record(vec![bolt.clone()], soon), std::slice::from_ref(&bolt));
        let later = start + first;
        assert!(!unpurgeable.is_left_alone(&acme.owner, later) && unpurgeable.is_left_alone(&bolt.owner, later));
        assert_eq!(unpurgeable.record(vec![acme.clone()], later), []);
        assert!(unpurgeable.is_left_alone(&acme.owner, later + first));
        assert!(!unpurgeable.is_left_alone(&acme.owner, later + first * 2));
        // It was tried, and nobody complained.
        unpurgeable.record(Vec::new(), later + first * 2);
        assert!(unpurgeable.0.is_empty());
    }
}
