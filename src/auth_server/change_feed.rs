//! Follows the database's changes, and makes sure that it hears them: it sends heartbeats and waits for them.
//!
//! A connection whose other end has vanished tells nothing and reports no error. So only a heartbeat that came back shows
//! that everything before it was heard.

use super::current_access::CurrentAccess;
use crate::login::{AccessChange, LoginDatabase};
use futures::StreamExt as _;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// The time between two heartbeats.
const BEAT_EVERY: Duration = Duration::from_millis(250);

/// How long a heartbeat may take to be sent.
const SEND_WITHIN: Duration = Duration::from_secs(1);

/// How long no heartbeat may come back, while heartbeats can be sent, before the feed is opened again.
const SILENT_FOR: Duration = Duration::from_secs(3);

/// The pause before a feed that ended is opened again. It ended because the server does not allow it.
const PAUSE_AFTER_END: Duration = Duration::from_mins(1);

/// Feeds the cache with the changes of a database that tells them.
pub(super) struct ChangeFeed {
    /// Connections of its own, so that heartbeats do not wait for other calls.
    pub logins: Arc<dyn LoginDatabase>,
    pub access: Arc<CurrentAccess>,
    /// The number of the first heartbeat: random, so that no other server sends the same.
    pub first: u64,
}

/// Heartbeats that were sent and have not come back.
struct Heartbeats {
    next: u64,
    sent: VecDeque<(u64, Instant)>,
    /// Since when heartbeats have been sent and none has come back.
    unheard_since: Option<Instant>,
}

/// Why the feed must be opened again.
enum Reopen {
    Silent,
    Ended,
}

impl ChangeFeed {
    /// Runs for as long as it is polled.
    pub async fn run(self) {
        let mut heartbeats = Heartbeats { next: self.first, sent: VecDeque::new(), unheard_since: None };
        loop {
            match self.listen(&mut heartbeats).await {
                Reopen::Silent => {
                    tracing::warn!(
                        "the account database tells no changes any more; its feed of changes is opened again"
                    );
                }
                Reopen::Ended => sleep(PAUSE_AFTER_END).await,
            }
            heartbeats.unheard_since = None;
        }
    }

    async fn listen(&self, heartbeats: &mut Heartbeats) -> Reopen {
        let mut changes = self.logins.changes();
        let mut beats = interval(BEAT_EVERY);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(AccessChange::Heartbeat(number)) => {
                        if let Some(sent) = heartbeats.heard(number) {
                            self.access.heard(sent);
                        }
                    }
                    Some(change) => self.access.changed(change),
                    None => return Reopen::Ended,
                },
                _ = beats.tick() => {
                    let (number, sent) = heartbeats.begin();
                    // The notification can come back before the call that sends it returns. It waits in the stream.
                    match timeout(SEND_WITHIN, self.logins.heartbeat(number)).await {
                        Ok(Ok(())) => heartbeats.was_sent(sent),
                        Ok(Err(error)) => tracing::debug!(%error, "a heartbeat could not be sent"),
                        Err(_) => tracing::debug!("a heartbeat could not be sent in time"),
                    }
                    if heartbeats.are_unheard_for(SILENT_FOR) {
                        return Reopen::Silent;
                    }
                }
            }
        }
    }
}

impl Heartbeats {
    /// The most heartbeats that are waited for.
    const MOST: usize = 64;

    /// Returns the number of the next heartbeat, and the time at which it is sent.
    fn begin(&mut self) -> (u64, Instant) {
        let (number, now) = (self.next, Instant::now());
        self.next = self.next.wrapping_add(1);
        self.sent.push_back((number, now));
        if self.sent.len() > Self::MOST {
            self.sent.pop_front();
        }
        (number, now)
    }

    fn was_sent(&mut self, at: Instant) {
        self.unheard_since.get_or_insert(at);
    }

    /// Returns when this heartbeat was sent; `None` if it is not one of ours.
    fn heard(&mut self, number: u64) -> Option<Instant> {
        let position = self.sent.iter().position(|(own, _)| *own == number)?;
        let (_, sent) = self.sent.drain(..=position).next_back()?;
        self.unheard_since = None;
        Some(sent)
    }

    fn are_unheard_for(&self, time: Duration) -> bool {
        self.unheard_since.is_some_and(|since| since.elapsed() >= time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_heartbeats_count_and_each_with_the_time_at_which_it_was_sent() {
        let mut heartbeats = Heartbeats { next: u64::MAX, sent: VecDeque::new(), unheard_since: None };
        let (first, at) = heartbeats.begin();
        let (second, later) = heartbeats.begin();
        assert_eq!((first, second), (u64::MAX, 0));
        heartbeats.was_sent(at);
        assert!(heartbeats.are_unheard_for(Duration::ZERO));
        assert_eq!(heartbeats.heard(7), None);
        assert!(heartbeats.are_unheard_for(Duration::ZERO));
        assert_eq!(heartbeats.heard(second), Some(later));
        assert!(!heartbeats.are_unheard_for(Duration::ZERO));
        assert_eq!(heartbeats.heard(first), None, "what came before was passed over");
    }
}
