//! The brake: when more accounts would lose their access within a short time than anybody means to, the rest are held
//! until a person says so.
//!
//! A deleted namespace, a pruned folder, a restored etcd: each looks like many deletions that somebody asked for. How many
//! went within that time is counted by the database, so that a restart forgets none. Once the brake has gripped it stays so
//! while a deletion is held; time alone lets nothing go. An orphan that is held holds up nobody else: it has no resource on
//! which a person could confirm it.

use crate::api::ApiAccount;
use crate::database::Deletions;
use crate::reconcile::{DELETION_WINDOW as WINDOW, deletion_limit};
use kube::runtime::reflector::ObjectRef;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a count may be used again. It misses what others have deleted since.
const COUNT_VALID_FOR: Duration = Duration::from_secs(5);

/// The longest that somebody whose window is over is counted still.
const CLEAR_EVERY: Duration = Duration::from_secs(1);

type Resource = ObjectRef<ApiAccount>;

/// Counts who is let go.
pub(super) struct Brake {
    /// The percentage of all accounts that may be let go within the window.
    pub percent: u8,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whom this controller has let go and when, each until the window is over.
    allowed: HashMap<Resource, Instant>,
    /// Those of them whom the last count may have missed, each with when its account was found to be deleted.
    uncounted: HashMap<Resource, Option<Instant>>,
    /// When those whose window is over were last forgotten.
    cleared: Option<Instant>,
    counted: Option<Counted>,
    held: HashSet<Resource>,
    held_orphans: HashSet<Resource>,
}

/// What the database counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    /// When it was asked, at the earliest.
    pub asked: Instant,
    /// What it answered for the time within which deletions count together.
    pub deletions: Deletions,
}

/// Why an account is to lose its access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its resource is being deleted.
    Deletion {
        /// What the resource's own status says, so that a restart lets nothing go.
        was_held: bool,
    },
    /// Its resource is gone without a deletion.
    Orphan,
}

/// Whether an account may lose its access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Now.
    Allowed,
    /// Not until somebody confirms it, or the orphan's resource is back.
    Held,
    /// That depends on a count, which was not given.
    NeedsCount,
    /// That depends on deletions that are under way: ask again.
    AskAgain,
}

impl Brake {
    /// A brake that grips above this percentage of all accounts; 100 never grips.
    pub fn new(percent: u8) -> Self {
        Self { percent, state: Mutex::default() }
    }

    /// Whether an account may lose its access now. Without a new count, the last one decides as far as it can.
    pub fn decide(&self, who: &Resource, end: Cause, counted: Option<Counted>, now: Instant) -> Decision {
        if deletion_limit(0, self.percent).is_none() {
            return Decision::Allowed;
        }
        let mut state = self.state();
        state.clear(now);
        if state.allowed.contains_key(who) {
            return Decision::Allowed;
        }
        let verdict = if state.holds(who, end) || !state.held.is_empty() {
            Decision::Held
        } else {
            state.decide_by_count(self.percent, counted, now)
        };
        match (verdict, end) {
            (Decision::Allowed, _) => {
                state.allowed.insert(who.clone(), now);
                state.uncounted.insert(who.clone(), None);
            }
            (Decision::Held, Cause::Deletion { .. }) => {
                state.held.insert(who.clone());
            }
            (Decision::Held, Cause::Orphan) => {
                state.held_orphans.insert(who.clone());
            }
            (Decision::NeedsCount | Decision::AskAgain, _) => {}
        }
        verdict
    }

    /// The account of one that was let go is deleted now.
    pub fn deleted(&self, who: &Resource, now: Instant) {
        if let Some(done) = self.state().uncounted.get_mut(who) {
            done.get_or_insert(now);
        }
    }

    /// This one is held, as its status says.
    pub fn hold(&self, who: &Resource) {
        self.state().held.insert(who.clone());
    }

    /// A person has confirmed it, or there is nothing to hold any more.
    pub fn release(&self, who: &Resource) {
        self.state().held.remove(who);
    }

