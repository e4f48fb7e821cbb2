//! Crash everywhere: an operation's calls are recorded once undisturbed. Then the controller is ended before each of
//! them, and after the last; and each of them is carried out with its answer lost. A new controller, or the same, must
//! come to the very state of the undisturbed run, and to the keys that there were.
//!
//! Ended just after a call is ended just before the next one: nothing outside the controller tells these apart.

use std::fmt;

use super::operations::{
    ADOPT, CREATE, DELETE, DELETE_SECRET, EDIT_SECRET, MOVE_SECRET, Operation, RENAME_KEYS, RESTORE, RETAIN,
    REVOKE_KEYS, ROTATE_KEYS, Record, TAKE_UP, UPDATE,
};
use super::runs::all;
use super::state::State;
use crate::controller::scene::SOON;
use crate::support::proxy::{Call, Fault, listed};

/// How many runs at a time; most of their time they wait.
const AT_ONCE: usize = 6;

/// Where an operation is disturbed, and how.
#[derive(Clone)]
enum Point {
    EndBefore(Call),
    EndAfterAll,
    LoseAnswer(Call),
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndBefore(call) => write!(f, "ended just before {call}"),
            Self::EndAfterAll => f.write_str("ended just after the last call"),
            Self::LoseAnswer(call) => write!(f, "the answer lost of {call}"),
        }
    }
}

async fn disturb(operation: &Operation, point: &Point, end: &State) {
    let mut stage = operation.stage().await;
    let (_, keys) = stage.look().await;
    match point {
        Point::EndBefore(call) => stage.proxy.trace.meet_call(call, Fault::End),
        Point::LoseAnswer(call) => stage.proxy.trace.meet_call(call, Fault::LoseAnswer),
        Point::EndAfterAll => {}
    }
    operation.act(&stage).await;
    let met = async {
        match point {
            Point::EndBefore(_) => stage.proxy.trace.is_ended(SOON).await,
            Point::LoseAnswer(_) => {
                stage.proxy.trace.seen(SOON, |call| call.answer.ends_with("(lost)")).await.is_some()
            }
            Point::EndAfterAll => std::future::pending().await,
        }
    };
    let done = async {
        operation.settled(&stage).await;
        stage.quiet().await;
    };
    let is_met = tokio::select! { biased; is_met = met => is_met, () = done => false };
    match point {
        // Whether the watch shows a write before its answer comes is chance: then the controller has another look.
        Point::EndBefore(call) | Point::LoseAnswer(call) if !is_met => {
            assert!(call.is_read(), "this call was not made, but\n{}", stage.calls());
        }
        Point::EndBefore(_) | Point::EndAfterAll => stage.restart().await,
        Point::LoseAnswer(_) => {}
    }
    operation.settled(&stage).await;
    stage.becomes(end).await;
    stage.quiet().await;
    let (seen, after) = stage.look().await;
    assert!(seen == *end, "and then it was changed again: {}\n{}", end.difference(&seen), stage.calls());
    if operation.keeps_keys {
        assert!(keys == after, "the keys are not those from before");
    }
}

/// Disturbs the operation at each point of its record.
async fn everywhere(operation: &'static Operation) {
    let Record { calls, end, .. } = operation.record().await;
    assert!(calls.iter().any(|call| !call.is_read()), "nothing was recorded: {}", listed(&calls));
    let mut points: Vec<Point> = calls.iter().cloned().map(Point::EndBefore).collect();
    points.push(Point::EndAfterAll);
    points.extend(calls.iter().cloned().map(Point::LoseAnswer));
    let runs = points.into_iter().map(|point| {
        let end = end.clone();
        (point.to_string(), async move || {
            disturb(operation, &point, &end).await;
        })
    });
    let of = format!("{}, undisturbed:\n{}", operation.name, listed(&calls));
    all(AT_ONCE, &of, runs.collect()).await;
}

macro_rules! everywhere {
    ($($name:ident: $operation:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                everywhere(&$operation).await;
            }
        )*
    };
}

everywhere! {
    creating: CREATE,
    updating: UPDATE,
    moving_the_secret: MOVE_SECRET,
    renaming_the_keys: RENAME_KEYS,
    repairing_the_secret: EDIT_SECRET,
    writing_the_secret_again: DELETE_SECRET,
    deleting: DELETE,
    retaining: RETAIN,
    restoring: RESTORE,
    taking_up: TAKE_UP,
    rotating: ROTATE_KEYS,
    revoking: REVOKE_KEYS,
    adopting: ADOPT,
}
