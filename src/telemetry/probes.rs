//! The liveness and readiness probes.
//!
//! Liveness: the controller's own task must answer, since a separate server would still answer while that task is
//! stuck. A task that waits, for example for the database, is alive.
//!
//! Readiness: the controller has had everything that it needs at least once. It then stays ready, also while the
//! database is unavailable: the process serves no traffic that could go elsewhere, and it still writes conditions.

use super::controller_stats::ControllerHandle;
use futures::future::{Either, select};
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long the controller's task may take to answer. The kubelet's default timeout is shorter.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How many liveness probes can wait for an answer at a time.
const MAX_WAITING: usize = 16;

/// Answers probes.
#[derive(Debug)]
pub struct Probes {
    controller_handle: ControllerHandle,
    questions: mpsc::Sender<oneshot::Sender<()>>,
}

/// The controller's side of the liveness probe: it answers the probe from the controller's task.
#[derive(Debug)]
pub struct Liveness(mpsc::Receiver<oneshot::Sender<()>>);

impl Probes {
    pub(super) fn new(controller_handle: ControllerHandle) -> (Self, Liveness) {
        let (questions, asked) = mpsc::channel(MAX_WAITING);
        (Self { controller_handle, questions }, Liveness(asked))
    }

    /// Returns whether the controller's task answers in time.
    pub async fn is_alive(&self) -> bool {
        self.answers_within(CALL_TIMEOUT).await
    }

    async fn answers_within(&self, time: Duration) -> bool {
        let asked = async {
            let (answer, answered) = oneshot::channel();
            self.questions.send(answer).await.is_ok() && answered.await.is_ok()
        };
        timeout(time, asked).await.unwrap_or(false)
    }

    /// Returns what the controller still waits for before it is ready; empty if it is ready.
    pub fn missing_for_readiness(&self) -> Vec<&'static str> {
        self.controller_handle.get().map_or_else(|| vec!["the start"], |stats| stats.missing_for_readiness())
    }
}

impl Liveness {
    /// Runs `work`, and answers liveness probes from the same task until it ends.
    pub async fn run<T>(mut self, work: impl Future<Output = T>) -> T {
        // `select` polls the answers first, so that a busy controller does not look dead.
        match select(pin!(self.answer()), pin!(work)).await {
            Either::Left((never, _)) => match never {},
            Either::Right((done, _)) => done,
        }
    }

    async fn answer(&mut self) -> Infallible {
        while let Some(asker) = self.0.recv().await {
            if asker.send(()).is_err() {
                tracing::debug!("a probe did not wait for its answer");
            }
        }
        // All senders are dropped, so no probe can come any more.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{ControllerStats, Fleet, Telemetry};
    use std::sync::{Arc, Weak, mpsc as blocking};

    #[tokio::test]
    async fn a_task_that_waits_is_alive_and_one_that_has_ended_is_not() {
        let (telemetry, liveness) = Telemetry::new();
        let (done, waits) = oneshot::channel::<()>();
        let task = tokio::spawn(liveness.run(waits));
        assert!(telemetry.probes.is_alive().await);
        done.send(()).unwrap();
        task.await.unwrap().unwrap();
        assert!(!telemetry.probes.is_alive().await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_task_that_blocks_is_not_alive_until_it_continues() {
        let (telemetry, liveness) = Telemetry::new();
        let (entered, is_stuck) = oneshot::channel();
        let (release, released) = blocking::channel::<()>();
        let task = tokio::spawn(liveness.run(async move {
            entered.send(()).unwrap();
            // Blocks the task's thread.
            released.recv().unwrap();
            std::future::pending::<()>().await;
        }));
        is_stuck.await.unwrap();
        assert!(!telemetry.probes.answers_within(Duration::from_millis(50)).await);
        release.send(()).unwrap();
        assert!(telemetry.probes.is_alive().await);
        task.abort();
    }

    struct Waiting(Vec<&'static str>);

    impl ControllerStats for Waiting {
        fn fleet(&self) -> Option<Fleet> {
            None
        }

        fn held_deletions(&self) -> Option<usize> {
            None
        }

        fn is_leader(&self) -> bool {
            false
        }

        fn is_frozen(&self) -> bool {
            false
        }

        fn missing_for_readiness(&self) -> Vec<&'static str> {
            self.0.clone()
        }
    }

    #[test]
    fn the_process_is_not_ready_before_its_controller_is_set() {
        let (telemetry, _liveness) = Telemetry::new();
        assert_eq!(telemetry.probes.missing_for_readiness(), ["the start"]);
        let controller: Arc<dyn ControllerStats> = Arc::new(Waiting(vec!["the account database"]));
        telemetry.set_controller(Arc::downgrade(&controller));
        assert_eq!(telemetry.probes.missing_for_readiness(), ["the account database"]);
        let other: Arc<dyn ControllerStats> = Arc::new(Waiting(Vec::new()));
        telemetry.set_controller(Arc::downgrade(&other) as Weak<dyn ControllerStats>);
        assert_eq!(telemetry.probes.missing_for_readiness(), ["the account database"], "the first one counts");
    }
}
