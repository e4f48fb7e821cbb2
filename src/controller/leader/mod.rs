//! Leader election: of several controllers for the same resources, one writes.
//!
//! The election itself is in `election.rs`, pure. `lease.rs` is the Lease on the cluster, and `drive.rs` connects the two.
//! `fence.rs` stops every external write when the leadership ends: `client.rs` and `executor.rs` for the API server,
//! `database.rs` for the account database. A process that lost the Lease ends, and Kubernetes starts it again as a follower.

mod client;
mod clock;
mod database;
mod drive;
mod election;
mod executor;
mod fence;
mod lease;

pub(super) use client::fenced;
pub(super) use database::FencedDatabase;
pub use election::Loss;
pub use executor::LeaderExecutor;
pub(super) use fence::Leadership;
pub use lease::LeaseSettings;

use crate::controller::ControllerError;
use crate::reconcile::Environment;
use drive::Drive;
use kube::Client;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// The election in which a controller takes part, if it takes part in one, and its place in it.
#[derive(Clone)]
pub struct Election {
    lease: Option<LeaseSettings>,
    leadership: Leadership,
}

impl Election {
    /// Without a Lease there is no election, and the controller always leads.
    pub fn new(lease: Option<LeaseSettings>) -> Self {
        let leadership = if lease.is_some() { Leadership::candidate() } else { Leadership::unelected() };
        Self { lease, leadership }
    }

    /// Returns the executor for the connections on which the controller writes.
    pub fn executor(&self) -> LeaderExecutor {
        LeaderExecutor::new(self.leadership.clone())
    }

    pub(super) fn leadership(&self) -> &Leadership {
        &self.leadership
    }
}

/// The election in a task of its own, so that a busy controller does not miss a renewal. It ends when this value is
/// dropped.
pub(super) struct RunningElection {
    lease: String,
    task: JoinSet<Result<(), Loss>>,
    stop: Option<oneshot::Sender<()>>,
}

impl RunningElection {
    /// Starts to take part in the election.
    pub fn start(client: Client, election: Election, environment: Arc<dyn Environment>) -> Self {
        let (mut task, (stop, stopped)) = (JoinSet::new(), oneshot::channel());
        let mut lease = String::new();
        if let Some(settings) = election.lease {
            lease = format!("{}/{}", settings.namespace, settings.name);
            task.spawn(Drive::new(client, settings, election.leadership, environment).run(stopped));
        }
        Self { lease, task, stop: Some(stop) }
    }

    /// Waits until the leadership is lost, and returns the reason. Never completes before that.
    pub async fn lost(&mut self) -> ControllerError {
        match self.task.join_next().await {
            None | Some(Ok(Ok(()))) => std::future::pending().await,
            Some(Ok(Err(loss))) => ControllerError::LeaseLost { lease: self.lease.clone(), loss },
            Some(Err(_)) => {
                let last_failure = Some("the task of the election panicked, which is a bug in opsadmin".to_owned());
                ControllerError::LeaseLost { lease: self.lease.clone(), loss: Loss::Expired { last_failure } }
            }
        }
    }

    /// Releases the Lease if this process holds it. All writes must have ended.
    pub async fn release(mut self) {
        drop(self.stop.take());
        if let Some(Ok(Err(_)) | Err(_)) = self.task.join_next().await {
            tracing::warn!(lease = self.lease, "the Lease was lost while the controller was stopping");
        }
    }
}
