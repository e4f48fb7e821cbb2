//! Asks the database, in one read for all waiting resources, whether the names and affiliates that they wait for are
//! available.
//!
//! A waiting resource itself is reconciled only at long intervals. Many refused resources would otherwise be a load on
//! the database that logins read.

use super::context::Context;
use crate::account::{AccountName, AffiliateName};
use crate::database::AccountDatabase;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// The longest time between two reads.
const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// The shortest time between two reads, however often the database reports changes.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);

/// The pause before a read after the database reported a change. Changes often come in groups.
const AFTER_CHANGE: Duration = Duration::from_millis(500);

/// The maximum number of names or affiliates in one read.
const AT_A_TIME: usize = 5000;

/// Reads names and affiliates for the waiting resources.
pub(super) struct ObstaclePoller {
    pub context: Arc<Context>,
    pub database: Arc<dyn AccountDatabase>,
}

impl ObstaclePoller {
    /// Runs for as long as it is polled.
    pub async fn run(self) {
        let waiting = &self.context.waiting;
        loop {
            waiting.obstacle_added().await;
            let mut polled = None;
            loop {
                let pause = POLL_INTERVAL.mul_f64(0.8 + 0.2 * self.context.environment.jitter());
                tokio::select! {
                    () = sleep(pause) => {}
                    () = waiting.next_account_change() => {
                        let soon = Instant::now() + AFTER_CHANGE;
                        sleep_until(polled.map_or(soon, |at: Instant| soon.max(at + SHORTEST_PAUSE))).await;
                    }
                }
                let (names, affiliates) = waiting.obstacles();
                if names.is_empty() && affiliates.is_empty() {
                    break;
                }
                self.poll(&names, &affiliates).await;
                polled = Some(Instant::now());
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

    /// A failed read is only logged: the next one asks for the same.
    async fn query(&self, names: &[AccountName], affiliates: &[AffiliateName]) {
        match self.database.find_obstacles(names, affiliates).await {
            Ok(found) => self.context.waiting.obstacles_found(names, affiliates, &found),
            Err(error) => tracing::debug!(%error, "the obstacles of waiting resources could not be looked up"),
        }
    }
}
