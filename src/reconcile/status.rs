//! Builds a resource's status from an outcome. Pure: the same outcome gives the same text, so that an unchanged status
//! is not written again.

use super::{Drift, NotReady, Outcome};
use crate::account::{KeyState, MIN_SECRET_OCTETS, StoredKey, expired};
use crate::api::{ApiAccountStatus, DriftStatus, KeyStatus, ROTATE_ANNOTATION, Reason, condition};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The end of the Ready condition's message while something else sets the Secret's common label. Nothing depends on
/// that label.
const RELABELLED: &str =
    "; something else sets the Secret's label app.kubernetes.io/managed-by, such as a mutating admission policy";

/// Returns the status of a resource of this generation after this outcome.
///
/// Conditions follow kstatus: `Stalled` while a person has to act, `Reconciling` while the problem may pass by itself,
/// and neither while `Ready` is true or the resource is paused. `CannotLogIn` has a type of its own, because the account
/// is as declared, and tools for `GitOps` must not report a failure. Fields that the outcome does not know keep their
/// previous values.
pub fn status(
    generation: Option<i64>,
    secret_name: &str,
    outcome: &Outcome,
    previous: Option<&ApiAccountStatus>,
    now: Timestamp,
) -> ApiAccountStatus {
    let before = previous.cloned().unwrap_or_default();
    // The times of conditions in a status that could not be read completely are not known.
    let known = if before.is_partial { &[] } else { before.conditions.as_slice() };
    let mut status = ApiAccountStatus {
        observed_generation: generation,
        conditions: conditions(generation, outcome, &ready_message(outcome, known), known, now),
        is_partial: false,
        ..before.clone()
    };
    status.drift = outcome.drift.iter().map(drift_status).collect();
    if was_completed(outcome) {
        status.next_rotation = outcome.next_rotation.map(whole_seconds);
    }
    if let Some(account) = &outcome.account {
        status.account_id = Some(account.id.to_string());
        let expired: Vec<_> = expired(account, now).into_iter().map(|key| key.id).collect();
        let shown = account.keys.iter().filter(|key| !expired.contains(&key.id));
        status.keys = shown.map(|key| key_status(key, &before.keys)).collect();
    }
    if outcome.not_ready.is_none() || outcome.secret_version.is_some() {
        status.secret_name = Some(secret_name.to_owned());
        status.secret_resource_version.clone_from(&outcome.secret_version);
    } else if previous.is_some_and(|previous| verified_against(previous) != verified_against(&status)) {
        // The version was verified against another spec or another key pair, so it does not hold for the new status.
        status.secret_resource_version = None;
    }
    status
}

/// Returns whether the reconcile ran to its end.
fn was_completed(outcome: &Outcome) -> bool {
    matches!(
        outcome.not_ready,
        None | Some(
            NotReady::Suspended { .. }
                | NotReady::Drifted { .. }
                | NotReady::RepeatedDrift { .. }
                | NotReady::AllowedIpsMissing { .. }
        )
    )
}

fn verified_against(status: &ApiAccountStatus) -> (Option<i64>, Option<&str>) {
    (status.observed_generation, status.active_key().map(|key| key.id.as_str()))
}

fn drift_status(drift: &Drift) -> DriftStatus {
    DriftStatus { field: drift.field.clone(), declared: drift.declared.clone(), actual: drift.actual.clone() }
}

fn key_status(key: &StoredKey, before: &[KeyStatus]) -> KeyStatus {
    let (state, expires) = match key.state {
        KeyState::Active => (KeyStatus::ACTIVE, None),
        KeyState::Retiring { expires } => (KeyStatus::RETIRING, Some(whole_seconds(expires))),
    };
    let id = key.id.to_string();
    KeyStatus {
        last_used: before.iter().find(|before| before.id == id).and_then(|before| before.last_used.clone()),
        id,
        api_key: key.api_key.printable().to_owned(),
        state: state.to_owned(),
        created: whole_seconds(key.created),
        expires,
    }
}

fn conditions(
    generation: Option<i64>,
    outcome: &Outcome,
    ready_message: &str,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let condition_of = |type_: &str, status: &str, reason: &str, message: &str| {
        let unchanged = before.iter().find(|condition| condition.type_ == type_ && condition.status == status);
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: generation,
            last_transition_time: unchanged.map_or_else(|| whole_seconds(now), |c| c.last_transition_time.clone()),
        }
    };
    let mut conditions = match &outcome.not_ready {
        None => vec![condition_of(condition::READY, "True", Reason::Reconciled.as_str(), ready_message)],
        Some(not_ready) => {
            let (reason, message) = (not_ready.reason().as_str(), not_ready.to_string());
            let ready = condition_of(condition::READY, ready_status(not_ready), reason, &message);
            let because = if not_ready.needs_a_person() { condition::STALLED } else { condition::RECONCILING };
            match not_ready {
                NotReady::Paused => vec![ready],
                _ => vec![ready, condition_of(because, "True", reason, &message)],
            }
        }
    };
    conditions.extend(match &outcome.account {
        Some(account) => account.active_key().filter(|key| key.is_too_short()).map(|key| {
            condition_of(condition::CANNOT_LOG_IN, "True", condition::SECRET_KEY_TOO_SHORT, &too_short(key))
        }),
        None => before.iter().find(|condition| condition.type_ == condition::CANNOT_LOG_IN).cloned(),
    });
    conditions
}

fn too_short(key: &StoredKey) -> String {
    format!(
        "the secret key of the pair {} has fewer than {MIN_SECRET_OCTETS} characters, so that nobody can log in with it at an auth server; rotate the keys, for example with the annotation {ROTATE_ANNOTATION}",
        key.id
    )
}

/// Returns `Unknown` if it is not known whether the resource is as declared: it is paused, the database did not answer,
/// other writers kept changing it, or the controller failed. Returns `False` otherwise.
fn ready_status(not_ready: &NotReady) -> &'static str {
    match not_ready.reason() {
        Reason::DatabaseUnavailable | Reason::Contended | Reason::Paused | Reason::InternalError => "Unknown",
        _ => "False",
    }
}

fn ready_message(outcome: &Outcome, before: &[Condition]) -> String {
    let is_disabled = outcome.account.as_ref().is_some_and(|account| !account.settings.enabled);
    let was_relabelled = || {
        let ready = before.iter().find(|condition| condition.type_ == condition::READY);
        ready.is_some_and(|ready| ready.message.ends_with(RELABELLED))
    };
    let mut message = "account and Secret are as declared".to_owned();
    if is_disabled {
        message += "; the account is disabled";
    }
    if outcome.label_corrected.unwrap_or_else(was_relabelled) {
        message += RELABELLED;
    }
    message
}

/// Cuts a time to whole seconds. The API server would cut off the fraction, and the comparison would then show a
/// change.
pub(super) fn whole_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}
