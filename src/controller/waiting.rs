//! Resources that wait for something outside of them: the database, an account name, an affiliate, or the lists of all
//! namespaces. Each is requeued as soon as that is available, before its backoff ends.
//!
//! This module only requeues. The work queue limits how many resources are reconciled at a time.

use super::queues::Queues;
use crate::account::{AccountName, AffiliateName, comparable_name};
use crate::api::ApiAccount;
use crate::backoff::Backoff;
use crate::database::{NameHolder, Obstacles};
use crate::reconcile::{NotReady, Outcome};
use kube::runtime::reflector::ObjectRef;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The pauses between two requeues of the resources that wait for the database. They grow, because a database that
/// answers only some queries would otherwise requeue the same resources without end.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(5), LONGEST_WAKE_PAUSE);
const LONGEST_WAKE_PAUSE: Duration = Duration::from_mins(1);

type Resource = ObjectRef<ApiAccount>;

/// The waiting resources, and the queues that they are sent to.
pub(super) struct Waiting {
    queues: Queues,
    database_wait_began: Notify,
    obstacle_added: Notify,
    account_changed: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What each resource waits for. It is the index into the maps below.
    waits: HashMap<Resource, Wait>,
    database: HashSet<Resource>,
    names: HashMap<String, NameWaiters>,
    affiliates: HashMap<AffiliateName, HashSet<Resource>>,
    lists: HashSet<Resource>,
    /// When the resources that waited for the database were last requeued, and how often in a row before that.
    woken: Option<(Instant, u32)>,
}

enum Wait {
    Database,
    Name(String),
    Affiliate(AffiliateName),
    Lists,
}

/// The resources that wait for one account name.
struct NameWaiters {
    name: AccountName,
    waiting: HashMap<Resource, NameWaiter>,
}

/// One resource that waits for a name.
struct NameWaiter {
    /// The account that had the name when the resource was refused.
    seen: Option<NameHolder>,
    /// Whether the resource could adopt that account if no ApiAccount declared it.
    could_adopt: bool,
}

impl Waiting {
    /// Creates a list without waiting resources. `queues` are where they are requeued.
    pub fn new(queues: Queues) -> Self {
        Self {
            queues,
            database_wait_began: Notify::new(),
            obstacle_added: Notify::new(),
            account_changed: Notify::new(),
            state: Mutex::default(),
        }
    }

    /// Records the outcome of a reconcile: what the resource waits for now. Requeues the resources that waited for a
    /// name which this outcome released.
    pub fn update(&self, resource: &Resource, outcome: &Outcome, now: Instant) {
        self.forget(resource);
        match &outcome.not_ready {
            Some(NotReady::Database(error)) if error.is_unavailable() => {
                let mut state = self.state();
                state.database.insert(resource.clone());
                state.waits.insert(resource.clone(), Wait::Database);
                drop(state);
                self.database_wait_began.notify_one();
            }
            Some(NotReady::UnknownAffiliate { affiliate }) => {
                let mut state = self.state();
                state.affiliates.entry(affiliate.clone()).or_default().insert(resource.clone());
                state.waits.insert(resource.clone(), Wait::Affiliate(affiliate.clone()));
                drop(state);
                self.obstacle_added.notify_one();
            }
            Some(not_ready) => {
                if let Some(name) = not_ready.waits_for() {
                    let could_adopt = matches!(not_ready, NotReady::OwnedElsewhere { .. });
                    self.wait_for_name(resource, name, NameWaiter { seen: outcome.name_holder.clone(), could_adopt });
                }
            }
            None => {}
        }
        self.release_names(outcome);
        if outcome.account.is_some() && !matches!(outcome.not_ready, Some(NotReady::Database(_))) {
            self.database_answered(now);
        }
    }

    fn wait_for_name(&self, resource: &Resource, name: &AccountName, waiter: NameWaiter) {
        let waits_for = name.comparable();
        let mut state = self.state();
        let no_waiters = || NameWaiters { name: name.clone(), waiting: HashMap::new() };
        let waiters = state.names.entry(waits_for.clone()).or_insert_with(no_waiters);
        waiters.waiting.insert(resource.clone(), waiter);
        state.waits.insert(resource.clone(), Wait::Name(waits_for));
        drop(state);
        self.obstacle_added.notify_one();
    }

