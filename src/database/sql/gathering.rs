//! Gathers concurrent jobs into groups, so that one transaction does the work of several callers.
//!
//! One group works at a time, and what arrives meanwhile forms the next group. A job that arrives alone begins at once.
//!
//! The callers themselves drive the work of their group. It goes on as long as one of them waits for it, and it is
//! dropped with the last of them. Nothing works on behind the back of the callers: when the leadership of a controller
//! ends, all its calls are dropped, and the transaction of their group is rolled back.

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// The largest group. Other transactions wait for the locks of a group until all of it is committed.
const AT_ONCE: usize = 64;

/// How long a group waits for the one before it. A group that takes longer, because it waits for a lock or for a slow
/// network, does not hold up the groups behind it.
const HEAD_START: Duration = Duration::from_millis(100);

type Work = BoxFuture<'static, ()>;

/// The group that forms, and the turns of the groups. `J` is a job and `A` its answer.
pub(in crate::database) struct Gathering<J, A> {
    forming: Mutex<Option<Forming<J, A>>>,
    /// The permit of the group that works.
    turn: Arc<Semaphore>,
}

/// A group that may still take jobs, and its work.
struct Forming<J, A> {
    group: Group<J, A>,
    work: WeakShared<Work>,
}

/// The jobs of a group. Clones share them.
pub(in crate::database) struct Group<J, A>(Arc<Mutex<Jobs<J, A>>>);

/// The jobs that wait; `None` once the work took them.
type Jobs<J, A> = Option<Vec<Job<J, A>>>;

/// A job, and who waits for its answer.
pub(in crate::database) struct Job<J, A> {
    pub job: J,
    pub caller: Caller<A>,
}

/// A caller that waits for an answer.
pub(in crate::database) struct Caller<A>(oneshot::Sender<A>);

impl<J: Send + 'static, A: Send + 'static> Gathering<J, A> {
    pub fn new() -> Self {
        Self { forming: Mutex::new(None), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Adds the job to the group that forms, and returns its answer. The first job of a group brings the work of the
    /// whole group. `None` if the work ended without an answer to this job.
    pub async fn join<F>(&self, job: J, work: impl FnOnce(Group<J, A>) -> F) -> Option<A>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let group_work = self.enter(Job { job, caller: Caller(answer) }, work);
        group_work.await;
        answered.await.ok()
    }

    fn enter<F>(&self, job: Job<J, A>, work: impl FnOnce(Group<J, A>) -> F) -> Shared<Work>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut forming = lock(&self.forming);
        let job = match forming.as_ref().and_then(|forming| Some((&forming.group, forming.work.upgrade()?))) {
            Some((group, work)) => match group.add(job) {
                Ok(()) => return work,
                Err(job) => job,
            },
            None => job,
        };
        let group = Group(Arc::new(Mutex::new(Some(vec![job]))));
        let work = work(group.clone());
        let turn = Arc::clone(&self.turn);
        let in_turn = async move {
            let _turn = timeout(HEAD_START, turn.acquire_owned()).await;
            work.await;
        };
        let work = in_turn.boxed().shared();
        *forming = work.downgrade().map(|work| Forming { group, work });
        work
    }
}

impl<J, A> Group<J, A> {
    /// Takes the jobs whose callers still wait. What arrives later joins another group.
    pub fn take(&self) -> Vec<Job<J, A>> {
        let jobs = lock(&self.0).take().unwrap_or_default();
        // Nobody would know of the outcome of a call that was given up.
        jobs.into_iter().filter(|job| !job.caller.0.is_closed()).collect()
    }

    /// Adds a job, or returns it if the group is full or took its jobs.
    fn add(&self, job: Job<J, A>) -> Result<(), Job<J, A>> {
        match &mut *lock(&self.0) {
            Some(jobs) if jobs.len() < AT_ONCE => {
                jobs.push(job);
                Ok(())
            }
            _ => Err(job),
        }
    }
}

