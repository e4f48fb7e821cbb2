//! The Prometheus metrics of the controller.
//!
//! Metric names never change. No label names an account, and every label has a fixed set of values. A series whose
//! labels are known in advance exists from the start with the value zero: `rate` and `increase` do not see the first
//! event of a series that begins with it.

mod labels;
mod scraped;

pub use labels::{LostEvent, SweepResult};

use super::calls::{DatabaseCall, KubernetesResult, Verb};
use super::controller_stats::ControllerHandle;
use crate::api::Reason;
use crate::database::DatabaseError;
use crate::reconcile::{Done, Outcome};
use jiff::Timestamp;
use labels::{
    CAUSES, DATABASE_ERRORS, Labels, NOT_TAKEN, WATCHED, cause, kubernetes_labels, number, reconcile_labels, results,
};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};
use scraped::ScrapedStats;
use std::fmt;
use std::time::Duration;

/// The buckets of the reconcile duration in seconds: from an unchanged account to one that waits for a slow API server.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The buckets of the time from a written generation to Ready in seconds.
const PICKUP_BUCKETS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0];

/// The buckets of the duration of one call in seconds, to the API server or to the database.
const CALL_BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 20.0];

type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// The metrics with their registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Counters<2>,
    reconcile_duration: Histogram,
    pickup_duration: Histogram,
    changes: Counters<1>,
    rotations: Counters<1>,
    keys_revoked: Counter,
    database_up: Gauge,
    database_errors: Counters<1>,
    database_call_duration: Histograms,
    kubernetes_requests: Counters<2>,
    kubernetes_request_duration: Histograms,
    sweeps: Counters<1>,
    last_sweep: Family<Labels<0>, Gauge>,
    orphans: Family<Labels<0>, Gauge>,
    unpurgeable: Gauge,
    keyring_refused: Gauge,
    watch_errors: Counters<1>,
    events_lost: Counters<1>,
}

impl Metrics {
    /// Registers all metrics. Counters start at zero.
    pub(super) fn new(controller_handle: ControllerHandle) -> Self {
        let mut registry = Registry::with_prefix("opsadmin");
        registry.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_collector(Box::new(ScrapedStats(controller_handle)));
        let orphans = add(&mut registry, "orphans", "Accounts whose ApiAccount vanished without a deletion");
        let unpurgeable = add(
            &mut registry,
            "unpurgeable",
            "Deleted accounts that are due to be purged and that the database refuses to purge",
        );
        let help = "Whether the keyring's file has changed to a keyring that the controller does not use";
        let keyring_refused = add(&mut registry, "keyring_refused", help);
        let reconciles = add(&mut registry, "reconciles", "Reconciles of an ApiAccount, by result and reason");
        let reconcile_duration = Histogram::new(BUCKETS);
        let (help, duration) = ("Duration of a reconcile of an ApiAccount", reconcile_duration.clone());
        registry.register_with_unit("reconcile_duration", help, Unit::Seconds, duration);
        let pickup_duration = Histogram::new(PICKUP_BUCKETS);
        let (help, duration) = ("Time from a written generation of an ApiAccount to Ready", pickup_duration.clone());
        registry.register_with_unit("pickup_duration", help, Unit::Seconds, duration);
        let changes = add(&mut registry, "changes", "Changes to accounts, keys and Secrets");
        let rotations = add(&mut registry, "rotations", "Rotations of the keys of accounts, by cause");
        let keys_revoked =
            add(&mut registry, "keys_revoked", "Key pairs that were revoked, by request or for their age");
        let database_up = add(&mut registry, "database_up", "Whether the account database answered its last call");
        let database_errors = add(&mut registry, "database_errors", "Failed calls to the account database, by kind");
        let help = "Duration of a call to the account database";
        let database_call_duration = call_durations(&mut registry, "database_call_duration", help);
        let kubernetes_requests =
            add(&mut registry, "kubernetes_requests", "Requests to the API server of Kubernetes, by verb and result");
        let help = "Time until the API server of Kubernetes begins its answer";
        let kubernetes_request_duration = call_durations(&mut registry, "kubernetes_request_duration", help);
        let sweeps = add(&mut registry, "sweeps", "Sweeps for changes that others made in the database, by result");
        let last_sweep = Family::default();
        let (help, last) = ("Time of the last sweep that compared every account", last_sweep.clone());
        registry.register_with_unit("last_sweep_timestamp", help, Unit::Seconds, last);
        let watch_errors = add(&mut registry, "watch_errors", "Failures of watches, which are retried");
        let events_lost = add(&mut registry, "events_lost", "Events about ApiAccounts that were not written");
        let metrics = Self {
            registry,
            reconciles,
            reconcile_duration,
            pickup_duration,
            changes,
            rotations,
            keys_revoked,
            database_up,
            database_errors,
            database_call_duration,
            kubernetes_requests,
            kubernetes_request_duration,
            sweeps,
            last_sweep,
            orphans,
            unpurgeable,
            keyring_refused,
            watch_errors,
            events_lost,
        };
        metrics.create_series();
        metrics
    }

