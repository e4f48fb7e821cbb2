//! Detects changes of accounts by other programs and users: at once by notifications of the database where it sends
//! them, and in any case by a periodic sweep.
//!
//! A sweep reads the version of every account in one query, and compares it with the version that was last reconciled.
//! Both ways only put resources into the work queue; the reconcile decides what to do.

use super::cleanup::Cleanup;
use super::connect::{Connection, Ready};
use super::context::Context;
use super::queues::Queues;
use super::resources::resource;
use crate::account::{Owner, Version};
use crate::api::ApiAccount;
use crate::database::{AccountDatabase, Changed, DatabaseError};
use crate::reconcile::has_unshown_use;
use crate::telemetry::SweepResult;
use futures::StreamExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant as Due, sleep_until};

/// The shortest time between two sweeps, however often the database reports that anything may have changed.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// The pause after a failed sweep. Also the interval at which the database is asked whether it answers while any
/// resource waits for it.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

type Resource = ObjectRef<ApiAccount>;

/// Detects changes of accounts by other programs and users.
pub(super) struct Sweeper {
    pub context: Arc<Context>,
    pub database: Arc<dyn AccountDatabase>,
    pub queues: Queues,
    /// The longest time between two sweeps.
    pub interval: Duration,
}

impl Sweeper {
    /// Runs for as long as it is polled. After each successful sweep, `cleanup` does its work.
    pub async fn run(self, cleanup: Cleanup) {
        let mut connection = self.context.connection.clone();
        let ready = match connection.wait_for(|connection| matches!(connection, Connection::Ready(_))).await.as_deref()
        {
            Ok(Connection::Ready(ready)) => Arc::clone(ready),
            // The sender is gone: the controller is ending.
            _ => return std::future::pending().await,
        };
        let swept_well = Arc::new(Notify::new());
        // The cleanup ends together with this function. It has its own task, because the liveness probe must not wait
        // for it.
        let mut cleaning = JoinSet::new();
        cleaning.spawn(cleanup.run(Arc::clone(&ready), Arc::clone(&swept_well)));
        let mut notifications = self.database.changes().fuse();
        let mut last = SweepResult::Done;
        let mut swept = Due::now();
        let mut due = swept + self.pause(last);
        let mut probe = swept;
        let mut history = self.database.history().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the first sweep finds out which history the account database continues");
            None
        });
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
                        "the account database does not report changes; only the sweep finds changes by others",
                    ),
                },
                () = self.context.waiting.database_wait_began() => {
                    if probe <= Due::now() {
                        probe = Due::now() + self.spread(AFTER_FAILURE);
                    }
                }
                // One query finds out for all waiting resources whether the database answers again. No sweep is made
                // for this: often the database has answered all the time, and only one row is locked.
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
                    last = self.sweep(&ready, last, &mut history).await;
                    self.context.metrics.swept(last, self.context.environment.now());
                    // Nothing is disabled or purged in a database that may be the wrong one.
                    if last == SweepResult::Done && !self.context.creations.may_be_wrong_database() {
                        swept_well.notify_one();
                    }
                    swept = Due::now();
                    due = swept + self.pause(last);
                }
            }
        }
    }

    fn pause(&self, last: SweepResult) -> Duration {
        let is_urgent = last == SweepResult::Failed || self.context.creations.holds_any();
        self.spread(if is_urgent { self.interval.min(AFTER_FAILURE) } else { self.interval })
    }

    /// Shortens an interval by up to a fifth, so that controllers that started together do not sweep at the same time.
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
        let was_held = version.is_some() && self.context.creations.holds(&resource);
        if self.context.versions.account_changed(&resource, version) || was_held {
            tracing::debug!(%resource, "another writer changed the account");
            self.queues.send(&resource);
            self.context.waiting.account_changed();
        }
    }

    /// Returns the resources to reconcile because the database continues another history than `known`, which then is the
    /// new one.
    async fn doubted(&self, known: &mut Option<String>) -> Result<Vec<Resource>, DatabaseError> {
        let Some(history) = self.database.history().await? else { return Ok(Vec::new()) };
        match known.replace(history.clone()) {
            Some(before) if before != history => {
                let doubted = self.context.versions.doubted();
                tracing::warn!(
                    accounts = doubted.len(),
                    "the account database continues from an earlier state, as after the failover to a standby; its last \
                     changes may be lost, and every account is compared again"
                );
                Ok(doubted)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Reads when key pairs were used, and returns the resources whose status does not show a use that is worth a write.
    /// Without an answer, statuses keep what they show.
    async fn newly_used(&self) -> Vec<Resource> {
        match self.database.key_uses(&self.context.cluster).await {
            Ok(uses) => self.context.last_uses.replace(uses),
            Err(error) => {
                tracing::warn!(%error, "a sweep could not read when key pairs were used; statuses do not show it");
                return Vec::new();
            }
        }
        self.context.last_uses.resources_with(|resource, uses| {
            let shown = self.context.stores.get(resource);
            shown.is_some_and(|shown| {
                self.context
                    .memory
                    .with_status(&shown, |status| status.is_some_and(|status| has_unshown_use(&status.keys, uses)))
            })
        })
    }

    /// Sweeps once. `last` is the result of the previous sweep: a warning is not logged twice in a row. `history` is the
    /// history of the database that was known before.
    async fn sweep(&self, ready: &Ready, last: SweepResult, history: &mut Option<String>) -> SweepResult {
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
            tracing::debug!(%error, "a sweep could not identify the account database");
            return SweepResult::Failed;
        }
        // Asked after the versions: if the database was replaced in between, every account is compared with the new one.
        let doubted = match self.doubted(history).await {
            Ok(doubted) => doubted,
            Err(error) => {
                tracing::debug!(%error, "a sweep could not tell which history the account database continues");
                return SweepResult::Failed;
            }
        };
        self.context.waiting.database_answered(asked);
        let is_empty = versions.is_empty() && !self.context.versions.is_empty();
        if is_empty && last != SweepResult::Empty {
            // The creation guard decides for each resource whether its account is created again.
            tracing::warn!("a sweep for changes by others found no account at all");
        }
        ready.startup_accounts.retain_current(&versions);
        let listed = versions.iter().map(|(owner, version)| (resource(owner), *version)).collect();
        let changed = self.context.versions.changed_since(&listed, asked);
        tracing::debug!(accounts = versions.len(), changed = changed.len(), "swept for changes by others");
        let again = self.context.creations.resources_to_retry(&versions).await;
        let used = self.newly_used().await;
        for resource in changed.into_iter().chain(doubted).chain(again).chain(used) {
            self.queues.send(&resource);
        }
        if is_empty { SweepResult::Empty } else { SweepResult::Done }
    }
}
