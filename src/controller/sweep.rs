//! Noticing that somebody else changed an account: at once where the database tells of it, and by a sweep everywhere.
//!
//! A sweep reads every account's version in one query and compares it with the version that was last reconciled. Either
//! way only says which resources to look at; what to do is decided by what is read then.

use super::cleanup::Cleanup;
use super::connect::{Connection, Ready};
use super::context::Context;
use super::queues::Queues;
use crate::account::{Owner, Version};
use crate::api::ApiAccount;
use crate::database::{AccountDatabase, Changed};
use crate::telemetry::SweepResult;
use futures::StreamExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant as Due, sleep_until};

/// The shortest time from one sweep to the next, however often the database says that anything may have changed.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// How soon to sweep again after one that failed: what it should have found is still to be found. And how soon to ask whether
/// the database answers, while any resource waits for that.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Looks for changes by others.
pub(super) struct Sweeper {
    pub context: Arc<Context>,
    pub database: Arc<dyn AccountDatabase>,
    pub queues: Queues,
    /// The longest time from one sweep to the next.
    pub interval: Duration,
}

impl Sweeper {
    /// Looks for as long as it is polled. After each sweep, `cleanup` does what is not urgent.
    pub async fn run(self, cleanup: Cleanup) {
        let mut connection = self.context.connection.clone();
        let ready = match connection.wait_for(|connection| matches!(connection, Connection::Ready(_))).await.as_deref()
        {
            Ok(Connection::Ready(ready)) => Arc::clone(ready),
            // It will never be: the controller is ending.
            _ => return std::future::pending().await,
        };
        let swept_well = Arc::new(Notify::new());
        // Ends with this. The task that answers whether the controller is alive must not wait for it.
        let mut tidying = JoinSet::new();
        tidying.spawn(cleanup.run(Arc::clone(&ready), Arc::clone(&swept_well)));
        let mut notifications = self.database.changes().fuse();
        let mut last = SweepResult::Done;
        let mut swept = Due::now();
        let mut due = swept + self.pause(last);
        let mut probe = swept;
        loop {
            tokio::select! {
                Some(changed) = notifications.next() => match changed {
                    Changed::Account { owner, version } => self.account_changed(&ready, &owner, version),
                    Changed::Anything => {
                        self.context.waiting.database_answered(Instant::now());
                        self.context.waiting.account_changed();
                        due = due.min(swept + SHORTEST_PAUSE);
                    }
                    Changed::Silence { reason } => tracing::warn!(
                        %reason,
                        interval = ?self.interval,
                        "the account database tells nobody of changes; those by others are found by the sweep alone",
                    ),
                },
                () = self.context.waiting.database_wait_began() => {
                    if probe <= Due::now() {
                        probe = Due::now() + self.spread(AFTER_FAILURE);
                    }
                }
                // Somebody has to find out when the database answers again, and one query does so for all. Often it does all
                // the time, and one row is locked: that is no reason to sweep.
                () = sleep_until(probe), if last != SweepResult::Failed && self.context.waiting.any_wait_for_database() => {
                    match self.database.answers().await {
                        Ok(()) => self.context.waiting.database_answered(Instant::now()),
                        Err(error) => {
                            tracing::debug!(%error, "the account database does not answer yet");
                            due = due.min(Due::now());
                        }
                    }
                    probe = Due::now() + self.spread(AFTER_FAILURE);
                }
                () = sleep_until(due) => {
                    last = self.sweep(&ready, last).await;
                    self.context.metrics.swept(last, self.context.environment.now());
                    // In what may be the wrong database, nothing is to be disabled or purged.
                    if last == SweepResult::Done && !self.context.creations.is_doubtful() {
                        swept_well.notify_one();
                    }
                    swept = Due::now();
                    due = swept + self.pause(last);
                }
            }
        }
    }

    fn pause(&self, last: SweepResult) -> Duration {
        let is_urgent = last == SweepResult::Failed || self.context.creations.is_holding();
        self.spread(if is_urgent { self.interval.min(AFTER_FAILURE) } else { self.interval })
    }

    /// Shortens an interval by up to a fifth, so that controllers that were started together do not sweep together.
    fn spread(&self, longest: Duration) -> Duration {
        longest.mul_f64(0.8 + 0.2 * self.context.environment.jitter())
    }

    fn account_changed(&self, ready: &Ready, owner: &Owner, version: Option<Version>) {
        if owner.cluster != self.context.cluster {
            self.context.waiting.account_changed();
            return;
        }
        ready.startup_accounts.account_changed(owner, version);
        let resource = resource(owner);
        let is_back = version.is_some() && self.context.creations.holds(&resource);
        if self.context.versions.account_changed(&resource, version) || is_back {
            tracing::debug!(%resource, "somebody else changed the account");
            self.queues.send(&resource);
            self.context.waiting.account_changed();
        }
    }

    /// The same trouble as the last time is not told again.
    async fn sweep(&self, ready: &Ready, last: SweepResult) -> SweepResult {
        let asked = Instant::now();
        let versions: HashMap<Owner, Version> = match self.database.versions(&self.context.cluster).await {
            Ok(versions) => versions.into_iter().collect(),
            Err(error) => {
                if last == SweepResult::Failed {
                    tracing::debug!(%error, "a sweep failed again");
                } else {
                    tracing::warn!(%error, "a sweep for changes by others failed; trying again");
                }
                return SweepResult::Failed;
            }
        };
        if let Err(error) = self.context.creations.identify().await {
            tracing::debug!(%error, "a sweep could not tell which account database this is");
            return SweepResult::Failed;
        }
        self.context.waiting.database_answered(asked);
        let is_empty = versions.is_empty() && !self.context.versions.is_empty();
        if is_empty && last != SweepResult::Empty {
            // Whether anything is made anew is for the guard of creations to say, on each resource.
            tracing::warn!("a sweep for changes by others found no account at all");
        }
        ready.startup_accounts.retain_current(&versions);
        let listed = versions.iter().map(|(owner, version)| (resource(owner), *version)).collect();
        let changed = self.context.versions.changed_since(&listed, asked);
        tracing::debug!(accounts = versions.len(), changed = changed.len(), "swept for changes by others");
        let again = self.context.creations.resources_to_retry(&versions).await;
        for resource in changed.into_iter().chain(again) {
            self.queues.send(&resource);
        }
        if is_empty { SweepResult::Empty } else { SweepResult::Done }
    }
}

fn resource(owner: &Owner) -> ObjectRef<ApiAccount> {
    ObjectRef::new(&owner.name).within(&owner.namespace)
}
