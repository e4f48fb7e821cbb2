//! Looks in the database, in one read for all who wait, whether names and affiliates that they wait for have come.
//!
//! Nobody who waits tries by itself in the meantime but once in a long while: a fleet of refused accounts must not be a load on
//! the database that logins read.

use super::object::Controlled;
use crate::account::{AccountName, AffiliateName};
use crate::database::AccountDatabase;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// The longest time from one look to the next.
const BETWEEN_LOOKS: Duration = Duration::from_secs(30);

/// The shortest, however often the database tells of changes.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);

/// How soon to look after the database told of a change: one often comes with others.
const AFTER_NEWS: Duration = Duration::from_millis(500);

/// How many names or affiliates one read asks for at most.
const AT_A_TIME: usize = 5000;

/// Looks for those who wait.
pub(super) struct Lookout {
    pub controlled: Arc<Controlled>,
    pub database: Arc<dyn AccountDatabase>,
}

impl Lookout {
    /// Looks for as long as it is polled.
    pub async fn run(self) {
        let waiting = &self.controlled.waiting;
        loop {
            waiting.obstructed().await;
            let mut looked = None;
            loop {
                let pause = BETWEEN_LOOKS.mul_f64(0.8 + 0.2 * rand::random::<f64>());
                tokio::select! {
                    () = sleep(pause) => {}
                    () = waiting.stirred() => {
                        let soon = Instant::now() + AFTER_NEWS;
                        sleep_until(looked.map_or(soon, |at: Instant| soon.max(at + SHORTEST_PAUSE))).await;
                    }
                }
                let (names, affiliates) = waiting.obstacles();
                if names.is_empty() && affiliates.is_empty() {
                    break;
                }
                self.look(&names, &affiliates).await;
                looked = Some(Instant::now());
            }
        }
    }

    async fn look(&self, names: &[AccountName], affiliates: &[AffiliateName]) {
        for names in names.chunks(AT_A_TIME) {
            self.look_up(names, &[]).await;
        }
        for affiliates in affiliates.chunks(AT_A_TIME) {
            self.look_up(&[], affiliates).await;
        }
    }

    /// What fails is for the next time.
    async fn look_up(&self, names: &[AccountName], affiliates: &[AffiliateName]) {
        match self.database.in_the_way(names, affiliates).await {
            Ok(found) => self.controlled.waiting.looked_up(names, affiliates, &found),
            Err(error) => tracing::debug!(%error, "what resources wait for could not be looked up"),
        }
    }
}
