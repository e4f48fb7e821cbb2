//! Waits for a state instead of for a fixed time.

use std::fmt::Display;
use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Each look may take this long, or a quarter of the whole time if that is longer.
const ONE_LOOK: Duration = Duration::from_secs(10);

/// Calls `look` repeatedly until it returns `Ok`. If this takes longer than `within`, panics at the caller's line with
/// the last `Err`.
///
/// The `Err` of `look` must describe the present state, because the failure message contains nothing else.
///
/// A look without an answer is dropped, and the next one begins: packets of a new connection can be lost for
/// minutes when its address moves to another pod, although a second connection would succeed at once.
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
        let one_look = ONE_LOOK.max(within / 4);
        let mut last_seen = String::from("nothing");
        let mut lost_looks = 0;
        loop {
            match timeout_at(deadline.min(Instant::now() + one_look), look()).await {
                Ok(Ok(seen)) => return seen,
                Ok(Err(instead)) => last_seen = instead.to_string(),
                Err(_) => lost_looks += 1,
            }
            if Instant::now() + pause >= deadline {
                break;
            }
            sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
        let lost = if lost_looks > 0 { format!("; looks without an answer: {lost_looks}") } else { String::new() };
        panic!("{caller}: waited {within:?} for {what}; last seen: {last_seen}{lost}");
    }
}