    /// Requeues the resources that wait for the database, because it has answered. Does nothing while the pause since
    /// the last call that requeued some has not ended.
    pub fn database_answered(&self, now: Instant) {
        let mut state = self.state();
        if state.database.is_empty() {
            return;
        }
        let times = match state.woken {
            Some((at, times)) if now.duration_since(at) < BACKOFF.pause(times) => return,
            Some((at, times)) if now.duration_since(at) < LONGEST_WAKE_PAUSE * 2 => times.saturating_add(1),
            _ => 0,
        };
        state.woken = Some((now, times));
        let woken = std::mem::take(&mut state.database);
        state.waits.retain(|_, wait| !matches!(wait, Wait::Database));
        drop(state);
        tracing::debug!(resources = woken.len(), "the account database answers again");
        self.wake(woken);
    }

    /// Requeues the resources that wait for a name which this outcome released.
    pub fn release_names(&self, outcome: &Outcome) {
        for name in outcome.released_names.iter().map(|name| comparable_name(name)) {
            let mut state = self.state();
            let waiters = state.names.remove(&name);
            let woken: Vec<_> = waiters.into_iter().flat_map(|waiters| waiters.waiting.into_keys()).collect();
            for resource in &woken {
                state.waits.remove(resource);
            }
            drop(state);
            self.wake(woken);
        }
    }

    /// Returns the names and affiliates that resources wait for.
    pub fn obstacles(&self) -> (Vec<AccountName>, Vec<AffiliateName>) {
        let state = self.state();
        let names = state.names.values().map(|waiters| waiters.name.clone()).collect();
        (names, state.affiliates.keys().cloned().collect())
    }

    /// Requeues the resources that may now succeed. `found` is what the database has for these names and affiliates. A
    /// resource may succeed if its affiliate exists, or if its name is free, has another holder, or belongs to an
    /// account that it can adopt.
    pub fn obstacles_found(&self, names: &[AccountName], affiliates: &[AffiliateName], found: &Obstacles) {
        let mut state = self.state();
        let mut woken = Vec::new();
        for name in names {
            let Some(group) = state.names.get(&name.comparable()) else { continue };
            let holder = found.names.get(&name.comparable());
            let is_undeclared = holder.is_some_and(|holder| !holder.is_declared);
            let may_succeed = |waiter: &NameWaiter| {
                holder.is_none() || waiter.seen.as_ref() != holder || (waiter.could_adopt && is_undeclared)
            };
            let waiting = group.waiting.iter().filter(|(_, waiter)| may_succeed(waiter));
            woken.extend(waiting.map(|(resource, _)| resource.clone()));
        }
        for affiliate in affiliates.iter().filter(|affiliate| found.affiliates.contains(affiliate.as_str())) {
            woken.extend(state.affiliates.get(affiliate).into_iter().flatten().cloned());
        }
        for resource in &woken {
            state.forget(resource);
        }
        drop(state);
        self.wake(woken);
    }

    fn wake(&self, woken: impl IntoIterator<Item = Resource>) {
        for resource in woken {
            self.queues.send(&resource);
        }
    }

    /// Records that the resource waits until every namespace has been listed.
    pub fn wait_for_lists(&self, resource: &Resource) {
        let mut state = self.state();
        state.forget(resource);
        state.lists.insert(resource.clone());
        state.waits.insert(resource.clone(), Wait::Lists);
    }

    /// Requeues the resources that wait for the lists, because every namespace has been listed.
    pub fn lists_complete(&self) {
        let mut state = self.state();
        let woken = std::mem::take(&mut state.lists);
        for resource in &woken {
            state.waits.remove(resource);
        }
        drop(state);
        self.wake(woken);
    }

    /// Waits until a resource begins to wait for the database. Returns at once if one did so since the last call.
    pub async fn database_wait_began(&self) {
        self.database_wait_began.notified().await;
    }

    /// Returns whether any resource waits for the database.
    pub fn any_wait_for_database(&self) -> bool {
        !self.state().database.is_empty()
    }

    /// Waits until a resource begins to wait for a name or an affiliate. Returns at once if one did so since the last
    /// call.
    pub async fn obstacle_added(&self) {
        self.obstacle_added.notified().await;
    }

