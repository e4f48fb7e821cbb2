//! The open connections of one server: how many there can be, which one has to go for another, and how all of them end.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::timeout;

/// The open connections of one server.
pub(super) struct Connections {
    most: usize,
    tasks: JoinSet<()>,
    /// Oldest first. Connections that have ended are removed when there is no room.
    by_age: VecDeque<Connection>,
}

struct Connection {
    task: AbortHandle,
    activity: Activity,
}

/// Whether a request is being handled on a connection. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Activity(Arc<AtomicBool>);

/// A request that is being handled, until this is dropped.
#[must_use]
pub(super) struct Handling(Activity);

impl Activity {
    /// Notes that the handling of a request begins. A connection of HTTP/1.1 handles one request after the other.
    pub fn begin(&self) -> Handling {
        self.0.store(true, Ordering::Relaxed);
        Handling(self.clone())
    }

    fn is_idle(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

impl Connections {
    /// Creates an empty set for at most this number of connections.
    pub fn new(most: usize) -> Self {
        Self { most, tasks: JoinSet::new(), by_age: VecDeque::new() }
    }

    /// Runs a connection. Closes another one if there is no room.
    pub fn add(&mut self, activity: Activity, connection: impl Future<Output = ()> + Send + 'static) {
        self.make_room();
        let task = self.tasks.spawn(connection);
        self.by_age.push_back(Connection { task, activity });
    }

    fn make_room(&mut self) {
        if self.by_age.len() < self.most {
            return;
        }
        self.by_age.retain(|connection| !connection.task.is_finished());
        if self.by_age.len() < self.most {
            return;
        }
        let oldest_idle = self.by_age.iter().position(|connection| connection.activity.is_idle());
        if let Some(closed) = self.by_age.remove(oldest_idle.unwrap_or(0)) {
            tracing::debug!(most = self.most, "a connection is closed, because there is no room for a new one");
            closed.task.abort();
        }
    }

    /// Waits until a connection has ended, and forgets it. Waits forever while there is none. Nothing is lost if the
    /// wait is cancelled.
    pub async fn forget_ended(&mut self) {
        match self.tasks.join_next().await {
            Some(ended) => report_panic(ended),
            None => pending().await,
        }
    }

    /// Waits until all connections have ended, at most for this time, and closes the others.
    pub async fn end(mut self, within: Duration) {
        let ended = async {
            while let Some(ended) = self.tasks.join_next().await {
                report_panic(ended);
            }
        };
        if timeout(within, ended).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "requests took too long, and their connections are closed");
            self.tasks.shutdown().await;
        }
    }
}

/// Logs a panic. The other way to end early is to be closed for lack of room, which is regular.
fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "the handling of a request ended in a panic, which is a bug in opsadmin");
    }
}
