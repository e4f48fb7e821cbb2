//! The labels of the metrics and their values. Each label has a fixed set of values.

use crate::account::RotationReason;
use crate::api::Reason;
use crate::telemetry::calls::{KubernetesResult, Verb};

/// The labels of a series: names and values.
pub(super) type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The value of the label `reason` for a resource that was not reconciled yet.
pub(super) const PENDING: &str = "Pending";

/// The value of the label `reason` for a reconcile whose finalizer or status the API server did not accept.
pub(super) const NOT_TAKEN: &str = "NotTaken";

pub(super) const DATABASE_ERRORS: [&str; 4] = ["unavailable", "refused", "inconsistent", "schema"];
pub(super) const CAUSES: [RotationReason; 3] =
    [RotationReason::Trigger, RotationReason::Annotation, RotationReason::Due];
pub(super) const WATCHED: [&str; 2] = ["ApiAccount", "Secret"];

/// The result of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepResult {
    /// The sweep compared every account.
    Done,
    /// The database returned no accounts although there are resources with accounts.
    Empty,
    /// The database did not answer.
    Failed,
}

impl SweepResult {
    pub(super) const ALL: [Self; 3] = [Self::Done, Self::Empty, Self::Failed];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Empty => "empty",
            Self::Failed => "failed",
        }
    }
}

/// Why a Kubernetes event was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostEvent {
    /// The queue of events was full.
    Full,
    /// The API server refused the event.
    Refused,
    /// The API server did not answer.
    Unanswered,
    /// The controller stopped before it sent the event.
    Ending,
    /// Too many events had the same reason.
    Limited,
}

impl LostEvent {
    pub(super) const ALL: [Self; 5] = [Self::Full, Self::Refused, Self::Unanswered, Self::Ending, Self::Limited];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Refused => "refused",
            Self::Unanswered => "unanswered",
            Self::Ending => "ending",
            Self::Limited => "limited",
        }
    }
}

/// Returns the results and reasons of reconciles whose series exist from the start. The other pairs are rare.
pub(super) fn results() -> impl Iterator<Item = (&'static str, &'static str)> {
    let reconciled = Reason::Reconciled.as_str();
    let passing = [Reason::DatabaseUnavailable, Reason::SecretUnavailable, Reason::InternalError];
    let passing = passing.into_iter().map(Reason::as_str).chain([NOT_TAKEN]);
    let refusals = Reason::ALL.into_iter().map(Reason::as_str).filter(move |reason| *reason != reconciled);
    [("unchanged", reconciled), ("changed", reconciled)]
        .into_iter()
        .chain(refusals.map(|reason| ("refused", reason)))
        .chain(passing.map(|reason| ("failed", reason)))
}

pub(super) fn reconcile_labels(result: &'static str, reason: &'static str) -> Labels<2> {
    [("result", result), ("reason", reason)]
}

pub(super) fn kubernetes_labels(verb: Verb, result: KubernetesResult) -> Labels<2> {
    [("verb", verb.as_str()), ("result", result.as_str())]
}

pub(super) fn cause(reason: RotationReason) -> &'static str {
    match reason {
        RotationReason::Trigger => "trigger",
        RotationReason::Annotation => "annotation",
        RotationReason::Due => "interval",
    }
}

pub(super) fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
