//! The brake: when more accounts would lose their access within a short time than anybody means to, the rest are held
//! until a person says so.
//!
//! A deleted namespace, a pruned folder, a restored etcd: each looks like many deletions that somebody asked for. Once the
//! brake has gripped it stays so while a deletion is held; time alone lets nothing go. An orphan that is held holds up
//! nobody else: it has no resource on which a person could confirm it.

use crate::account::Owner;
use crate::api::ApiAccount;
use crate::reconcile::deletion_limit;
use kube::runtime::reflector::ObjectRef;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The time within which deletions count together.
const WINDOW: Duration = Duration::from_mins(10);

type Resource = ObjectRef<ApiAccount>;

/// Counts who is let go.
pub(super) struct Brake {
    /// The percentage of all accounts that may be let go within the window.
    pub percent: u8,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    let_go: HashMap<Resource, Instant>,
    held: HashSet<Resource>,
    held_orphans: HashSet<Resource>,
}

/// Why an account is to lose its access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
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
pub(super) enum Verdict {
    /// Now.
    LetGo,
    /// Not until somebody confirms it, or the orphan's resource is back.
    Held,
    /// That depends on which accounts there are, which was not said.
    Depends,
}

impl Brake {
    /// A brake that grips above this percentage of all accounts; 100 never grips.
    pub fn new(percent: u8) -> Self {
        Self { percent, state: Mutex::default() }
    }