    /// Records that another program or a user has changed an account: a name may be free.
    pub fn account_changed(&self) {
        self.account_changed.notify_one();
    }

    /// Waits until another program or a user changes an account. Returns at once if that happened since the last call.
    pub async fn next_account_change(&self) {
        self.account_changed.notified().await;
    }

    /// Removes a resource that is gone or is about to be reconciled.
    pub fn forget(&self, resource: &Resource) {
        self.state().forget(resource);
    }

    /// Removes the resources that no longer exist, including those whose deletion no watch has shown.
    pub fn retain(&self, is_there: impl Fn(&Resource) -> bool) {
        let mut state = self.state();
        let gone: Vec<_> = state.waits.keys().filter(|resource| !is_there(resource)).cloned().collect();
        for resource in &gone {
            state.forget(resource);
        }
    }

    /// A panic of another task cannot leave the state half changed, so a poisoned lock is still usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, resource: &Resource) {
        match self.waits.remove(resource) {
            Some(Wait::Database) => _ = self.database.remove(resource),
            Some(Wait::Lists) => _ = self.lists.remove(resource),
            Some(Wait::Name(name)) => {
                if let Entry::Occupied(mut waiters) = self.names.entry(name) {
                    waiters.get_mut().waiting.remove(resource);
                    if waiters.get().waiting.is_empty() {
                        waiters.remove();
                    }
                }
            }
            Some(Wait::Affiliate(affiliate)) => {
                if let Entry::Occupied(mut waiting) = self.affiliates.entry(affiliate) {
                    waiting.get_mut().remove(resource);
                    if waiting.get().is_empty() {
                        waiting.remove();
                    }
                }
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Version;
    use crate::controller::queues::Queue;
    use crate::controller::scope::Scope;
    use crate::database::DatabaseError;
    use tokio::sync::mpsc::UnboundedReceiver;

    fn waiting() -> (Waiting, UnboundedReceiver<Resource>) {
        let mut queues = Queue::each(Scope::each(&[]));
        let waiting = Waiting::new(Queues::of(&queues));
        (waiting, queues.remove(0).receiver)
    }

    fn resource(name: &str) -> Resource {
        ObjectRef::new(name).within("ns")
    }

    fn woken(receiver: &mut UnboundedReceiver<Resource>) -> Vec<String> {
        let mut names: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).map(|resource| resource.name).collect();
        names.sort();
        names
    }

    fn away() -> Outcome {
        Outcome::blocked(NotReady::Database(DatabaseError::Unavailable { reason: "away".to_owned() }))
    }

    fn taken(name: &str) -> Outcome {
        let name = AccountName::parse(name).unwrap();
        Outcome::blocked(NotReady::NameTaken { name, holder: "somebody".to_owned() })
    }

    #[test]
    fn resources_that_wait_for_the_database_are_requeued_when_it_answers() {
        let (waiting, mut receiver) = waiting();
        let now = Instant::now();
        for name in ["a", "b", "healed", "gone"] {
            waiting.update(&resource(name), &away(), now);
        }
        waiting.update(&resource("healed"), &Outcome::default(), now);
        waiting.forget(&resource("gone"));
        assert!(waiting.any_wait_for_database());
        waiting.database_answered(now);
        assert_eq!(woken(&mut receiver), ["a", "b"]);
        assert!(!waiting.any_wait_for_database());
    }

    #[test]
    fn resources_that_fail_again_are_requeued_after_growing_pauses() {
        let (waiting, mut receiver) = waiting();
        let start = Instant::now();
        let mut at = Vec::new();
        for second in 0..200 {
            let now = start + Duration::from_secs(second);
            waiting.update(&resource("locked"), &away(), now);
            waiting.database_answered(now);
            if !woken(&mut receiver).is_empty() {
                at.push(second);
            }
        }
        assert_eq!(at, [0, 5, 15, 35, 75, 135, 195]);
    }

    #[test]
    fn a_released_name_requeues_the_resources_that_wait_for_it() {
        let (waiting, mut receiver) = waiting();
        let now = Instant::now();
        waiting.update(&resource("wants"), &taken("Acme"), now);
        waiting.update(&resource("other"), &taken("Other"), now);
        let releasing = |old: &str| Outcome { released_names: vec![old.to_owned()], ..Outcome::default() };
        waiting.update(&resource("holder"), &releasing("somebody"), now);
        assert_eq!(woken(&mut receiver), [""; 0]);
        waiting.update(&resource("holder"), &releasing("ACME"), now);
        assert_eq!(woken(&mut receiver), ["wants"]);
    }

    #[test]
    fn names_that_look_the_same_are_one_name() {
        let (waiting, mut receiver) = waiting();
        let now = Instant::now();
        for name in ["Cafe\u{301}", "CAF\u{c9}"] {
            waiting.update(&resource("wants"), &taken("caf\u{e9}"), now);
            let releasing = Outcome { released_names: vec![name.to_owned()], ..Outcome::default() };
            waiting.update(&resource("holder"), &releasing, now);
            assert_eq!(woken(&mut receiver), ["wants"], "{name:?}");
        }
    }

    fn holder(version: i64, is_declared: bool) -> NameHolder {
        NameHolder { id: "id".to_owned(), version: Version(version), is_declared }
    }

    fn seeing(outcome: Outcome, holder: NameHolder) -> Outcome {
        Outcome { name_holder: Some(holder), ..outcome }
    }

    /// Answers every name that resources wait for with this holder.
    fn answer_names(waiting: &Waiting, holder: Option<&NameHolder>) {
        let (names, affiliates) = waiting.obstacles();
        let held = |name: &AccountName| Some((name.comparable(), holder.cloned()?));
        let found = Obstacles { names: names.iter().filter_map(held).collect(), ..Obstacles::default() };
        waiting.obstacles_found(&names, &affiliates, &found);
    }

    #[test]
    fn one_answer_requeues_all_resources_that_may_succeed() {
        let (waiting, mut receiver) = waiting();
        let name = || AccountName::parse("Acme").unwrap();
        let wants = |holder| waiting.update(&resource("wants"), &seeing(taken("acme"), holder), Instant::now());
        let adopts = |holder| {
            let elsewhere = NotReady::OwnedElsewhere { name: name(), holder: "b".to_owned() };
            waiting.update(&resource("adopts"), &seeing(Outcome::blocked(elsewhere), holder), Instant::now());
        };
        wants(holder(1, true));
        adopts(holder(1, true));
        answer_names(&waiting, Some(&holder(1, true)));
        answer_names(&waiting, Some(&holder(1, true)));
        assert_eq!(woken(&mut receiver), [""; 0], "nothing has changed");
        answer_names(&waiting, Some(&holder(2, true)));
        assert_eq!(woken(&mut receiver), ["adopts", "wants"]);
        assert_eq!(waiting.obstacles(), (Vec::new(), Vec::new()), "whoever is looked at waits no more");
        wants(holder(2, true));
        adopts(holder(3, false));
        answer_names(&waiting, Some(&holder(3, false)));
        assert_eq!(woken(&mut receiver), ["adopts", "wants"], "one could take it over, the other was refused before");
        wants(holder(3, false));
        answer_names(&waiting, Some(&holder(3, false)));
        assert_eq!(woken(&mut receiver), [""; 0]);
        answer_names(&waiting, None);
        assert_eq!(woken(&mut receiver), ["wants"]);
    }

    #[test]
    fn a_new_affiliate_requeues_the_resources_that_name_it() {
        let (waiting, mut receiver) = waiting();
        let affiliate = |name: &str| AffiliateName::parse(name).unwrap();
        for name in ["North", "South"] {
            let not_ready = NotReady::UnknownAffiliate { affiliate: affiliate(name) };
            waiting.update(&resource(name), &Outcome::blocked(not_ready), Instant::now());
        }
        let (names, affiliates) = waiting.obstacles();
        assert_eq!((names.len(), affiliates.len()), (0, 2));
        let found = Obstacles { affiliates: ["North".to_owned()].into(), ..Obstacles::default() };
        waiting.obstacles_found(&names, &affiliates, &found);
        assert_eq!(woken(&mut receiver), ["North"]);
        waiting.forget(&resource("South"));
        assert_eq!(waiting.obstacles().1, []);
    }
}
