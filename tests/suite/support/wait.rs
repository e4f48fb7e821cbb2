//! Waiting for a state instead of for a time.

use std::fmt::Display;
use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Looks again and again until `look` answers `Ok`, and panics, at the caller's line, with what it last saw when that
/// takes longer than `within`.
///
/// The `Err` of `look` says what there is instead: it is all that a reader of the failure gets to know.
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