    /// Whether an account may lose its access now. `live` are the accounts that there are, by the database; most deletions
    /// are decided without.
    pub fn let_go(&self, who: &Resource, end: End, live: Option<&[Owner]>, now: Instant) -> Verdict {
        let mut state = self.state();
        state.let_go.retain(|_, at| now.duration_since(*at) < WINDOW);
        if state.let_go.contains_key(who) {
            return Verdict::LetGo;
        }
        let is_held = match (deletion_limit(0, self.percent), live) {
            (None, _) => false,
            _ if state.holds(who, end) || !state.held.is_empty() => true,
            (Some(always), _) if state.let_go.len() < always => false,
            (_, None) => return Verdict::Depends,
            (_, Some(live)) => {
                deletion_limit(state.all(live), self.percent).is_some_and(|limit| state.let_go.len() >= limit)
            }
        };
        if !is_held {
            state.let_go.insert(who.clone(), now);
            return Verdict::LetGo;
        }
        match end {
            End::Deletion { .. } => state.held.insert(who.clone()),
            End::Orphan => state.held_orphans.insert(who.clone()),
        };
        Verdict::Held
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
    pub fn vanished(&self, who: &Resource) {
        let State { held, held_orphans, .. } = &mut *self.state();
        held_orphans.extend(held.take(who));
    }

    /// Forgets whom it holds of those that are no longer there to be held, as [`Self::vanished`] does for what no watch has
    /// shown.
    pub fn keep(&self, is_going: impl Fn(&Resource) -> bool, is_orphan: impl Fn(&Resource) -> bool) {
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
    fn holds(&self, who: &Resource, end: End) -> bool {
        match end {
            End::Deletion { was_held } => was_held,
            End::Orphan => self.held_orphans.contains(who),
        }
    }

    /// How many accounts there are with those let go. Who is let go may be live still, and counts once.
    fn all(&self, live: &[Owner]) -> usize {
        let gone: HashSet<_> = self.let_go.keys().map(|gone| (gone.namespace.as_deref(), gone.name.as_str())).collect();
        let is_left = |owner: &&Owner| !gone.contains(&(Some(owner.namespace.as_str()), owner.name.as_str()));
        gone.len() + live.iter().filter(is_left).count()
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Depends, Held, LetGo};
    use super::*;
    use crate::account::ClusterId;

    const DELETION: End = End::Deletion { was_held: false };

    fn named(number: usize) -> Resource {
        ObjectRef::new(&format!("a{number}")).within("ns")
    }

    fn live(numbers: impl IntoIterator<Item = usize>) -> Vec<Owner> {
        let cluster = ClusterId::parse("here").unwrap();
        let owner = |number| Owner { cluster: cluster.clone(), namespace: "ns".to_owned(), name: format!("a{number}") };
        numbers.into_iter().map(owner).collect()
    }

    /// How many of this many are let go one after the other, if those who are disappear at once.
    fn let_go(brake: &Brake, all: usize, now: Instant) -> usize {
        let mut left: Vec<usize> = (0..all).collect();
        for number in 0..all {
            if brake.let_go(&named(number), DELETION, Some(&live(left.clone())), now) == LetGo {
                left.retain(|other| *other != number);
            }
        }
        all - left.len()
    }

    /// What it says if nine are left.
    fn ask(brake: &Brake, number: usize, end: End, now: Instant) -> Verdict {
        brake.let_go(&named(number), end, Some(&live(10..19)), now)
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
    fn who_is_let_go_and_live_still_counts_once_and_so_does_who_is_held() {
        let (brake, now) = (Brake::new(20), Instant::now());
        let all = live(0..50);
        let verdicts: Vec<_> = (0..50).map(|number| brake.let_go(&named(number), DELETION, Some(&all), now)).collect();
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == LetGo).count(), 10);
        assert_eq!(verdicts[10..], [Held; 40]);
    }

    #[test]
    fn only_the_sixth_depends_on_how_many_there_are() {
        let (brake, now) = (Brake::new(20), Instant::now());
        let alone = |number| brake.let_go(&named(number), DELETION, None, now);
        assert_eq!([0, 1, 2, 3, 4, 5, 4].map(alone), [LetGo, LetGo, LetGo, LetGo, LetGo, Depends, LetGo]);
        assert_eq!(brake.held(), 0);
        assert_eq!(ask(&brake, 5, DELETION, now), Held);
        assert_eq!(alone(6), Held);
    }

    #[test]
    fn deletions_far_apart_do_not_count_together() {
        let (brake, start) = (Brake::new(20), Instant::now());
        for number in 0..20 {
            let now = start + WINDOW * u32::try_from(number).unwrap();
            assert_eq!(brake.let_go(&named(number), DELETION, Some(&live(number..20)), now), LetGo);
        }
    }

    #[test]
    fn time_lets_nothing_go_that_is_held_and_a_person_does() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 6, start), 5);
        let later = start + WINDOW * 3;
        assert_eq!(ask(&brake, 5, DELETION, later), Held);
        assert_eq!(ask(&brake, 9, DELETION, later), Held, "nor anything after it");
        brake.release(&named(5));
        brake.release(&named(9));
        assert_eq!(ask(&brake, 7, DELETION, later), LetGo);
    }

    #[test]
    fn who_is_not_there_any_more_is_not_held() {
        let (brake, now) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 7, now), 5);
        assert_eq!(brake.held(), 2);
        brake.keep(|resource| *resource == named(6), |_| false);
        assert_eq!(brake.held(), 1);
        brake.keep(|_| false, |_| false);
        assert_eq!(brake.held(), 0);
        let rest = live(10..109);
        assert_eq!(brake.let_go(&named(8), DELETION, Some(&rest), now), LetGo, "it has let go of the rest");
    }

    #[test]
    fn what_was_held_before_a_restart_stays_held_and_who_was_let_go_may_try_again() {
        let (brake, now) = (Brake::new(20), Instant::now());
        assert_eq!(ask(&brake, 0, DELETION, now), LetGo);
        assert_eq!(ask(&brake, 1, End::Deletion { was_held: true }, now), Held);
        assert_eq!(ask(&brake, 0, DELETION, now), LetGo);
    }

    #[test]
    fn what_was_held_before_a_restart_holds_what_is_looked_at_before_it() {
        let (brake, now) = (Brake::new(20), Instant::now());
        brake.hold(&named(1));
        assert_eq!(ask(&brake, 0, DELETION, now), Held);
    }

    #[test]
    fn an_orphan_that_is_held_stays_so_and_holds_up_nobody_else() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 5, start), 5);
        assert_eq!(ask(&brake, 5, End::Orphan, start), Held);
        let later = start + WINDOW * 3;
        assert_eq!(ask(&brake, 5, End::Orphan, later), Held, "time does not let it go");
        assert_eq!(ask(&brake, 6, DELETION, later), LetGo);
        assert_eq!(ask(&brake, 7, End::Orphan, later), LetGo);
        assert_eq!(brake.held(), 0, "there is nothing that could be confirmed");
        brake.keep(|_| false, |_| false);
        assert_eq!(ask(&brake, 5, DELETION, later), LetGo, "its resource was there again");
    }

    #[test]
    fn a_held_deletion_whose_resource_was_made_to_vanish_is_that_of_a_held_orphan() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 6, start), 5);
        brake.keep(|_| false, |resource| *resource == named(5));
        assert_eq!(brake.held(), 0);
        assert_eq!(ask(&brake, 5, End::Orphan, start + WINDOW * 3), Held);
    }

    #[test]
    fn a_deletion_that_was_let_go_leaves_no_held_orphan_behind() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 7, start), 5);
        brake.release(&named(5));
        brake.vanished(&named(5));
        brake.vanished(&named(6));
        assert_eq!(brake.held(), 0);
        let later = start + WINDOW * 3;
        assert_eq!(ask(&brake, 5, End::Orphan, later), LetGo, "it has a new resource, which vanished too");
        assert_eq!(ask(&brake, 6, End::Orphan, later), Held);
    }
}
