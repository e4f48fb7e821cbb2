//! The brake: it holds deletions when too many accounts would lose access within a short time, until a user confirms
//! them. The decision is in [`Brake::decide`].
//!
//! A deleted namespace, a pruned folder and a restored etcd all look like many deletions that a user requested.
//!
//! - The database counts the deletions within the window, so that the count survives a restart.
//! - While one deletion is held, every further deletion is held too. Passing time releases nothing.
//! - A held orphan does not hold other deletions, because it has no resource on which a user could confirm it.

use crate::api::ApiAccount;
use crate::database::Deletions;
use crate::reconcile::{DELETION_WINDOW as WINDOW, deletion_limit};
use kube::runtime::reflector::ObjectRef;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a count of the database may be used again. It does not contain later deletions by other controllers.
const COUNT_VALID_FOR: Duration = Duration::from_secs(5);

/// The shortest time between two removals of expired entries. An expired entry may count for this much longer.
const CLEAR_EVERY: Duration = Duration::from_secs(1);

type Resource = ObjectRef<ApiAccount>;

/// Decides whether an account may lose its access now, and remembers the deletions that it allowed and held.
pub(super) struct Brake {
    /// The percentage of all accounts that may be deleted within the window.
    pub percent: u8,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The resources whose deletion this controller allowed, and when. An entry is removed after the window.
    allowed: HashMap<Resource, Instant>,
    /// The allowed deletions that the last count may not contain. The value is when the account was found to be
    /// deleted; `None`: not yet.
    uncounted: HashMap<Resource, Option<Instant>>,
    /// When expired entries were last removed.
    cleared: Option<Instant>,
    counted: Option<Counted>,
    held: HashSet<Resource>,
    held_orphans: HashSet<Resource>,
}

/// A count of the database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    /// The earliest time at which the database may have counted.
    pub asked: Instant,
    /// The deletions within the window, and the live accounts.
    pub deletions: Deletions,
}

/// Why an account loses its access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its resource is being deleted.
    Deletion {
        /// Whether the status of the resource says that its deletion is held. Such a deletion stays held after a
        /// restart.
        was_held: bool,
    },
    /// Its resource is gone, and its deletion was not processed.
    Orphan,
}

/// Whether an account may lose its access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It may lose its access now.
    Allowed,
    /// It may not, until a user confirms the deletion or the resource of the orphan exists again.
    Held,
    /// The decision needs a count of the database, and none was given.
    NeedsCount,
    /// The decision depends on deletions that have not finished: ask again.
    AskAgain,
}

impl Brake {
    /// Creates a brake that holds deletions above this percentage of all accounts. With 100 it never holds any.
    pub fn new(percent: u8) -> Self {
        Self { percent, state: Mutex::default() }
    }

    /// Decides whether an account may lose its access now. Without a new count, the last count is used as far as
    /// possible.
    pub fn decide(&self, resource: &Resource, cause: Cause, counted: Option<Counted>, now: Instant) -> Decision {
        if deletion_limit(0, self.percent).is_none() {
            return Decision::Allowed;
        }
        let mut state = self.state();
        state.clear(now);
        if state.allowed.contains_key(resource) {
            return Decision::Allowed;
        }
        let decision = if state.holds(resource, cause) || !state.held.is_empty() {
            Decision::Held
        } else {
            state.decide_by_count(self.percent, counted, now)
        };
        match (decision, cause) {
            (Decision::Allowed, _) => {
                state.allowed.insert(resource.clone(), now);
                state.uncounted.insert(resource.clone(), None);
            }
            (Decision::Held, Cause::Deletion { .. }) => {
                state.held.insert(resource.clone());
            }
            (Decision::Held, Cause::Orphan) => {
                state.held_orphans.insert(resource.clone());
            }
            (Decision::NeedsCount | Decision::AskAgain, _) => {}
        }
        decision
    }

    /// Records that the account of an allowed deletion is deleted now.
    pub fn deleted(&self, resource: &Resource, now: Instant) {
        if let Some(done) = self.state().uncounted.get_mut(resource) {
            done.get_or_insert(now);
        }
    }

    /// Records a deletion that is held according to the status of its resource.
    pub fn hold(&self, resource: &Resource) {
        self.state().held.insert(resource.clone());
    }

    /// Discards everything that is remembered, and records these deletions as held.
    pub fn restart(&self, held: impl Iterator<Item = Resource>) {
        *self.state() = State { held: held.collect(), ..State::default() };
    }

