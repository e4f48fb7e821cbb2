//! The tasks of the connections on which a leader writes to the API server.
//!
//! An HTTP client hands a request to the task of a connection, which sends it. A process that is stopped in between would
//! send the request when it goes on, even if the request's own future is dropped first. So the task is behind the fence
//! too: it sends nothing after the leadership has ended.

use super::fence::Leadership;
use hyper::rt::Executor;
use tokio::spawn;

/// Runs a future in a task as long as this process leads. Then the future is dropped, which closes its connection.
#[derive(Clone)]
pub struct LeaderExecutor(Leadership);

impl LeaderExecutor {
    pub(super) fn new(leadership: Leadership) -> Self {
        Self(leadership)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for LeaderExecutor {
    fn execute(&self, work: F) {
        let leadership = self.0.clone();
        spawn(async move {
            if leadership.guard(work).await.is_err() {
                tracing::debug!("a connection was closed, because this controller does not lead any more");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::leader::clock;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;
    use tokio::task::yield_now;
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_connection_sends_nothing_after_the_end_of_the_leadership() {
        let leadership = Leadership::candidate();
        leadership.set(true, Some(clock::now().after(Duration::from_millis(50))));
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let (closed_sender, closed) = tokio::sync::oneshot::channel::<()>();
        LeaderExecutor::new(leadership).execute(async move {
            // It is dropped with this future.
            let _connection = closed_sender;
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                // The whole process stands still here, as if it were stopped by a signal.
                std::thread::sleep(Duration::from_millis(100));
                yield_now().await;
            }
        });
        let closed = timeout(Duration::from_secs(10), closed).await.expect("the connection is closed");
        assert!(closed.is_err());
        assert_eq!(sent.load(Ordering::Relaxed), 1);
    }
}
