//! Watches that fail are tried again for ever: this says why, once and not at every try, and when it is over.

use crate::kube_error::{needs_a_person, reason};
use crate::telemetry::Metrics;
use kube::runtime::watcher::{Error, Event, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The same trouble is worth another line after so long: logs are looked at from their end.
const REPEAT_AFTER: Duration = Duration::from_mins(10);

/// The trouble of one watch.
pub(super) struct WatchErrors {
    what: String,
    kind: &'static str,
    metrics: Arc<Metrics>,
    logged: Option<(String, Instant)>,
}

impl WatchErrors {
    /// None yet with the watch of these, in words, which are of this kind.
    pub fn new(what: String, kind: &'static str, metrics: Arc<Metrics>) -> Self {
        Self { what, kind, metrics, logged: None }
    }

    /// Logs what there is to say of this event of the watch.
    pub fn log<T>(&mut self, event: &Result<Event<T>>) {
        match event {
            // A listing has begun, and may yet fail.
            Ok(Event::Init) => {}
            Ok(_) => {
                if self.logged.take().is_some() {
                    tracing::info!("watching {} again", self.what);
                }
            }
            Err(error) if is_routine(error) => {}
            Err(error) => {
                self.metrics.watch_failed(self.kind);
                self.warn_once(explanation(error));
            }
        }
    }

    fn warn_once(&mut self, trouble: String) {
        let known = self.logged.as_ref().is_some_and(|(said, at)| *said == trouble && at.elapsed() < REPEAT_AFTER);
        if !known {
            tracing::warn!("cannot watch {}: {trouble}; trying again until it works", self.what);
            self.logged = Some((trouble, Instant::now()));
        }
    }
}

/// Why the API server refuses the watch, if it does and will go on doing so.
pub(super) fn refusal(error: &Error) -> Option<String> {
    cause(error).filter(|error| needs_a_person(error)).map(reason)
}

/// The API server forgets old versions; the watch then begins with a new listing.
fn is_routine(error: &Error) -> bool {
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
