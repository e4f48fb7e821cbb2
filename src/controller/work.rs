//! The work queue of one scope: which resources are due now, and which later; and the loop that reconciles them.
//!
//! A resource is reconciled by one task at a time. What is put into the queue meanwhile counts once, afterwards.
//! In place of kube's `Controller`: it needs a store of whole objects, and copies the place of a resource several times
//! for each timer.

use super::context::Context;
use super::held::{Key, Store};
use super::reconcile::{on_error, reconcile};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

/// When to reconcile a resource again if nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Action(Option<Duration>);

impl Action {
    /// After this pause.
    pub const fn requeue(pause: Duration) -> Self {
        Self(Some(pause))
    }

    /// When something changes.
    pub const fn await_change() -> Self {
        Self(None)
    }
}

/// The resources of one scope that are due now or later.
#[derive(Default)]
pub(super) struct Work {
    state: Mutex<State>,
    /// Something may have become due.
    added: Notify,
    /// A resource was taken from those that are due.
    taken: Notify,
}

#[derive(Default)]
struct State {
    /// A resource for which nothing is planned has no entry.
    plans: HashMap<Key, Plan>,
    due: VecDeque<Key>,
    later: BTreeSet<(Instant, Key)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Due,
    At(Instant),
    /// It is being reconciled.
    Running {
        /// Whether it is due again afterwards.
        again: bool,
    },
}

impl Work {
    /// Makes a resource due.
    pub fn add(&self, key: &Key) {
        self.state().add(key);
        self.added.notify_one();
    }

    /// Removes a resource that is gone. A reconcile that is running is not stopped.
    pub fn forget(&self, key: &Key) {
        let mut state = self.state();
        match state.plans.get(key).copied() {
            Some(Plan::At(at)) => {
                state.later.remove(&(at, key.clone()));
                state.plans.remove(key);
            }
            Some(Plan::Running { .. }) => _ = state.plans.insert(key.clone(), Plan::Running { again: false }),
            // The loop finds no resource.
            Some(Plan::Due) | None => {}
        }
    }

    /// Waits until at most this number of resources is due.
    pub async fn has_at_most(&self, due: usize) {
        loop {
            let taken = self.taken.notified();
            if self.state().due.len() <= due {
                return;
            }
            taken.await;
        }
    }

    /// Waits until a resource is due, and returns it. [`Self::finished`] must follow.
    pub async fn next(&self) -> Key {
        loop {
            let (taken, first) = {
                let mut state = self.state();
                state.move_due(Instant::now());
                (state.take(), state.later.first().map(|(at, _)| *at))
            };
            if let Some(key) = taken {
                self.taken.notify_waiters();
                return key;
            }
            let timer = async {
                match first {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.added.notified() => {}
                () = timer => {}
            }
        }
    }

    /// Records that the reconcile of a resource ended.
    fn finished(&self, key: Key, Action(pause): Action, now: Instant) {
        let mut state = self.state();
        if state.plans.remove(&key) == Some(Plan::Running { again: true }) {
            state.add(&key);
        } else if let Some(at) = pause.and_then(|pause| now.checked_add(pause)) {
            state.plans.insert(key.clone(), Plan::At(at));
            state.later.insert((at, key));
        }
        drop(state);
        self.added.notify_one();
    }

    /// A panic of another task cannot leave the state half changed, so a poisoned lock is still usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, key: &Key) {
        match self.plans.entry(key.clone()) {
            Entry::Vacant(plan) => _ = plan.insert(Plan::Due),
            Entry::Occupied(mut plan) => match plan.get_mut() {
                Plan::Due => return,
                Plan::Running { again } => {
                    *again = true;
                    return;
                }
                Plan::At(at) => {
                    self.later.remove(&(*at, key.clone()));
                    plan.insert(Plan::Due);
                }
            },
        }
        self.due.push_back(key.clone());
    }

    /// Makes the resources due whose time has come.
    fn move_due(&mut self, now: Instant) {
        while let Some((_, key)) = self.later.first().filter(|(at, _)| *at <= now).cloned() {
            self.add(&key);
        }
    }

    fn take(&mut self) -> Option<Key> {
        let key = self.due.pop_front()?;
        self.plans.insert(key.clone(), Plan::Running { again: false });
        Some(key)
    }
}