    /// The resource is gone. A deletion that is held still was let go by nobody: it is that of an orphan.
    pub fn resource_gone(&self, who: &Resource) {
        let State { held, held_orphans, .. } = &mut *self.state();
        held_orphans.extend(held.take(who));
    }

    /// Forgets whom it holds of those that are no longer there to be held, as [`Self::vanished`] does for what no watch has
    /// shown.
    pub fn retain(&self, is_going: impl Fn(&Resource) -> bool, is_orphan: impl Fn(&Resource) -> bool) {
        let State { held, held_orphans, .. } = &mut *self.state();
        held_orphans.extend(held.iter().cloned());
        held.retain(&is_going);
        held_orphans.retain(&is_orphan);
    }

    /// How many deletions it holds.
    pub fn held(&self) -> usize {
        self.state().held.len()
    }

    /// A panic elsewhere cannot leave the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets those whose window is over; not at each call, since it goes through all of them.
    fn clear(&mut self, now: Instant) {
        if self.cleared.is_some_and(|cleared| now.duration_since(cleared) < CLEAR_EVERY) {
            return;
        }
        self.cleared = Some(now);
        self.allowed.retain(|_, at| now.duration_since(*at) < WINDOW);
        let let_go = &self.allowed;
        self.uncounted.retain(|who, _| let_go.contains_key(who));
    }

    fn holds(&self, who: &Resource, end: Cause) -> bool {
        match end {
            Cause::Deletion { was_held } => was_held,
            Cause::Orphan => self.held_orphans.contains(who),
        }
    }

    /// Whether one more may go.
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
        // What this controller knows of counts even if a clock was set forward, by which the database's times are old.
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

    /// How many of this many are let go one after the other, if those who are disappear at once.
    fn let_go(brake: &Brake, all: usize, now: Instant) -> usize {
        let mut gone = 0;
        for number in 0..all {
            if brake.decide(&named(number), DELETION, Some(counted(all - gone, gone, now)), now) == Allowed {
                brake.deleted(&named(number), now.checked_sub(Duration::from_nanos(1)).unwrap());
                gone += 1;
            }
        }
        gone
    }

    /// What it says if nine are left, and this many went lately.
    fn ask(brake: &Brake, number: usize, end: Cause, deleted: usize, now: Instant) -> Decision {
        brake.decide(&named(number), end, Some(counted(9, deleted, now)), now)
    }

    #[test]
    fn a_fifth_or_five_may_go_at_once() {
        let now = Instant::now();
        assert_eq!(let_go(&Brake::new(20), 100, now), 20);
        assert_eq!(let_go(&Brake::new(20), 12, now), 5);
        assert_eq!(let_go(&Brake::new(20), 3, now), 3);
        assert_eq!(let_go(&Brake::new(100), 50, now), 50);
    }

    #[test]
    fn who_was_let_go_before_a_restart_counts() {
        let (brake, now) = (Brake::new(20), Instant::now());
        let ask =
            |number, deleted| brake.decide(&named(number), DELETION, Some(counted(100 - deleted, deleted, now)), now);
        assert_eq!(ask(0, 19), Allowed);
        brake.deleted(&named(0), now.checked_sub(Duration::from_nanos(1)).unwrap());
        assert_eq!(ask(1, 20), Held);
    }

