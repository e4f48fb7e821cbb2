//! Crashes at every call. The calls of an operation are recorded once without a fault. Then the controller is ended
//! before each call and after the last one. In other runs, each call is carried out and its answer is lost. A new
//! controller, or the same one, must reach the same state as the run without a fault, with the same keys.
//!
//! An end just after a call is the same as an end just before the next call: outside the controller, nothing
//! distinguishes them.

use std::fmt;

use super::operations::{
    ADOPT, CREATE, DELETE, DELETE_SECRET, EDIT_SECRET, MOVE_SECRET, Operation, RENAME_KEYS, RESTORE, RETAIN,
    REVOKE_KEYS, ROTATE_KEYS, Record, TAKE_UP, UPDATE,
};
use super::runs::all;
use super::state::State;
use crate::controller::scene::SOON;
use crate::support::proxy::{Call, Fault, listed};

/// The number of concurrent runs. They spend most of their time waiting.
const AT_ONCE: usize = 6;

/// The fault of a run, and the call that it meets.
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
    let is_write = matches!(point, Point::EndBefore(call) | Point::LoseAnswer(call) if !call.is_read());
    let done = async {
        if is_write {
            // Every write is made. An event may come a moment after all else.
            std::future::pending::<()>().await;
        }
        operation.settled(&stage).await;
        stage.quiet().await;
    };
    let is_met = tokio::select! { biased; is_met = met => is_met, () = done => false };
    match point {
        // Chance decides whether the watch shows a write before its answer arrives. If it does, the controller reads
        // once more.
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

/// Runs the operation once for each point of its record.
async fn disturb_each_call(operation: &'static Operation) {
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
                disturb_each_call(&$operation).await;
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