/// Reconciles the resources that are due, this many at a time, until `stopped`. Reconciles that are running then are
/// finished. Begins when the resources have been listed.
pub(super) async fn run(
    work: &Work,
    store: &Store,
    context: &Arc<Context>,
    concurrency: u16,
    mut stopped: watch::Receiver<bool>,
) {
    let mut running = FuturesUnordered::new();
    // If the sender is gone, the controller is stopping too.
    let mut stop = std::pin::pin!(stopped.wait_for(|stopped| *stopped));
    tokio::select! {
        _ = &mut stop => return,
        () = store.listed() => {}
    }
    loop {
        tokio::select! {
            _ = &mut stop => break,
            Some((key, action)) = running.next(), if !running.is_empty() => work.finished(key, action, Instant::now()),
            key = work.next(), if running.len() < usize::from(concurrency) => running.push(one(key, store, context)),
        }
    }
    while running.next().await.is_some() {}
}

async fn one(key: Key, store: &Store, context: &Arc<Context>) -> (Key, Action) {
    let Some(resource) = store.get(&key) else { return (key, Action::await_change()) };
    let action = match Box::pin(reconcile(&key, Arc::clone(&resource), Arc::clone(context))).await {
        Ok(action) => action,
        Err(error) => on_error(&resource, &error, context),
    };
    (key, action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiAccount;
    use futures::FutureExt;
    use kube::runtime::reflector::ObjectRef;

    const HOUR: Duration = Duration::from_hours(1);
    const SHORTLY: Duration = Duration::from_millis(50);

    fn key(name: &str) -> Key {
        Key::of(&ObjectRef::<ApiAccount>::new(name).within("ns"))
    }

    fn taken(work: &Work) -> Option<Key> {
        work.next().now_or_never()
    }

    #[tokio::test]
    async fn each_resource_is_due_once_and_in_turn() {
        let work = Work::default();
        for name in ["a", "b", "a"] {
            work.add(&key(name));
        }
        assert_eq!([taken(&work), taken(&work), taken(&work)], [Some(key("a")), Some(key("b")), None]);
    }

    #[tokio::test]
    async fn a_resource_is_not_taken_twice_at_a_time() {
        let work = Work::default();
        work.add(&key("a"));
        assert_eq!(taken(&work), Some(key("a")));
        work.add(&key("a"));
        work.add(&key("a"));
        assert_eq!(taken(&work), None);
        work.finished(key("a"), Action::requeue(HOUR), Instant::now());
        assert_eq!(taken(&work), Some(key("a")), "what came meanwhile counts");
        work.finished(key("a"), Action::await_change(), Instant::now());
        assert_eq!(taken(&work), None);
        assert!(work.state().plans.is_empty());
    }

    #[tokio::test]
    async fn a_later_time_comes_unless_something_happens_before() {
        let work = Work::default();
        let begun = Instant::now();
        for (name, pause) in [("waits", SHORTLY), ("changes", HOUR), ("gone", SHORTLY), ("later", HOUR)] {
            work.add(&key(name));
            assert_eq!(taken(&work), Some(key(name)));
            work.finished(key(name), Action::requeue(pause), begun);
        }
        assert_eq!(taken(&work), None);
        work.add(&key("changes"));
        assert_eq!(taken(&work), Some(key("changes")));
        work.finished(key("changes"), Action::await_change(), Instant::now());
        work.forget(&key("gone"));
        assert_eq!(work.next().await, key("waits"));
        assert!(begun.elapsed() >= SHORTLY);
        work.finished(key("waits"), Action::await_change(), Instant::now());
        work.forget(&key("later"));
        let state = work.state();
        assert!(state.plans.is_empty() && state.later.is_empty());
    }

    #[tokio::test]
    async fn a_reader_is_told_when_few_are_due() {
        let work = Work::default();
        for number in 0..3 {
            work.add(&key(&number.to_string()));
        }
        assert!(work.has_at_most(3).now_or_never().is_some());
        let mut waiting = std::pin::pin!(work.has_at_most(1));
        for is_over in [false, true] {
            assert!(taken(&work).is_some());
            assert_eq!(waiting.as_mut().now_or_never().is_some(), is_over);
        }
    }
}
