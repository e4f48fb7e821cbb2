//! Logs why a watch fails, once and not at every attempt, and when it works again. A failed watch is tried again
//! without end.

use crate::kube_error::{needs_a_person, reason};
use crate::telemetry::Metrics;
use kube::runtime::watcher::{Error, Event, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The pause after which the same error is logged again, so that it is found near the end of a log.
const REPEAT_AFTER: Duration = Duration::from_mins(10);

/// The errors of one watch.
pub(super) struct WatchErrors {
    what: String,
    kind: &'static str,
    metrics: Arc<Metrics>,
    logged: Option<(String, Instant)>,
}

impl WatchErrors {
    /// Creates a log without errors. `what` describes the watched objects for people, and `kind` is their kind for
    /// metrics.
    pub fn new(what: String, kind: &'static str, metrics: Arc<Metrics>) -> Self {
        Self { what, kind, metrics, logged: None }
    }

    /// Logs an error of the watch, or the end of the errors.
    pub fn log<T>(&mut self, event: &Result<Event<T>>) {
        match event {
            // A list has begun, and may still fail.
            Ok(Event::Init) => {}
            Ok(_) => {
                if self.logged.take().is_some() {
                    tracing::info!("watching {} again", self.what);
                }
            }
            Err(error) if has_expired(error) => {}
            Err(error) => {
                self.metrics.watch_failed(self.kind);
                self.warn_once(explanation(error));
            }
        }
    }

    fn warn_once(&mut self, trouble: String) {
        let logged_lately =
            self.logged.as_ref().is_some_and(|(said, at)| *said == trouble && at.elapsed() < REPEAT_AFTER);
        if !logged_lately {
            tracing::warn!("cannot watch {}: {trouble}; trying again until it works", self.what);
            self.logged = Some((trouble, Instant::now()));
        }
    }
}

/// Returns why the API server refuses the watch, if only a user can correct that.
pub(super) fn refusal(error: &Error) -> Option<String> {
    cause(error).filter(|error| needs_a_person(error)).map(reason)
}

/// Returns whether the API server has deleted the version that the watch or a page asked for. It deletes old versions, so
/// this is routine. A new list is needed.
pub(super) fn has_expired(error: &Error) -> bool {
    match error {
        Error::WatchError(status) => status.code == 410,
        other => matches!(cause(other), Some(kube::Error::Api(status)) if status.code == 410),
    }
}

fn explanation(error: &Error) -> String {
    let hint = match cause(error) {
        Some(kube::Error::Api(status)) if status.code == 404 => {
            "; install the resource with `opsadmin crd | kubectl apply --server-side -f -`"
        }
        Some(kube::Error::Api(status)) if status.code == 403 => "; give the controller the rights in deploy/rbac.yaml",
        _ => "",
    };
    let reason = match error {
        Error::WatchError(status) => status.message.clone(),
        other => cause(other).map_or_else(|| other.to_string(), reason),
    };
    format!("{reason}{hint}")
}

fn cause(error: &Error) -> Option<&kube::Error> {
    match error {
        Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error) => Some(error),
        _ => None,
    }
}
