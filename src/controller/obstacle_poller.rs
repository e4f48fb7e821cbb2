//! Looks in the database, in one read for all who wait, whether names and affiliates that they wait for have come.
//!
//! Nobody who waits tries by itself in the meantime but once in a long while: a fleet of refused accounts must not be a load on
//! the database that logins read.

use super::context::Context;
use crate::account::{AccountName, AffiliateName};
use crate::database::AccountDatabase;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// The longest time from one look to the next.
const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// The shortest, however often the database tells of changes.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);

/// How soon to look after the database told of a change: one often comes with others.
const AFTER_CHANGE: Duration = Duration::from_millis(500);

/// How many names or affiliates one read asks for at most.
const AT_A_TIME: usize = 5000;

/// Looks for those who wait.
pub(super) struct ObstaclePoller {
    pub context: Arc<Context>,
    pub database: Arc<dyn AccountDatabase>,
}

impl ObstaclePoller {
    /// Looks for as long as it is polled.
    pub async fn run(self) {
        let waiting = &self.context.waiting;
        loop {
            waiting.obstacle_added().await;
            let mut looked = None;
            loop {
                let pause = POLL_INTERVAL.mul_f64(0.8 + 0.2 * self.context.environment.jitter());
                tokio::select! {
                    () = sleep(pause) => {}
                    () = waiting.next_account_change() => {
                        let soon = Instant::now() + AFTER_CHANGE;
                        sleep_until(looked.map_or(soon, |at: Instant| soon.max(at + SHORTEST_PAUSE))).await;
                    }
                }
                let (names, affiliates) = waiting.obstacles();
                if names.is_empty() && affiliates.is_empty() {
                    break;
                }
                self.poll(&names, &affiliates).await;
                looked = Some(Instant::now());
            }
        }
    }

    async fn poll(&self, names: &[AccountName], affiliates: &[AffiliateName]) {
        for names in names.chunks(AT_A_TIME) {
            self.query(names, &[]).await;
        }
        for affiliates in affiliates.chunks(AT_A_TIME) {
            self.query(&[], affiliates).await;
        }
    }

    /// What fails is for the next time.
    async fn query(&self, names: &[AccountName], affiliates: &[AffiliateName]) {
        match self.database.find_obstacles(names, affiliates).await {
            Ok(found) => self.context.waiting.obstacles_found(names, affiliates, &found),
            Err(error) => tracing::debug!(%error, "what resources wait for could not be looked up"),
        }
    }
}