    /// Records that a user has confirmed the deletion, or that there is nothing left to hold.
    pub fn release(&self, resource: &Resource) {
        self.state().held.remove(resource);
    }

    /// Records that the resource is gone. If its deletion was still held, it becomes a held orphan.
    pub fn resource_gone(&self, resource: &Resource) {
        let State { held, held_orphans, .. } = &mut *self.state();
        held_orphans.extend(held.take(resource));
    }

    /// Removes the held deletions whose resource is no longer being deleted, and the held orphans that are no longer
    /// orphans. A held deletion becomes a held orphan if it is one now. Unlike [`Self::resource_gone`], this also
    /// covers a resource whose removal no watch has shown.
    pub fn retain(&self, is_going: impl Fn(&Resource) -> bool, is_orphan: impl Fn(&Resource) -> bool) {
        let State { held, held_orphans, .. } = &mut *self.state();
        held_orphans.extend(held.iter().cloned());
        held.retain(&is_going);
        held_orphans.retain(&is_orphan);
    }

    /// Returns the number of held deletions.
    pub fn held(&self) -> usize {
        self.state().held.len()
    }

    /// A panic of another task cannot leave the state half changed, so a poisoned lock is still usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Removes entries that are older than the window. It reads all entries, and so does nothing if the last call was
    /// less than [`CLEAR_EVERY`] ago.
    fn clear(&mut self, now: Instant) {
        if self.cleared.is_some_and(|cleared| now.duration_since(cleared) < CLEAR_EVERY) {
            return;
        }
        self.cleared = Some(now);
        self.allowed.retain(|_, at| now.duration_since(*at) < WINDOW);
        let allowed = &self.allowed;
        self.uncounted.retain(|resource, _| allowed.contains_key(resource));
    }

    fn holds(&self, resource: &Resource, cause: Cause) -> bool {
        match cause {
            Cause::Deletion { was_held } => was_held,
            Cause::Orphan => self.held_orphans.contains(resource),
        }
    }