    /// Creates every series whose labels are known, with the value zero.
    fn create_series(&self) {
        for (result, reason) in results() {
            self.reconciles.get_or_create_owned(&reconcile_labels(result, reason));
        }
        create_series(&self.changes, "change", Done::REASONS);
        create_series(&self.rotations, "cause", CAUSES.map(cause));
        create_series(&self.database_errors, "kind", DATABASE_ERRORS);
        for call in DatabaseCall::ALL {
            self.database_call_duration.get_or_create_owned(&[("call", call.as_str())]);
        }
        for verb in Verb::ALL {
            for result in KubernetesResult::ALL {
                self.kubernetes_requests.get_or_create_owned(&kubernetes_labels(verb, result));
            }
            if verb != Verb::Watch {
                self.kubernetes_request_duration.get_or_create_owned(&[("verb", verb.as_str())]);
            }
        }
        create_series(&self.sweeps, "result", SweepResult::ALL.map(SweepResult::as_str));
        create_series(&self.watch_errors, "kind", WATCHED);
        create_series(&self.events_lost, "cause", LostEvent::ALL.map(LostEvent::as_str));
    }

    /// Counts a reconcile that ended with `outcome` and whose status is written.
    pub fn reconciled(&self, outcome: &Outcome, took: Duration) {
        let (result, reason) = match &outcome.not_ready {
            None if outcome.done.is_empty() => ("unchanged", Reason::Reconciled),
            None => ("changed", Reason::Reconciled),
            Some(not_ready) if not_ready.needs_a_person() => ("refused", not_ready.reason()),
            Some(not_ready) => ("failed", not_ready.reason()),
        };
        self.reconciles.get_or_create(&reconcile_labels(result, reason.as_str())).inc();
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    /// Counts a reconcile that ended because the API server did not accept a finalizer or a status.
    pub fn write_refused(&self, took: Duration) {
        self.reconciles.get_or_create(&reconcile_labels("failed", NOT_TAKEN)).inc();
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    /// Counts a change that a reconcile made.
    pub fn done(&self, done: &Done) {
        self.changes.get_or_create(&[("change", done.reason())]).inc();
        if let Done::Rotated { reason, .. } = done {
            self.rotations.get_or_create(&[("cause", cause(*reason))]).inc();
        }
        self.keys_revoked.inc_by(u64::try_from(done.revoked().len()).unwrap_or(u64::MAX));
    }

    /// Counts a generation of a resource that became Ready this long after it was written.
    pub fn picked_up(&self, took: Duration) {
        self.pickup_duration.observe(took.as_secs_f64());
    }

    /// Counts a request to the API server. A watch has no duration, because its answer has no end.
    pub fn kubernetes(&self, verb: Verb, result: KubernetesResult, took: Duration) {
        self.kubernetes_requests.get_or_create(&kubernetes_labels(verb, result)).inc();
        if verb != Verb::Watch {
            self.kubernetes_request_duration.get_or_create(&[("verb", verb.as_str())]).observe(took.as_secs_f64());
        }
    }

    /// Counts a call to the account database. `error` is the call's error.
    pub(super) fn database(&self, call: DatabaseCall, error: Option<&DatabaseError>, took: Duration) {
        self.database_call_duration.get_or_create(&[("call", call.as_str())]).observe(took.as_secs_f64());
        let kind = error.and_then(|error| match error {
            // These are regular answers of a database that works.
            DatabaseError::NameTaken { .. }
            | DatabaseError::UnknownAffiliate { .. }
            | DatabaseError::KeyTaken
            | DatabaseError::NotStored { .. }
            | DatabaseError::KeyRevoked
            | DatabaseError::Conflict => None,
            DatabaseError::Unavailable { .. } | DatabaseError::LoginRefused { .. } => Some("unavailable"),
            DatabaseError::Inconsistent { .. } => Some("inconsistent"),
            DatabaseError::OlderSchema { .. } | DatabaseError::NewerSchema { .. } => Some("schema"),
            DatabaseError::Url { .. } | DatabaseError::File { .. } | DatabaseError::Refused { .. } => Some("refused"),
        });
        self.database_up.set(i64::from(kind != Some("unavailable")));
        if let Some(kind) = kind {
            self.database_errors.get_or_create(&[("kind", kind)]).inc();
        }
    }

    /// Counts a sweep that ended at the time `now`.
    pub fn swept(&self, swept: SweepResult, now: Timestamp) {
        self.sweeps.get_or_create(&[("result", swept.as_str())]).inc();
        if swept == SweepResult::Done {
            self.last_sweep.get_or_create(&[]).set(now.as_second());
        }
    }

    /// Sets the number of orphans.
    pub fn orphans(&self, count: usize) {
        self.orphans.get_or_create(&[]).set(number(count));
    }

    /// Sets the number of deleted accounts that are due for the purge and cannot be purged.
    pub fn unpurgeable(&self, count: usize) {
        self.unpurgeable.set(number(count));
    }

    /// Sets whether the keyring's file has changed to a keyring that the controller does not use.
    pub fn keyring_refused(&self, is_refused: bool) {
        self.keyring_refused.set(i64::from(is_refused));
    }

    /// Counts a failure of a watch of this kind.
    pub fn watch_failed(&self, kind: &'static str) {
        self.watch_errors.get_or_create(&[("kind", kind)]).inc();
    }

    /// Counts lost events.
    pub fn lost_events(&self, cause: LostEvent, count: usize) {
        self.events_lost.get_or_create(&[("cause", cause.as_str())]).inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Returns all metrics as `OpenMetrics` text.
    ///
    /// # Errors
    /// A metric cannot be encoded.
    pub fn openmetrics(&self) -> Result<String, fmt::Error> {
        let mut written = String::new();
        text::encode(&mut written, &self.registry)?;
        Ok(written)
    }

    /// Returns all metrics in Prometheus' older text format.
    ///
    /// # Errors
    /// A metric cannot be encoded.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut written = String::new();
        prometheus_text::encode(&mut written, &self.registry)?;
        Ok(written)
    }
}

fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn call_durations(registry: &mut Registry, name: &str, help: &str) -> Histograms {
    let durations = Histograms::new_with_constructor(|| Histogram::new(CALL_BUCKETS));
    registry.register_with_unit(name, help, Unit::Seconds, durations.clone());
    durations
}

fn create_series<const N: usize>(counters: &Counters<1>, label: &'static str, values: [&'static str; N]) {
    for value in values {
        counters.get_or_create_owned(&[(label, value)]);
    }
}

#[cfg(test)]
mod tests;
