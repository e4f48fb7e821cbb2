//! Requeues what has something due at a time of day, after the clock was set forward or the machine slept.
//!
//! A pause until a rotation or an expiry is measured by a clock that does not step and that stands still while the
//! machine sleeps. After such a step, the pause would end too late.

use super::context::Context;
use super::queues::Queues;
use super::resources::Resources;
use crate::api::{ApiAccount, ApiAccountStatus};
use jiff::{SignedDuration, Timestamp};
use kube::runtime::reflector::ObjectRef;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The time between two comparisons of the clocks.
const PAUSE: Duration = Duration::from_mins(1);

/// How much longer by the wall clock than by the steady one is a step. A clock that is only being corrected drifts less.
const STEP: SignedDuration = SignedDuration::from_secs(10);

/// The wall clock and the steady clock at one moment.
#[derive(Clone, Copy)]
struct Clocks {
    wall: Timestamp,
    steady: Instant,
}

/// Compares the clocks now and then, and requeues the resources that have something due after a step forward.
pub(super) async fn follow(context: Arc<Context>, queues: Queues) -> Infallible {
    let clocks = || Clocks { wall: context.environment.now(), steady: Instant::now() };
    let mut since = clocks();
    loop {
        sleep(PAUSE).await;
        if since.stepped_forward(clocks()) {
            let due_later = resources_with_due_time(&context);
            let resources = due_later.len();
            tracing::info!(resources, "the clock stepped forward; what is due later is looked at again");
            for resource in &due_later {
                queues.send(resource);
            }
        }
    }
}

impl Clocks {
    /// Returns whether the wall clock has gone ahead of the steady clock, and then starts again from `now`. After a step
    /// back, pauses end too early, which does no harm.
    fn stepped_forward(&mut self, now: Self) -> bool {
        let steady = SignedDuration::try_from(now.steady.duration_since(self.steady)).unwrap_or(SignedDuration::MAX);
        let ahead = now.wall.duration_since(self.wall).saturating_sub(steady);
        if ahead.is_negative() || ahead >= STEP {
            *self = now;
        }
        ahead >= STEP
    }
}

fn resources_with_due_time(context: &Context) -> Vec<ObjectRef<ApiAccount>> {
    let resources = context.resources();
    let all = resources.iter().flat_map(Resources::all);
    let has_due_time = |status: Option<&ApiAccountStatus>| status.is_some_and(has_due_time);
    let with_due_time = all.filter(|resource| context.memory.with_status(resource, has_due_time));
    with_due_time.map(|resource| ObjectRef::from_obj(&*resource)).collect()
}

/// Returns whether a rotation or the end of a key pair is due at some time.
fn has_due_time(status: &ApiAccountStatus) -> bool {
    status.next_rotation.is_some() || status.keys.iter().any(|key| key.expires.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_step_forward_is_noticed_once_and_a_step_back_is_not_held_against_it() {
        let start = Clocks { wall: Timestamp::UNIX_EPOCH, steady: Instant::now() };
        let at = |wall: i64, steady: u64| Clocks {
            wall: Timestamp::from_second(wall).unwrap(),
            steady: start.steady + Duration::from_secs(steady),
        };
        let mut since = start;
        let mut stepped = |wall, steady| since.stepped_forward(at(wall, steady));
        assert!(!stepped(60, 60) && !stepped(129, 120), "it is only corrected");
        assert!(stepped(190, 180), "slow corrections add up");
        assert!(stepped(3_850, 240), "it was set forward");
        assert!(!stepped(3_910, 300), "it was noticed before");
        assert!(!stepped(360, 350));
        assert!(stepped(3_970, 360), "it was set back and forward again");
        assert!(stepped(90_000, 420), "the machine slept");
    }

    #[test]
    fn a_rotation_and_an_expiry_have_a_due_time() {
        let status = |status: serde_json::Value| serde_json::from_value::<ApiAccountStatus>(status).unwrap();
        let time = "2026-01-01T00:00:00Z";
        let keys = |expires: Option<&str>| json!({ "keys": [{ "id": "a", "apiKey": "k", "state": "Active", "created": time, "expires": expires }] });
        assert!(has_due_time(&status(json!({ "nextRotation": time }))));
        assert!(has_due_time(&status(keys(Some(time)))));
        assert!(!has_due_time(&status(keys(None))));
    }
}
