//! Waits for a state instead of for a fixed time.

use std::fmt::Display;
use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Calls `look` repeatedly until it returns `Ok`. If this takes longer than `within`, panics at the caller's line with
/// the last `Err`.
///
/// The `Err` of `look` must describe the present state, because the failure message contains nothing else.
#[track_caller]
pub fn eventually<T, E: Display>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + within;
        let mut pause = SHORTEST_PAUSE;
        let mut last_seen = String::from("nothing: the first look did not come back");
        loop {
            match timeout_at(deadline, look()).await {
                Ok(Ok(seen)) => return seen,
                Ok(Err(instead)) => last_seen = instead.to_string(),
                Err(_) => break,
            }
            if Instant::now() + pause >= deadline {
                break;
            }
            sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
        panic!("{caller}: waited {within:?} for {what}; last seen: {last_seen}");
    }
}