impl<A> Caller<A> {
    /// Gives the caller its answer.
    pub fn answer(self, answer: A) {
        if self.0.send(answer).is_err() {
            tracing::debug!("a change was made for a call that nobody waits for any more");
        }
    }
}

impl<J, A> Clone for Group<J, A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<J, A> fmt::Debug for Gathering<J, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathering").finish_non_exhaustive()
    }
}

/// Locks a value. A poisoned lock is used too, because no code that holds it leaves a partial change.
fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;
    use futures::poll;
    use std::pin::pin;
    use tokio::sync::Notify;

    type Numbers = Gathering<usize, usize>;

    /// The groups so far, and a signal that lets the first of them go on.
    #[derive(Clone, Default)]
    struct Log {
        groups: Arc<Mutex<Vec<Vec<usize>>>>,
        go_on: Arc<Notify>,
    }

    impl Log {
        /// Answers each job with its own number. The first group works until the signal.
        async fn work(self, group: Group<usize, usize>) {
            let jobs = group.take();
            let is_first = {
                let mut groups = lock(&self.groups);
                groups.push(jobs.iter().map(|job| job.job).collect());
                groups.len() == 1
            };
            if is_first {
                self.go_on.notified().await;
            }
            for job in jobs {
                job.caller.answer(job.job);
            }
        }

        async fn join(&self, gathering: &Numbers, job: usize) -> Option<usize> {
            let log = self.clone();
            gathering.join(job, |group| log.work(group)).await
        }

        fn groups(&self) -> Vec<Vec<usize>> {
            lock(&self.groups).clone()
        }
    }

    #[tokio::test]
    async fn what_arrives_during_the_work_of_a_group_forms_the_next_ones() {
        let (gathering, log) = (Numbers::new(), Log::default());
        let mut calls = pin!(join_all((0..=AT_ONCE + 1).map(|job| log.join(&gathering, job))));
        assert!(poll!(&mut calls).is_pending());
        assert_eq!(log.groups(), [[0]], "a job that arrives alone waits for no other");
        log.go_on.notify_one();
        let answers: Vec<_> = calls.await.into_iter().flatten().collect();
        assert_eq!(answers, (0..=AT_ONCE + 1).collect::<Vec<_>>());
        assert_eq!(log.groups()[1..], [(1..=AT_ONCE).collect(), vec![AT_ONCE + 1]]);
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_leaves_its_group() {
        let (gathering, log) = (Numbers::new(), Log::default());
        let mut first = pin!(log.join(&gathering, 0));
        assert!(poll!(&mut first).is_pending());
        let mut calls: Vec<_> = (1..4).map(|job| Box::pin(log.join(&gathering, job))).collect();
        for call in &mut calls {
            assert!(poll!(call).is_pending());
        }
        drop(calls.remove(0));
        log.go_on.notify_one();
        assert_eq!(first.await, Some(0));
        assert_eq!(join_all(calls).await, [Some(2), Some(3)]);
        assert_eq!(log.groups(), [vec![0], vec![2, 3]]);
    }

    #[tokio::test]
    async fn the_work_of_a_group_is_dropped_with_its_last_caller() {
        let (gathering, log) = (Numbers::new(), Log::default());
        let mut call = Box::pin(log.join(&gathering, 0));
        assert!(poll!(&mut call).is_pending());
        assert_eq!(Arc::strong_count(&log.groups), 2, "the work has a clone of the log");
        drop(call);
        assert_eq!(Arc::strong_count(&log.groups), 1);
        assert_eq!(log.join(&gathering, 1).await, Some(1), "the turn is free again");
    }

    #[tokio::test]
    async fn a_group_that_hangs_does_not_hold_up_the_next() {
        let (gathering, log) = (Numbers::new(), Log::default());
        let mut hangs = pin!(log.join(&gathering, 0));
        assert!(poll!(&mut hangs).is_pending());
        assert_eq!(log.join(&gathering, 1).await, Some(1));
        assert!(poll!(&mut hangs).is_pending());
    }
}
