//! Detects changes of accounts by other programs and users: at once by notifications of the database where it sends
//! them, and in any case by a periodic sweep.
//!
//! A sweep asks what changed since the last one, and compares the versions with those that were last reconciled. Where
//! the database cannot tell what changed, and once an hour, a sweep compares all accounts, page by page.
//! Both ways only put resources into the work queue; the reconcile decides what to do.

use super::cleanup::Cleanup;
use super::connect::{Connection, Ready};
use super::context::Context;
use super::queues::Queues;
use super::resources::resource;
use crate::account::{Owner, Version};
use crate::api::ApiAccount;
use crate::database::{AccountDatabase, Changed, Changes, DatabaseError, SweepMark};
use crate::reconcile::has_unshown_use;
use crate::telemetry::SweepResult;
use futures::StreamExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::HashSet;
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

/// How often all accounts are compared although the database tells what changed.
const COMPARE_ALL_EVERY: Duration = Duration::from_hours(1);

/// The number of accounts that are read at a time when all are compared.
const PAGE: usize = 5_000;

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
        let mut looked = Looked::default();
        let mut origin = self.origin().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the first sweep finds out which history the account database continues");
            Origin::default()
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
                    last = self.sweep(&ready, last, &mut looked, &mut origin).await;
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

    async fn origin(&self) -> Result<Origin, DatabaseError> {
        let history = self.database.history().await?;
        Ok(Origin { identity: self.context.creations.identity(), history })
    }

    /// Returns the resources to reconcile because the data has another origin than `known`, which then is the new one.
    async fn doubted(&self, known: &mut Origin) -> Result<Vec<Resource>, DatabaseError> {
        if !known.update(self.origin().await?) {
            return Ok(Vec::new());
        }
        let doubted = self.context.versions.doubted();
        tracing::warn!(
            accounts = doubted.len(),
            "the account database is another one than before, or continues from an earlier state, as after the failover \
             to a standby; its last changes may be lost, and every account is compared again"
        );
        Ok(doubted)
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

    /// Sweeps once. `last` is the result of the previous sweep: a warning is not logged twice in a row. `origin` is the
    /// origin of the data that was known before.
    async fn sweep(&self, ready: &Ready, last: SweepResult, looked: &mut Looked, origin: &mut Origin) -> SweepResult {
        let result = self.look_and_requeue(ready, last, looked, origin).await;
        if result == SweepResult::Failed {
            // What was found is not requeued, and the database would not tell it again.
            *looked = Looked::default();
        }
        result
    }

    async fn look_and_requeue(
        &self,
        ready: &Ready,
        last: SweepResult,
        looked: &mut Looked,
        origin: &mut Origin,
    ) -> SweepResult {
        let asked = Instant::now();
        let found = match self.look(ready, looked, asked).await {
            Ok(found) => found,
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
        let doubted = match self.doubted(origin).await {
            Ok(doubted) => doubted,
            Err(error) => {
                tracing::debug!(%error, "a sweep could not tell which history the account database continues");
                return SweepResult::Failed;
            }
        };
        self.context.waiting.database_answered(asked);
        let is_empty = found.has_no_account && !self.context.versions.is_empty();
        if is_empty && last != SweepResult::Empty {
            // The creation guard decides for each resource whether its account is created again.
            tracing::warn!("a sweep for changes by others found no account at all");
        }
        tracing::debug!(read = found.read, changed = found.changed.len(), "swept for changes by others");
        let used = self.newly_used().await;
        for resource in found.changed.into_iter().chain(doubted).chain(found.again).chain(used) {
            self.queues.send(&resource);
        }
        if is_empty { SweepResult::Empty } else { SweepResult::Done }
    }

    /// Looks for accounts that differ from what was last reconciled: among those that changed since the last look if the
    /// database tells them, and among all otherwise, and now and then.
    async fn look(&self, ready: &Ready, looked: &mut Looked, asked: Instant) -> Result<Found, DatabaseError> {
        let is_due = looked.at_all.is_none_or(|at| asked.duration_since(at) >= COMPARE_ALL_EVERY);
        let since = looked.mark.take().filter(|_| !is_due);
        let Changes { accounts, mark } = self.database.changes_since(&self.context.cluster, since.as_ref()).await?;
        let found = match accounts {
            // To release a held creation, it must be known which accounts are there.
            Some(changed) if !is_due && !self.context.creations.holds_any() => {
                let found = self.compare(ready, &changed, asked);
                // No account came since all were compared.
                Found { has_no_account: looked.has_no_account, ..found }
            }
            _ => {
                let found = self.compare_all(ready, asked).await?;
                (looked.at_all, looked.has_no_account) = (Some(asked), found.has_no_account);
                found
            }
        };
        looked.mark = mark;
        Ok(found)
    }

    fn compare(&self, ready: &Ready, read: &[(Owner, Version)], asked: Instant) -> Found {
        for (owner, version) in read {
            ready.startup_accounts.account_changed(owner, Some(*version));
        }
        Found { read: read.len(), changed: self.context.versions.changed_among(read, asked), ..Found::default() }
    }

    /// Compares all accounts, page by page.
    async fn compare_all(&self, ready: &Ready, asked: Instant) -> Result<Found, DatabaseError> {
        let (database, cluster) = (&self.database, &self.context.cluster);
        let is_held = self.context.creations.holds_any();
        let (mut found, mut there) = (Found::default(), HashSet::new());
        let mut awaited = ready.startup_accounts.owners();
        self.context.versions.begin_comparison();
        let mut last = None;
        loop {
            let page = database.versions_after(cluster, last.as_ref(), PAGE).await?;
            let Found { read, changed, .. } = self.compare(ready, &page, asked);
            found.read += read;
            found.changed.extend(changed);
            for (owner, _) in &page {
                awaited.remove(owner);
                if is_held {
                    there.insert(owner.clone());
                }
            }
            match page.into_iter().next_back() {
                Some((owner, _)) if read == PAGE => last = Some(owner),
                _ => break,
            }
        }
        for owner in &awaited {
            ready.startup_accounts.account_changed(owner, None);
        }
        found.changed.extend(self.context.versions.not_found(asked));
        found.has_no_account = found.read == 0;
        if is_held {
            found.again = self.context.creations.resources_to_retry(&there).await;
        }
        Ok(found)
    }
}

/// What earlier sweeps looked at.
#[derive(Default)]
struct Looked {
    /// The database's mark of the last look.
    mark: Option<SweepMark>,
    /// When all accounts were compared.
    at_all: Option<Instant>,
    /// Whether there was no account then.
    has_no_account: bool,
}

/// Where the data of the database comes from, as far as the database tells.
#[derive(Default)]
struct Origin {
    /// As [`AccountDatabase::identity`].
    identity: Option<String>,
    /// As [`AccountDatabase::history`].
    history: Option<String>,
}

impl Origin {
    /// Takes what the database tells now, and returns whether any of it differs from what it told before. What it does
    /// not tell now stays known.
    fn update(&mut self, now: Self) -> bool {
        let is_other = |known: &mut Option<String>, now: Option<String>| {
            now.is_some_and(|now| known.replace(now.clone()).is_some_and(|before| before != now))
        };
        let is_other_database = is_other(&mut self.identity, now.identity);
        is_other(&mut self.history, now.history) || is_other_database
    }
}

/// What a look found.
#[derive(Default)]
struct Found {
    /// How many accounts were read.
    read: usize,
    /// The resources whose account differs from what was last reconciled.
    changed: Vec<Resource>,
    /// The resources whose creation is no longer held.
    again: Vec<Resource>,
    /// Whether the database has no account at all.
    has_no_account: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_origin_is_noticed_once_also_after_a_time_without_an_answer() {
        let origin = |identity: Option<&str>, history: Option<&str>| Origin {
            identity: identity.map(str::to_owned),
            history: history.map(str::to_owned),
        };
        let mut known = Origin::default();
        for (now, is_other) in [
            (origin(Some("a"), Some("1")), false),
            (origin(Some("a"), Some("2")), true),
            (origin(Some("a"), Some("2")), false),
            (origin(None, None), false),
            (origin(Some("a"), Some("3")), true),
            (origin(Some("b"), None), true),
            (origin(Some("c"), Some("4")), true),
            (origin(Some("c"), Some("4")), false),
        ] {
            assert_eq!(known.update(now), is_other, "{:?} {:?}", known.identity, known.history);
        }
    }
}
