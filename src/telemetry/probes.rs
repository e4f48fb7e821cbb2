//! Probes: whether the controller lives, and whether it is ready.
//!
//! *Alive* is asked of the controller's own task. A server beside it would answer for long after that task is stuck. What
//! the task waits for, be it the database for a day, is no matter: waiting is alive.
//!
//! *Ready* says that this process has once got everything that it needs. It stays so: no traffic is sent here that should
//! go elsewhere while the database is away, and the conditions that tell of it are written all the same.

use super::subject::Subject;
use futures::future::{Either, select};
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long the controller's task may take to answer. The kubelet's own patience is shorter unless told otherwise.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How many may ask at a time.
const ASKERS: usize = 16;

/// Answers probes.
#[derive(Debug)]
pub struct Probes {
    subject: Subject,
    pulse: mpsc::Sender<oneshot::Sender<()>>,
}

/// The controller's end of it.
#[derive(Debug)]
pub struct Liveness(mpsc::Receiver<oneshot::Sender<()>>);

impl Probes {
    pub(super) fn new(subject: Subject) -> (Self, Liveness) {
        let (pulse, asked) = mpsc::channel(ASKERS);
        (Self { subject, pulse }, Liveness(asked))
    }

    /// Whether the controller's task answers.
    pub async fn is_alive(&self) -> bool {
        self.answers_within(ANSWER_WITHIN).await
    }

    async fn answers_within(&self, time: Duration) -> bool {
        let asked = async {
            let (answer, answered) = oneshot::channel();
            self.pulse.send(answer).await.is_ok() && answered.await.is_ok()
        };
        timeout(time, asked).await.unwrap_or(false)
    }

    /// What the controller has yet to reach before it is ready; nothing if it is.
    pub fn missing_for_readiness(&self) -> Vec<&'static str> {
        self.subject.get().map_or_else(|| vec!["the start"], |vitals| vitals.missing_for_readiness())
    }
}

impl Liveness {
    /// Does the work, and answers from the same task while that goes on.
    pub async fn during<T>(mut self, work: impl Future<Output = T>) -> T {
        // First in turn, so that a busy controller does not look dead.
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
        // Nobody can ask any more.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;
    use crate::telemetry::{ControllerStats, Telemetry};
    use std::collections::HashMap;
    use std::sync::{Arc, Weak, mpsc as blocking};

    #[tokio::test]
    async fn a_task_that_waits_is_alive_and_one_that_is_gone_is_not() {
        let (telemetry, pulse) = Telemetry::new();
        let (done, waits) = oneshot::channel::<()>();
        let task = tokio::spawn(pulse.during(waits));
        assert!(telemetry.probes.is_alive().await);
        done.send(()).unwrap();
        task.await.unwrap().unwrap();
        assert!(!telemetry.probes.is_alive().await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_task_that_is_stuck_is_not_alive_until_it_goes_on() {
        let (telemetry, pulse) = Telemetry::new();
        let (entered, is_stuck) = oneshot::channel();
        let (release, released) = blocking::channel::<()>();
        let task = tokio::spawn(pulse.during(async move {
            entered.send(()).unwrap();
            // What no task should ever do.
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
        fn accounts(&self) -> Option<HashMap<Option<Reason>, usize>> {
            None
        }

        fn held_deletions(&self) -> usize {
            0
        }

        fn missing_for_readiness(&self) -> Vec<&'static str> {
            self.0.clone()
        }
    }

    #[test]
    fn nobody_is_ready_before_there_is_somebody() {
        let (telemetry, _pulse) = Telemetry::new();
        assert_eq!(telemetry.probes.missing_for_readiness(), ["the start"]);
        let vitals: Arc<dyn ControllerStats> = Arc::new(Waiting(vec!["the account database"]));
        telemetry.set_controller(Arc::downgrade(&vitals));
        assert_eq!(telemetry.probes.missing_for_readiness(), ["the account database"]);
        let other: Arc<dyn ControllerStats> = Arc::new(Waiting(Vec::new()));
        telemetry.set_controller(Arc::downgrade(&other) as Weak<dyn ControllerStats>);
        assert_eq!(telemetry.probes.missing_for_readiness(), ["the account database"], "the first one counts");
    }
}
