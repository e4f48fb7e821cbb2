//! What every resource is reconciled with: the client, the caches, and what the controller remembers.

use super::brake::Brake;
use super::connect::{Connection, Ready};
use super::creation::ClusterCreationGuard;
use super::events::Events;
use super::freeze::Freeze;
use super::in_work::InWork;
use super::last_uses::LastUses;
use super::leader::Leadership;
use super::memory::Memory;
use super::pickup::Pickups;
use super::refusal_limit::RefusalLimit;
use super::resources::{Resources, Stores};
use super::revocations::Revocations;
use super::versions::Versions;
use super::waiting::Waiting;
use super::work::Action;
use crate::account::{ClusterId, Period, Requester};
use crate::api::ApiAccount;
use crate::backoff::spread;
use crate::database::DatabaseError;
use crate::reconcile::{Done, Environment, NotReady, Outcome, awaits_confirmation};
use crate::telemetry::Metrics;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// The longest pause before the next attempt after an error that may pass by itself.
pub(super) const LONGEST_BACKOFF: Duration = Duration::from_mins(1);

/// When to reconcile again, and the outcome if there was an attempt at all.
pub(super) type ReconcileResult = Result<(Action, Option<Outcome>), kube::Error>;

/// What every resource is reconciled with.
pub(super) struct Context {
    pub client: Client,
    pub cluster: ClusterId,
    pub connection: watch::Receiver<Connection>,
    /// Whether the account database has been reached once.
    pub reached: Arc<AtomicBool>,
    /// Whether this process leads.
    pub leadership: Leadership,
    /// Whether the controller only observes and reports.
    pub freeze: Freeze,
    /// When this process began to lead; unset before that.
    pub leads_since: OnceLock<Instant>,
    pub events: Events,
    pub refusals: RefusalLimit,
    pub memory: Arc<Memory>,
    pub pickups: Pickups,
    pub versions: Versions,
    pub last_uses: LastUses,
    pub revocations: Revocations,
    pub brake: Brake,
    pub waiting: Waiting,
    pub creations: Arc<ClusterCreationGuard>,
    pub stores: Arc<Stores>,
    /// How many scopes are watched.
    pub scopes: usize,
    /// One permit for each resource that may be reconciled at a time. Closed once the controller is stopping.
    pub slots: Semaphore,
    pub in_work: Arc<InWork>,
    /// The shortest interval at which keys may be rotated automatically.
    pub least_interval: Period,
    /// Time and randomness.
    pub environment: Arc<dyn Environment>,
    pub metrics: Arc<Metrics>,
}

impl Context {
    /// Returns the existing resources, once all of them have been listed.
    pub fn resources(&self) -> Option<Resources> {
        self.stores.complete(self.scopes)
    }

    /// Prepares to reconcile every resource as the leader. Another controller may have led until now, so what this one
    /// remembers from its time as a follower is checked again: declarations are confirmed before a change, and the
    /// deletions that are held are those of the present statuses.
    pub fn begin_leading(&self) {
        if self.leadership.is_elected() {
            self.memory.distrust_watches();
            let held = self.stores.seen().filter(|resource| awaits_confirmation(resource));
            self.brake.restart(held.map(|resource| ObjectRef::from_obj(&*resource)));
        }
        self.leads_since.get_or_init(Instant::now);
    }

    /// Waits until the first attempt to connect has ended, so that a start does not look like an outage. Returns `None`
    /// when the controller is stopping.
    pub async fn ready(&self) -> Option<Result<Arc<Ready>, NotReady>> {
        let mut connection = self.connection.clone();
        let tried = connection.wait_for(|connection| !matches!(connection, Connection::Trying)).await;
        match tried.as_deref().ok()? {
            Connection::Trying => None,
            Connection::Ready(ready) => Some(Ok(Arc::clone(ready))),
            Connection::Waiting { reason, is_login } => {
                let reason = reason.clone();
                Some(Err(NotReady::Database(if *is_login {
                    DatabaseError::LoginRefused { reason }
                } else {
                    DatabaseError::Unavailable { reason }
                })))
            }
        }
    }

    /// Requeues the resource after a failure, with backoff up to `longest`.
    pub fn retry_later(&self, resource: &ApiAccount, longest: Duration) -> Action {
        Action::requeue(self.memory.pause_after_failure(resource, longest, self.environment.jitter()))
    }

    /// Requeues a resource after about this pause, spread by jitter.
    pub fn requeue_spread(&self, pause: Duration) -> Action {
        Action::requeue(spread(pause, self.environment.jitter()))
    }

    /// Logs and counts each thing that was done for a resource, with who requested it.
    pub fn log_done_for(&self, resource: &ApiAccount, done: &[Done]) {
        let requested_by = self.memory.requested_by(resource);
        self.log_done(&resource.namespace().unwrap_or_default(), &resource.name_any(), requested_by.as_ref(), done);
    }

    /// Logs and counts each thing that was done.
    pub fn log_done(&self, namespace: &str, name: &str, requested_by: Option<&Requester>, done: &[Done]) {
        let requested_by = requested_by.map(Requester::as_str);
        for done in done {
            tracing::info!(namespace, name, change = done.reason(), requested_by, "{done}");
            self.metrics.done(done);
        }
    }
}
