//! The fence: no external write begins or goes on unless this process leads at that moment.
//!
//! A write is a future. The fence compares the clock with the end of the leadership before each time that it polls the
//! future, and drops the future at that end. So a process that was stopped in the middle of a write does not go on with
//! it.

use super::clock;
use super::election::Moment;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Whether this process leads. Clones share the state.
#[derive(Debug, Clone)]
pub(in crate::controller) struct Leadership(watch::Sender<Standing>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// There is no election: this process may always write.
    Unelected,
    /// The Lease has not been read yet.
    Unknown,
    /// Another candidate may lead.
    Follower,
    /// This process may write until this time.
    Leader(Moment),
    /// The leadership ended. It does not come back.
    Over,
}

/// This process does not lead, so it did not write.
#[derive(Debug, Error)]
#[error("this controller is not the leader, so it writes nothing")]
pub(in crate::controller) struct NotLeading;

impl Leadership {
    /// Returns the leadership of a process without an election. It always leads.
    pub fn unelected() -> Self {
        Self(watch::Sender::new(Standing::Unelected))
    }

    /// Returns the leadership of a candidate that has not been elected yet.
    pub fn candidate() -> Self {
        Self(watch::Sender::new(Standing::Unknown))
    }

    /// Records the state of the election.
    pub(super) fn set(&self, knows_lease: bool, leads_until: Option<Moment>) {
        let standing = match leads_until {
            Some(until) => Standing::Leader(until),
            None if knows_lease => Standing::Follower,
            None => Standing::Unknown,
        };
        self.0.send_if_modified(|present| {
            let is_new = *present != standing && *present != Standing::Over;
            if is_new {
                *present = standing;
            }
            is_new
        });
    }

    /// Ends the leadership for good.
    pub(super) fn end(&self) {
        self.0.send_replace(Standing::Over);
    }

    /// Returns whether this process may write now.
    pub fn is_leader(&self) -> bool {
        self.left(clock::now()).is_some()
    }

    /// Returns whether there is an election.
    pub fn is_elected(&self) -> bool {
        *self.0.borrow() != Standing::Unelected
    }

    /// Returns whether the Lease has been read, or there is no election.
    pub fn is_known(&self) -> bool {
        *self.0.borrow() != Standing::Unknown
    }

    /// Waits until this process leads.
    pub async fn acquired(&self) {
        let mut standing = self.0.subscribe();
        let leads = standing.wait_for(|standing| matches!(standing, Standing::Unelected | Standing::Leader(_))).await;
        if leads.is_err() {
            // The sender is a field of this value, so it cannot be gone.
            std::future::pending::<()>().await;
        }
    }

    /// Does the work as long as this process leads.
    ///
    /// # Errors
    /// [`NotLeading`] if this process does not lead, or stops leading before the work has ended. It is then unknown
    /// whether the last call of the work had an effect.
    pub async fn guard<T>(&self, work: impl Future<Output = T>) -> Result<T, NotLeading> {
        let (mut work, mut timer) = (pin!(work), pin!(sleep(Duration::ZERO)));
        poll_fn(|context| {
            if self.left(clock::now()).is_none() {
                return Poll::Ready(Err(NotLeading));
            }
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            // The end moves with each renewal, so it is read again when the timer fires.
            while timer.as_mut().poll(context).is_ready() {
                match self.left(clock::now()) {
                    None => return Poll::Ready(Err(NotLeading)),
                    Some(left) => timer.as_mut().reset(Instant::now() + left.min(LONGEST_SLEEP)),
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Returns how long this process may still write; `None` if it may not.
    fn left(&self, now: Moment) -> Option<Duration> {
        match *self.0.borrow() {
            Standing::Unelected => Some(LONGEST_SLEEP),
            Standing::Leader(until) => Some(until.left(now)).filter(|left| !left.is_zero()),
            Standing::Unknown | Standing::Follower | Standing::Over => None,
        }
    }
}

/// The longest time between two comparisons with the clock while a write waits.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn leader_for(time: Duration) -> Leadership {
        let leadership = Leadership::candidate();
        leadership.set(true, Some(clock::now().after(time)));
        leadership
    }

    #[tokio::test]
    async fn a_follower_does_not_even_begin_to_write() {
        let begun = AtomicUsize::new(0);
        let write = async { begun.fetch_add(1, Ordering::Relaxed) };
        let follower = Leadership::candidate();
        assert!(follower.guard(write).await.is_err() && !follower.is_known());
        follower.set(true, None);
        assert!(follower.guard(std::future::ready(())).await.is_err() && follower.is_known() && !follower.is_leader());
        assert_eq!(begun.load(Ordering::Relaxed), 0);
        assert!(Leadership::unelected().guard(std::future::ready(())).await.is_ok());
    }

    #[tokio::test]
    async fn a_write_that_hangs_ends_with_the_leadership_and_not_before() {
        let leadership = leader_for(Duration::from_millis(30));
        let renewed = leadership.clone();
        let (began, end) = (clock::now(), clock::now().after(Duration::from_millis(200)));
        renewed.set(true, Some(end));
        assert!(leadership.guard(std::future::pending::<()>()).await.is_err());
        assert!(clock::now() >= end, "{began:?} {end:?}");
    }

    #[tokio::test]
    async fn a_write_that_could_go_on_after_the_end_does_not() {
        let leadership = leader_for(Duration::from_millis(50));
        let steps = AtomicUsize::new(0);
        let write = async {
            steps.fetch_add(1, Ordering::Relaxed);
            // The whole process stands still here, as if it were stopped by a signal.
            std::thread::sleep(Duration::from_millis(100));
            tokio::task::yield_now().await;
            steps.fetch_add(1, Ordering::Relaxed);
        };
        assert!(leadership.guard(write).await.is_err());
        assert_eq!(steps.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_leadership_that_is_over_does_not_come_back() {
        let leadership = leader_for(Duration::from_mins(1));
        leadership.acquired().await;
        assert!(leadership.is_leader());
        leadership.end();
        leadership.set(true, Some(clock::now().after(Duration::from_mins(1))));
        assert!(!leadership.is_leader());
    }
}
