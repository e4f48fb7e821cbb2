//! The brake: when more accounts would lose their access within a short time than anybody means to, the rest are held
//! until a person says so.
//!
//! A deleted namespace, a pruned folder, a restored etcd: each looks like many deletions that somebody asked for. Once the
//! brake has gripped it stays so while a deletion is held; time alone lets nothing go. An orphan that is held holds up
//! nobody else: it has no resource on which a person could confirm it.

use crate::api::ApiAccount;
use crate::reconcile::deletion_limit;
use kube::runtime::reflector::ObjectRef;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The time within which deletions count together.
const WINDOW: Duration = Duration::from_mins(10);

type Resource = ObjectRef<ApiAccount>;

/// Counts who is let go.
pub(super) struct Brake {
    /// The percentage of all accounts that may be let go within the window.
    percent: u8,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    let_go: Vec<(Resource, Instant)>,
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

/// Why an account is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// How many may be let go within the window.
    pub limit: usize,
}

impl Brake {
    /// A brake that grips above this percentage of all accounts; 100 never grips.
    pub fn new(percent: u8) -> Self {
        Self { percent, state: Mutex::default() }
    }

    /// Whether an account may lose its access now. `accounts` is how many there are beside those let go already.
    ///
    /// # Errors
    /// [`Held`] until somebody confirms it, or the orphan's resource is back.
    pub fn let_go(&self, who: &Resource, end: End, accounts: usize, now: Instant) -> Result<(), Held> {
        let mut state = self.state();
        state.let_go.retain(|(_, at)| now.duration_since(*at) < WINDOW);
        if state.let_go.iter().any(|(resource, _)| resource == who) {
            return Ok(());
        }
        let all = accounts + state.let_go.len();
        if let Some(limit) = deletion_limit(all, self.percent)
            && (state.holds(who, end) || !state.held.is_empty() || state.let_go.len() >= limit)
        {
            match end {
                End::Deletion { .. } => state.held.insert(who.clone()),
                End::Orphan => state.held_orphans.insert(who.clone()),
            };
            return Err(Held { limit });
        }
        state.let_go.push((who.clone(), now));
        Ok(())
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELETION: End = End::Deletion { was_held: false };

    fn named(number: usize) -> Resource {
        ObjectRef::new(&format!("a{number}")).within("ns")
    }

    /// How many of this many are let go one after the other.
    fn let_go(brake: &Brake, all: usize, now: Instant) -> usize {
        (0..all).filter(|number| brake.let_go(&named(*number), DELETION, all - number, now).is_ok()).count()
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
    fn deletions_far_apart_do_not_count_together() {
        let (brake, start) = (Brake::new(20), Instant::now());
        for number in 0..20 {
            let now = start + WINDOW * u32::try_from(number).unwrap();
            assert!(brake.let_go(&named(number), DELETION, 20 - number, now).is_ok());
        }
    }

    #[test]
    fn time_lets_nothing_go_that_is_held_and_a_person_does() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 6, start), 5);
        let later = start + WINDOW * 3;
        assert!(brake.let_go(&named(5), DELETION, 1, later).is_err());
        assert!(brake.let_go(&named(9), DELETION, 9, later).is_err(), "nor anything after it");
        brake.release(&named(5));
        brake.release(&named(9));
        assert!(brake.let_go(&named(7), DELETION, 9, later).is_ok());
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
        assert!(brake.let_go(&named(8), DELETION, 99, now).is_ok(), "it has let go of the rest");
    }

    #[test]
    fn what_was_held_before_a_restart_stays_held_and_who_was_let_go_may_try_again() {
        let (brake, now) = (Brake::new(20), Instant::now());
        assert!(brake.let_go(&named(0), DELETION, 9, now).is_ok());
        assert_eq!(brake.let_go(&named(1), End::Deletion { was_held: true }, 9, now), Err(Held { limit: 5 }));
        assert!(brake.let_go(&named(0), DELETION, 9, now).is_ok());
    }

    #[test]
    fn what_was_held_before_a_restart_holds_what_is_looked_at_before_it() {
        let (brake, now) = (Brake::new(20), Instant::now());
        brake.hold(&named(1));
        assert!(brake.let_go(&named(0), DELETION, 9, now).is_err());
    }

    #[test]
    fn an_orphan_that_is_held_stays_so_and_holds_up_nobody_else() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 5, start), 5);
        assert!(brake.let_go(&named(5), End::Orphan, 9, start).is_err());
        let later = start + WINDOW * 3;
        assert!(brake.let_go(&named(5), End::Orphan, 9, later).is_err(), "time does not let it go");
        assert!(brake.let_go(&named(6), DELETION, 9, later).is_ok());
        assert!(brake.let_go(&named(7), End::Orphan, 9, later).is_ok());
        assert_eq!(brake.held(), 0, "there is nothing that could be confirmed");
        brake.keep(|_| false, |_| false);
        assert!(brake.let_go(&named(5), DELETION, 9, later).is_ok(), "its resource was there again");
    }

    #[test]
    fn a_held_deletion_whose_resource_was_made_to_vanish_is_that_of_a_held_orphan() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 6, start), 5);
        brake.keep(|_| false, |resource| *resource == named(5));
        assert_eq!(brake.held(), 0);
        assert!(brake.let_go(&named(5), End::Orphan, 9, start + WINDOW * 3).is_err());
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
        assert!(brake.let_go(&named(5), End::Orphan, 9, later).is_ok(), "it has a new resource, which vanished too");
        assert!(brake.let_go(&named(6), End::Orphan, 9, later).is_err());
    }
}
