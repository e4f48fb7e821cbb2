//! The brake: when more accounts would lose their access within a short time than anybody means to, the rest are held
//! until a person says so.
//!
//! A deleted namespace, a pruned folder, a restored etcd: each looks like many deletions that somebody asked for. Once the
//! brake has gripped it stays so while anything is held; time alone lets nothing go.

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

    /// Whether an account may lose its access now. `accounts` is how many there are beside those let go already;
    /// `was_held` is what the resource's own status says, so that a restart lets nothing go.
    ///
    /// # Errors
    /// [`Held`] until somebody confirms it.
    pub fn let_go(&self, who: &Resource, accounts: usize, was_held: bool, now: Instant) -> Result<(), Held> {
        let mut state = self.state();
        state.let_go.retain(|(_, at)| now.duration_since(*at) < WINDOW);
        if state.let_go.iter().any(|(resource, _)| resource == who) {
            return Ok(());
        }
        let all = accounts + state.let_go.len();
        if let Some(limit) = deletion_limit(all, self.percent)
            && (was_held || !state.held.is_empty() || state.let_go.len() >= limit)
        {
            state.held.insert(who.clone());
            return Err(Held { limit });
        }
        state.let_go.push((who.clone(), now));
        Ok(())
    }

    /// A person has confirmed it, or there is nothing to hold any more.
    pub fn release(&self, who: &Resource) {
        self.state().held.remove(who);
    }

    /// Forgets whom it holds of those that are no longer there to be held.
    pub fn keep(&self, is_there: impl Fn(&Resource) -> bool) {
        self.state().held.retain(|resource| is_there(resource));
    }

    /// How many it holds.
    pub fn held(&self) -> usize {
        self.state().held.len()
    }

    /// A panic elsewhere cannot leave the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(number: usize) -> Resource {
        ObjectRef::new(&format!("a{number}")).within("ns")
    }

    /// How many of this many are let go one after the other.
    fn let_go(brake: &Brake, all: usize, now: Instant) -> usize {
        (0..all).filter(|number| brake.let_go(&named(*number), all - number, false, now).is_ok()).count()
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
            assert!(brake.let_go(&named(number), 20 - number, false, now).is_ok());
        }
    }

    #[test]
    fn time_lets_nothing_go_that_is_held_and_a_person_does() {
        let (brake, start) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 6, start), 5);
        let later = start + WINDOW * 3;
        assert!(brake.let_go(&named(5), 1, false, later).is_err());
        assert!(brake.let_go(&named(9), 9, false, later).is_err(), "nor anything after it");
        brake.release(&named(5));
        brake.release(&named(9));
        assert!(brake.let_go(&named(7), 9, false, later).is_ok());
    }

    #[test]
    fn who_is_not_there_any_more_is_not_held() {
        let (brake, now) = (Brake::new(20), Instant::now());
        assert_eq!(let_go(&brake, 7, now), 5);
        assert_eq!(brake.held(), 2);
        brake.keep(|resource| *resource == named(6));
        assert_eq!(brake.held(), 1);
        brake.keep(|_| false);
        assert_eq!(brake.held(), 0);
        assert!(brake.let_go(&named(8), 99, false, now).is_ok(), "it has let go of the rest");
    }

    #[test]
    fn what_was_held_before_a_restart_stays_held_and_who_was_let_go_may_try_again() {
        let (brake, now) = (Brake::new(20), Instant::now());
        assert!(brake.let_go(&named(0), 9, false, now).is_ok());
        assert_eq!(brake.let_go(&named(1), 9, true, now), Err(Held { limit: 5 }));
        assert!(brake.let_go(&named(0), 9, false, now).is_ok());
    }
}
