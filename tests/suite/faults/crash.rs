//! Crash everywhere: an operation's calls are recorded once undisturbed. Then the controller is ended before each of
//! them, and after the last; and each of them is carried out with its answer lost. A new controller, or the same, must
//! come to the very state of the undisturbed run, and to the keys that there were.
//!
//! Ended just after a call is ended just before the next one: nothing outside the controller tells these apart.

use std::fmt;
use std::time::Duration;

use super::operations::{
    CREATE, DELETE, DELETE_SECRET, EDIT_SECRET, MOVE_SECRET, Operation, RESTORE, RETAIN, TAKE_UP, UPDATE,
};
use super::runs::all;
use super::stage::Stage;
use super::state::State;
use crate::controller::scene::SOON;
use crate::support::proxy::{Call, Fault, listed};

/// How many runs at a time; most of their time they wait.
const AT_ONCE: usize = 6;

/// How long after a lost answer the controller may take to try again.
const TRIED_AGAIN_WITHIN: Duration = Duration::from_secs(30);

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

/// An operation's undisturbed run.
struct Record {
    calls: Vec<Call>,
    end: State,
}

async fn begun(operation: &Operation) -> Stage {
    let stage = Stage::with_controller(operation.name).await;
    operation.prepare(&stage).await;
    stage.quiet().await;
    stage.proxy.trace.begin();
    stage
}

async fn record(operation: &Operation) -> Record {
    let stage = begun(operation).await;
    operation.act(&stage).await;
    operation.settled(&stage).await;
    stage.quiet().await;
    let calls = stage.proxy.trace.calls();
    let (end, _) = stage.look().await;
    Record { calls, end }
}

async fn disturb(operation: &Operation, point: &Point, end: &State) {
    let mut stage = begun(operation).await;
    let (_, keys) = stage.look().await;
    match point {
        Point::EndBefore(call) => stage.proxy.trace.meet_call(call, Fault::End),
        Point::LoseAnswer(call) => stage.proxy.trace.meet_call(call, Fault::LoseAnswer),
        Point::EndAfterAll => {}
    }
    operation.act(&stage).await;
    match point {
        Point::EndBefore(_) => {
            assert!(stage.proxy.trace.is_ended(SOON).await, "this call was not made, but\n{}", stage.calls());
            stage.restart().await;
        }
        Point::LoseAnswer(call) => {
            let is_lost = |seen: &Call| seen.what == call.what && seen.answer.ends_with("(lost)");
            let lost = stage.proxy.trace.seen(TRIED_AGAIN_WITHIN, is_lost).await;
            assert!(lost.is_some(), "this call was not made, but\n{}", stage.calls());
        }
        Point::EndAfterAll => {
            operation.settled(&stage).await;
            stage.quiet().await;
            stage.restart().await;
        }
    }
    operation.settled(&stage).await;
    stage.becomes(end).await;
    stage.quiet().await;
    let (state, after) = stage.look().await;
    assert!(state == *end, "and then it was changed again: {}\n{}", end.difference(&state), stage.calls());
    if operation.keeps_keys {
        assert!(keys == after, "the keys are not those from before");
    }
}

/// Disturbs the operation at each point of its record.
async fn everywhere(operation: &'static Operation) {
    let Record { calls, end } = record(operation).await;
    assert!(calls.iter().any(|call| !call.is_read()), "nothing was recorded: {}", listed(&calls));
    let mut points: Vec<Point> = calls.iter().cloned().map(Point::EndBefore).collect();
    points.push(Point::EndAfterAll);
    points.extend(calls.iter().cloned().map(Point::LoseAnswer));
    let runs = points.into_iter().map(|point| {
        let end = end.clone();
        (point.to_string(), async move || { disturb(operation, &point, &end).await; })
    });
    let of = format!("{}, undisturbed:\n{}", operation.name, listed(&calls));
    let n = calls.len();
    eprintln!("{of}");
    let t = std::time::Instant::now();
    all(AT_ONCE, &of, runs.collect()).await;
    eprintln!("{} {n} calls {:?}", operation.name, t.elapsed());
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
    repairing_the_secret: EDIT_SECRET,
    writing_the_secret_again: DELETE_SECRET,
    deleting: DELETE,
    retaining: RETAIN,
    restoring: RESTORE,
    taking_up: TAKE_UP,
}