    #[test]
    fn who_is_let_go_and_live_still_counts_once_and_so_does_who_is_held() {
        let (brake, now) = (Brake::new(20), Instant::now());
        let verdicts: Vec<_> =
            (0..50).map(|number| brake.decide(&named(number), DELETION, Some(counted(50, 0, now)), now)).collect();
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Allowed).count(), 10);
        assert_eq!(verdicts[10..], [Held; 40]);
    }

    #[test]
    fn a_deletion_that_may_be_counted_or_not_is_waited_for() {
        let (brake, now) = (Brake::new(20), Instant::now());
        let ask = |number, deleted, asked| {
            brake.decide(&named(number), DELETION, Some(counted(100 - deleted, deleted, asked)), asked)
        };
        assert_eq!(ask(0, 18, now), Allowed);
        // It is 18 with it or 19.
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
    fn one_count_serves_for_many_and_not_for_long() {
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
    fn a_fleet_is_deleted_with_few_counts_and_little_work() {
        let (brake, start) = (Brake::new(20), Instant::now());
        let (mut gone, mut counts) = (0, 0);
        for number in 0..50_000 {
            let now = start + Duration::from_micros(number);
            let who = named(usize::try_from(number).unwrap());
            let mut verdict = brake.decide(&who, DELETION, None, now);
            if verdict == NeedsCount {
                counts += 1;
                verdict = brake.decide(&who, DELETION, Some(counted(50_000 - gone, gone, now)), now);
            }
            if verdict == Allowed {
                brake.deleted(&who, now);
                gone += 1;
            }
        }
        assert_eq!((gone, brake.held()), (10_000, 40_000));
        assert!(counts <= 3, "{counts}");
        // Once they are held, nobody is counted or gone through for them.
        assert!(brake.state().uncounted.len() <= 10_000);

        let never = Brake::new(100);
        for number in 0..50_000 {
            assert_eq!(never.decide(&named(number), DELETION, None, start), Allowed);
        }
        assert!(never.state().allowed.is_empty());
    }

    #[test]
    fn a_clock_that_is_set_forward_makes_it_forget_nobody_that_it_let_go() {
        let (brake, now) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 5, now), 5);
        assert_eq!(ask(&brake, 5, DELETION, 0, now), Held);
    }

    #[test]
    fn deletions_far_apart_do_not_count_together() {
        let (brake, start) = (Brake::new(20), Instant::now());
        for number in 0..20 {
            let now = start + WINDOW * u32::try_from(number).unwrap();
            assert_eq!(ask(&brake, number, DELETION, 0, now), Allowed);
        }
    }

    #[test]
    fn time_lets_nothing_go_that_is_held_and_a_person_does() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 6, start), 5);
        let later = start + WINDOW * 3;
        assert_eq!(ask(&brake, 5, DELETION, 0, later), Held);
        assert_eq!(ask(&brake, 9, DELETION, 0, later), Held, "nor anything after it");
        brake.release(&named(5));
        brake.release(&named(9));
        assert_eq!(ask(&brake, 7, DELETION, 0, later), Allowed);
    }

    #[test]
    fn who_is_not_there_any_more_is_not_held() {
        let (brake, now) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 7, now), 5);
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
    fn what_was_held_before_a_restart_stays_held_and_who_was_let_go_may_try_again() {
        let (brake, now) = (Brake::new(20), Instant::now());
        assert_eq!(ask(&brake, 0, DELETION, 0, now), Allowed);
        assert_eq!(ask(&brake, 1, Cause::Deletion { was_held: true }, 0, now), Held);
        assert_eq!(ask(&brake, 0, DELETION, 9, now), Allowed);
    }

    #[test]
    fn what_was_held_before_a_restart_holds_what_is_looked_at_before_it() {
        let (brake, now) = (Brake::new(20), Instant::now());
        brake.hold(&named(1));
        assert_eq!(ask(&brake, 0, DELETION, 0, now), Held);
    }

    #[test]
    fn an_orphan_that_is_held_stays_so_and_holds_up_nobody_else() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 5, start), 5);
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
    fn a_held_deletion_whose_resource_was_made_to_vanish_is_that_of_a_held_orphan() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 6, start), 5);
        brake.retain(|_| false, |resource| *resource == named(5));
        assert_eq!(brake.held(), 0);
        assert_eq!(ask(&brake, 5, Cause::Orphan, 0, start + WINDOW * 3), Held);
    }

    #[test]
    fn a_deletion_that_was_let_go_leaves_no_held_orphan_behind() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 7, start), 5);
        brake.release(&named(5));
        brake.resource_gone(&named(5));
        brake.resource_gone(&named(6));
        assert_eq!(brake.held(), 0);
        let later = start + WINDOW * 3;
        assert_eq!(ask(&brake, 5, Cause::Orphan, 0, later), Allowed, "it has a new resource, which vanished too");
        assert_eq!(ask(&brake, 6, Cause::Orphan, 0, later), Held);
    }
}