    /// Decides by the number of deletions. `new` is a count that was just made.
    fn decide_by_count(&mut self, percent: u8, new: Option<Counted>, now: Instant) -> Decision {
        let is_new = new.is_some();
        if let Some(new) = new
            && self.counted.is_none_or(|last| last.asked <= new.asked)
        {
            self.uncounted.retain(|_, done| done.is_none_or(|done| done >= new.asked));
            self.counted = Some(new);
        }
        let Some(counted) = self.counted.filter(|last| is_new || now.duration_since(last.asked) < COUNT_VALID_FOR)
        else {
            return Decision::NeedsCount;
        };
        let Deletions { live, deleted } = counted.deletions;
        let Some(limit) = deletion_limit(live + deleted, percent) else {
            return Decision::Allowed;
        };
        // A clock that was set forward makes the times in the database look old, so the deletions that this controller
        // allowed count in any case.
        let certain = deleted.max(self.allowed.len());
        if certain.max(deleted + self.uncounted.len()) < limit {
            Decision::Allowed
        } else if !is_new {
            Decision::NeedsCount
        } else if certain >= limit {
            Decision::Held
        } else {
            Decision::AskAgain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Decision::{Allowed, AskAgain, Held, NeedsCount};
    use super::*;

    const DELETION: Cause = Cause::Deletion { was_held: false };

    fn named(number: usize) -> Resource {
        ObjectRef::new(&format!("a{number}")).within("ns")
    }

    fn counted(live: usize, deleted: usize, asked: Instant) -> Counted {
        Counted { asked, deletions: Deletions { live, deleted } }
    }

    /// Returns how many of `all` deletions are allowed, one after the other, if each allowed account is deleted at
    /// once.
    fn count_allowed(brake: &Brake, all: usize, now: Instant) -> usize {
        let mut gone = 0;
        for number in 0..all {
            if brake.decide(&named(number), DELETION, Some(counted(all - gone, gone, now)), now) == Allowed {
                brake.deleted(&named(number), now.checked_sub(Duration::from_nanos(1)).unwrap());
                gone += 1;
            }
        }
        gone
    }

    /// Decides about one resource with a count of 9 live accounts and this many recent deletions.
    fn ask(brake: &Brake, number: usize, cause: Cause, deleted: usize, now: Instant) -> Decision {
        brake.decide(&named(number), cause, Some(counted(9, deleted, now)), now)
    }

    #[test]
    fn a_fifth_or_five_accounts_may_be_deleted_at_once() {
        let now = Instant::now();
        assert_eq!(count_allowed(&Brake::new(20), 100, now), 20);
        assert_eq!(count_allowed(&Brake::new(20), 12, now), 5);
        assert_eq!(count_allowed(&Brake::new(20), 3, now), 3);
        assert_eq!(count_allowed(&Brake::new(100), 50, now), 50);
    }

    #[test]
    fn deletions_before_a_restart_count() {
        let (brake, now) = (Brake::new(20), Instant::now());
        let ask =
            |number, deleted| brake.decide(&named(number), DELETION, Some(counted(100 - deleted, deleted, now)), now);
        assert_eq!(ask(0, 19), Allowed);
        brake.deleted(&named(0), now.checked_sub(Duration::from_nanos(1)).unwrap());
        assert_eq!(ask(1, 20), Held);
    }

    #[test]
    fn an_allowed_deletion_counts_before_its_account_is_deleted() {
        let (brake, now) = (Brake::new(20), Instant::now());
        let decisions: Vec<_> =
            (0..50).map(|number| brake.decide(&named(number), DELETION, Some(counted(50, 0, now)), now)).collect();
        assert_eq!(decisions.iter().filter(|decision| **decision == Allowed).count(), 10);
        assert_eq!(decisions[10..], [Held; 40]);
    }

    #[test]
    fn a_deletion_that_the_count_may_miss_has_to_finish_first() {
        let (brake, now) = (Brake::new(20), Instant::now());
        let ask = |number, deleted, asked| {
            brake.decide(&named(number), DELETION, Some(counted(100 - deleted, deleted, asked)), asked)
        };
        assert_eq!(ask(0, 18, now), Allowed);
        // The count of 18 may contain the first deletion or not.
        assert_eq!(ask(1, 18, now), Allowed);
        assert_eq!(ask(2, 19, now), AskAgain);
        let done = now + Duration::from_millis(1);
        brake.deleted(&named(0), done);
        brake.deleted(&named(1), done);
        assert_eq!(ask(2, 19, done), AskAgain, "this count may miss one that was just done");
        assert_eq!(ask(2, 19, done + Duration::from_millis(1)), Allowed, "one of them was not by the database");
        assert_eq!(ask(3, 20, done + Duration::from_millis(2)), Held);
    }

    #[test]
    fn one_count_is_used_for_many_decisions_and_expires() {
        let (brake, now) = (Brake::new(20), Instant::now());
        let alone = |number, now| brake.decide(&named(number), DELETION, None, now);
        assert_eq!(alone(0, now), NeedsCount);
        assert_eq!(brake.decide(&named(0), DELETION, Some(counted(90, 10, now)), now), Allowed);
        for number in 1..10 {
            assert_eq!(alone(number, now), Allowed);
        }
        assert_eq!((alone(10, now), alone(3, now), brake.held()), (NeedsCount, Allowed, 0));
        for number in 0..10 {
            brake.deleted(&named(number), now);
        }
        let later = now + Duration::from_secs(1);
        assert_eq!(brake.decide(&named(10), DELETION, Some(counted(90, 11, later)), later), Allowed, "nine came back");
        assert_eq!(alone(11, later + COUNT_VALID_FOR), NeedsCount);
    }

    #[test]
    fn many_deletions_need_few_counts() {
        let (brake, start) = (Brake::new(20), Instant::now());
        let (mut gone, mut counts) = (0, 0);
        for number in 0..50_000 {
            let now = start + Duration::from_micros(number);
            let resource = named(usize::try_from(number).unwrap());
            let mut decision = brake.decide(&resource, DELETION, None, now);
            if decision == NeedsCount {
                counts += 1;
                decision = brake.decide(&resource, DELETION, Some(counted(50_000 - gone, gone, now)), now);
            }
            if decision == Allowed {
                brake.deleted(&resource, now);
                gone += 1;
            }
        }
        assert_eq!((gone, brake.held()), (10_000, 40_000));
        assert!(counts <= 3, "{counts}");
        // Held deletions add no entries here.
        assert!(brake.state().uncounted.len() <= 10_000);

        let never = Brake::new(100);
        for number in 0..50_000 {
            assert_eq!(never.decide(&named(number), DELETION, None, start), Allowed);
        }
        assert!(never.state().allowed.is_empty());
    }

    #[test]
    fn allowed_deletions_count_when_the_clock_is_set_forward() {
        let (brake, now) = (Brake::new(20), Instant::now());
        assert_eq!(count_allowed(&brake, 5, now), 5);
        assert_eq!(ask(&brake, 5, DELETION, 0, now), Held);
    }

    #[test]
    fn deletions_outside_the_window_do_not_count() {
        let (brake, start) = (Brake::new(20), Instant::now());
        for number in 0..20 {
            let now = start + WINDOW * u32::try_from(number).unwrap();
            assert_eq!(ask(&brake, number, DELETION, 0, now), Allowed);
        }
    }

    #[test]
    fn a_user_releases_held_deletions_and_time_does_not() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(count_allowed(&brake, 6, start), 5);
        let later = start + WINDOW * 3;
        assert_eq!(ask(&brake, 5, DELETION, 0, later), Held);
        assert_eq!(ask(&brake, 9, DELETION, 0, later), Held, "nor anything after it");
        brake.release(&named(5));
        brake.release(&named(9));
        assert_eq!(ask(&brake, 7, DELETION, 0, later), Allowed);
    }

    #[test]
    fn resources_that_no_longer_exist_are_not_held() {
        let (brake, now) = (Brake::new(20), Instant::now());
        assert_eq!(count_allowed(&brake, 7, now), 5);
        assert_eq!(brake.held(), 2);
        brake.retain(|resource| *resource == named(6), |_| false);
        assert_eq!(brake.held(), 1);
        brake.retain(|_| false, |_| false);
        assert_eq!(brake.held(), 0);
        assert_eq!(
            brake.decide(&named(8), DELETION, Some(counted(99, 5, now)), now),
            Allowed,
            "it has let go of the rest"
        );
    }

    #[test]
    fn a_held_deletion_stays_held_and_an_allowed_one_stays_allowed() {
        let (brake, now) = (Brake::new(20), Instant::now());
        assert_eq!(ask(&brake, 0, DELETION, 0, now), Allowed);
        assert_eq!(ask(&brake, 1, Cause::Deletion { was_held: true }, 0, now), Held);
        assert_eq!(ask(&brake, 0, DELETION, 9, now), Allowed);
    }

    #[test]
    fn a_deletion_held_before_a_restart_holds_other_deletions() {
        let (brake, now) = (Brake::new(20), Instant::now());
        brake.hold(&named(1));
        assert_eq!(ask(&brake, 0, DELETION, 0, now), Held);
    }

    #[test]
    fn a_held_orphan_stays_held_and_holds_no_other_deletion() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(count_allowed(&brake, 5, start), 5);
        assert_eq!(ask(&brake, 5, Cause::Orphan, 5, start), Held);
        let later = start + WINDOW * 3;
        assert_eq!(ask(&brake, 5, Cause::Orphan, 0, later), Held, "time does not let it go");
        assert_eq!(ask(&brake, 6, DELETION, 0, later), Allowed);
        assert_eq!(ask(&brake, 7, Cause::Orphan, 0, later), Allowed);
        assert_eq!(brake.held(), 0, "there is nothing that could be confirmed");
        brake.retain(|_| false, |_| false);
        assert_eq!(ask(&brake, 5, DELETION, 0, later), Allowed, "its resource was there again");
    }

    #[test]
    fn a_held_deletion_becomes_a_held_orphan_when_its_resource_is_gone() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(count_allowed(&brake, 6, start), 5);
        brake.retain(|_| false, |resource| *resource == named(5));
        assert_eq!(brake.held(), 0);
        assert_eq!(ask(&brake, 5, Cause::Orphan, 0, start + WINDOW * 3), Held);
    }

    #[test]
    fn a_released_deletion_leaves_no_held_orphan() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(count_allowed(&brake, 7, start), 5);
        brake.release(&named(5));
        brake.resource_gone(&named(5));
        brake.resource_gone(&named(6));
        assert_eq!(brake.held(), 0);
        let later = start + WINDOW * 3;
        assert_eq!(ask(&brake, 5, Cause::Orphan, 0, later), Allowed, "it has a new resource, which vanished too");
        assert_eq!(ask(&brake, 6, Cause::Orphan, 0, later), Held);
    }
}
