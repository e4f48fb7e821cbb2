//! Backoff for drift that comes back after each correction. Pure: the caller passes the time.
//!
//! The first few corrections are made at once. After that, each correction waits longer than the one before, so that
//! two programs that undo each other's changes do not fill the journal, the events and the API server. Drift that
//! grants more access than is declared never waits longer than [`LONGEST_WAIT_IF_WIDER`]: otherwise, repeated drift
//! would be a way to widen access.

use super::{AccountPlan, Desired, Done, KnownAccount, Obstacle, Outcome, Plan, SecretPlan};
use crate::account::{Account, StoredSettings};
use crate::api::{ApiAccountStatus, Reason, condition};
use crate::backoff::Backoff;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many corrections of the same part are made at once, before the backoff begins.
const IMMEDIATE_CORRECTIONS: u32 = 5;
/// The longest wait before a correction.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// The waits between the corrections after the first few.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), LONGEST_WAIT);
/// The longest wait before a correction of drift that grants more access than is declared.
const LONGEST_WAIT_IF_WIDER: Duration = Duration::from_secs(10);
/// The corrections of a part are forgotten when it has needed none for this long.
const FORGET_AFTER: Duration = Duration::from_mins(10);

/// The name of the part that is the whole Secret.
const SECRET: &str = "secret";

/// The recent corrections of one resource, by part: a field of the spec, or a part of the Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Corrections(BTreeMap<String, Corrected>);

/// The corrections of one part: how many, and the time of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Corrected {
    times: u32,
    last: Instant,
}

impl Corrected {
    /// Returns how long after the last correction the next one may be made.
    fn wait(self) -> Duration {
        match self.times.checked_sub(IMMEDIATE_CORRECTIONS) {
            None => Duration::ZERO,
            Some(more) => BACKOFF.pause(more),
        }
    }
}

impl Corrections {
    /// Records that these parts were corrected now, and forgets the parts that have needed no correction for
    /// `FORGET_AFTER`.
    pub fn record(&mut self, parts: impl IntoIterator<Item = String>, now: Instant) {
        self.0.retain(|_, corrected| now.duration_since(corrected.last) < FORGET_AFTER);
        for part in parts {
            let corrected = self.0.entry(part).or_insert(Corrected { times: 0, last: now });
            *corrected = Corrected { times: corrected.times.saturating_add(1), last: now };
        }
    }

    /// Returns the names of the parts that something keeps changing, and how long until all of them are forgotten if
    /// nothing changes them again. Returns `None` if there are none.
    pub fn repeated(&self, now: Instant) -> Option<(Vec<String>, Duration)> {
        let until_forgotten = |corrected: &Corrected| FORGET_AFTER.saturating_sub(now.duration_since(corrected.last));
        let repeated = || {
            self.0.iter().filter(|(_, found)| {
                found.times > IMMEDIATE_CORRECTIONS && now.duration_since(found.last) < FORGET_AFTER
            })
        };
        let over = repeated().map(|(_, corrected)| until_forgotten(corrected)).max()?;
        Some((repeated().map(|(part, _)| part.clone()).collect(), over))
    }

    /// Returns how long to wait before these parts, which differ now, are corrected together; `None` if they are
    /// corrected at once. One part that need not wait is enough for all of them to be corrected at once.
    fn wait(&self, parts: &[String], longest: Duration, now: Instant) -> Option<Duration> {
        let wait = |part: &String| {
            let corrected = self.0.get(part).filter(|found| now.duration_since(found.last) < FORGET_AFTER);
            corrected.map_or(Duration::ZERO, |found| {
                found.wait().min(longest).saturating_sub(now.duration_since(found.last))
            })
        };
        parts.iter().map(wait).min().filter(|wait| !wait.is_zero())
    }
}

/// Differences that are corrected later.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Postponed {
    /// The parts, by name.
    pub parts: Vec<String>,
    /// How long the correction waits.
    pub wait: Duration,
}

/// What a reconcile knows about the earlier reconciles of its resource.
#[derive(Debug, Default)]
pub struct History<'a> {
    previous: Option<Previous<'a>>,
    /// The obstacle that the last reconcile met.
    pub(super) obstacle: Option<Obstacle>,
    /// The account that the resource's status names.
    pub(super) known_account: Option<KnownAccount>,
}

/// The earlier corrections of a resource whose present spec was reconciled before.
#[derive(Debug)]
struct Previous<'a> {
    corrections: &'a Corrections,
    /// The id of the key pair that the Secret was verified to hold; `None` if the Secret was not verified.
    key: Option<&'a str>,
    now: Instant,
}

impl<'a> History<'a> {
    /// Returns the history of a resource of this generation whose last reconcile wrote the status `previous`. The
    /// corrections count only if the same spec was reconciled before: otherwise a difference may come from the spec.
    pub fn new(
        corrections: &'a Corrections,
        previous: Option<&'a ApiAccountStatus>,
        generation: Option<i64>,
        now: Instant,
    ) -> Self {
        let known = previous.filter(|status| was_reconciled(status, generation));
        let key = known.and_then(|status| verified_key(status, generation));
        Self { previous: known.map(|_| Previous { corrections, key, now }), ..Self::default() }
    }

    /// Adds the obstacle that the last reconcile met. The next reconcile checks whether the obstacle still exists
    /// before it generates keys or writes rows, which would be in vain.
    #[must_use]
    pub fn with_obstacle(self, obstacle: Option<Obstacle>) -> Self {
        Self { obstacle, ..self }
    }

    /// Adds the account that the resource's status names, for the creation guard.
    #[must_use]
    pub fn with_known_account(self, known_account: Option<KnownAccount>) -> Self {
        Self { known_account, ..self }
    }

    /// Removes from the plan the corrections that have to wait, because something keeps changing the same parts.
    pub(super) fn pace(
        &self,
        mut plan: Plan,
        account: Option<&Account>,
        desired: &Desired,
    ) -> (Plan, Option<Postponed>) {
        let account_postponed = self.account_backoff(&plan, account, desired);
        if account_postponed.is_some() {
            plan.account = AccountPlan::Keep;
        }
        let secret_postponed = self.secret_backoff(&plan, account);
        if secret_postponed.is_some() {
            plan.secret = SecretPlan::Postpone;
        }
        let postponed = account_postponed.into_iter().chain(secret_postponed).reduce(|mut all, more| {
            all.parts.extend(more.parts);
            Postponed { parts: all.parts, wait: all.wait.min(more.wait) }
        });
        (plan, postponed)
    }

    /// Returns the differences of the account that are corrected later.
    fn account_backoff(&self, plan: &Plan, account: Option<&Account>, desired: &Desired) -> Option<Postponed> {
        let (before, account) = (self.previous.as_ref()?, account?);
        let AccountPlan::Update { changes, restore: false } = &plan.account else { return None };
        let grants_more = !account.settings.grants_no_more_than(&StoredSettings::from(&desired.settings));
        let longest = if grants_more { LONGEST_WAIT_IF_WIDER } else { LONGEST_WAIT };
        let parts: Vec<String> = changes.iter().map(|change| change.field.to_string()).collect();
        let wait = before.corrections.wait(&parts, longest, before.now)?;
        Some(Postponed { parts, wait })
    }

    /// Returns the differences of the Secret that are corrected later. A Secret that was not verified with the
    /// account's active key pair is written at once.
    fn secret_backoff(&self, plan: &Plan, account: Option<&Account>) -> Option<Postponed> {
        let (before, active) = (self.previous.as_ref()?, account?.active_key()?);
        if before.key != Some(active.id.to_string().as_str()) {
            return None;
        }
        let parts = match &plan.secret {
            SecretPlan::Replace { parts } => parts.clone(),
            SecretPlan::Create => vec![SECRET.to_owned()],
            SecretPlan::Keep | SecretPlan::Postpone | SecretPlan::Undecided | SecretPlan::Refuse { .. } => return None,
        };
        let wait = before.corrections.wait(&parts, LONGEST_WAIT, before.now)?;
        Some(Postponed { parts, wait })
    }
}

impl Outcome {
    /// Returns the parts that another writer had changed and that were corrected, without the changes that follow from
    /// a change of the spec or of the keys.
    pub fn corrected(&self, previous: Option<&ApiAccountStatus>, generation: Option<i64>) -> Vec<String> {
        let Some(known) = previous.filter(|status| was_reconciled(status, generation)) else {
            return Vec::new();
        };
        let active = self.account.as_ref().and_then(Account::active_key).map(|key| key.id.to_string());
        let had_keys = active.is_some() && verified_key(known, generation) == active.as_deref();
        let parts = self.done.iter().flat_map(|done| match done {
            Done::Updated { changes } | Done::DriftCorrected { changes } => {
                changes.iter().map(|change| change.field.to_string()).collect()
            }
            Done::SecretUpdated { parts, .. } | Done::SecretPutBack { parts, .. } if had_keys => parts.clone(),
            Done::SecretWritten(_) if had_keys => vec![SECRET.to_owned()],
            _ => Vec::new(),
        });
        parts.collect()
    }
}

/// Returns whether the spec of this generation was reconciled. If so, another writer made every difference that exists
/// now.
pub(super) fn was_reconciled(status: &ApiAccountStatus, generation: Option<i64>) -> bool {
    let is_ready = |found: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        found.type_ == condition::READY && (found.status == "True" || found.reason == Reason::RepeatedDrift.as_str())
    };
    status.observed_generation == generation && status.conditions.iter().any(is_ready)
}

/// Returns the id of the key pair that the Secret was verified to hold.
fn verified_key(status: &ApiAccountStatus, generation: Option<i64>) -> Option<&str> {
    let is_verified = status.observed_generation == generation && status.secret_resource_version.is_some();
    status.active_key().filter(|_| is_verified).map(|key| key.id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Returns the seconds at which these parts are corrected if they drift again each second.
    fn seconds_of_corrections(drift: &[&str], longest: Duration, seconds: u64) -> Vec<u64> {
        let (mut corrections, start) = (Corrections::default(), Instant::now());
        let mut at = Vec::new();
        for second in 0..seconds {
            let now = start + Duration::from_secs(second);
            if corrections.wait(&parts(drift), longest, now).is_none() {
                corrections.record(parts(drift), now);
                at.push(second);
            }
        }
        at
    }

    #[test]
    fn drift_that_returns_each_second_is_corrected_less_and_less_often() {
        let at = seconds_of_corrections(&["description"], LONGEST_WAIT, 3600);
        assert_eq!(at[..12], [0, 1, 2, 3, 4, 6, 10, 18, 34, 66, 130, 258]);
        let waits: Vec<u64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(waits.iter().max(), Some(&LONGEST_WAIT.as_secs()));
        assert!(at.len() < 30, "{at:?}");
    }

    #[test]
    fn drift_that_widens_access_is_corrected_within_the_shorter_limit() {
        let at = seconds_of_corrections(&["allowedIPs"], LONGEST_WAIT_IF_WIDER, 600);
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] <= LONGEST_WAIT_IF_WIDER.as_secs()), "{at:?}");
        assert!(at.len() < 100, "{at:?}");
    }

    #[test]
    fn other_parts_and_forgotten_parts_are_corrected_at_once() {
        let (mut corrections, start) = (Corrections::default(), Instant::now());
        for _ in 0..20 {
            corrections.record(parts(&["description"]), start);
        }
        let wait = |parts: &[String], now| corrections.wait(parts, LONGEST_WAIT, now);
        assert_eq!(wait(&parts(&["description"]), start), Some(LONGEST_WAIT));
        assert_eq!(wait(&parts(&["enabled"]), start), None);
        assert_eq!(wait(&parts(&["description", "enabled"]), start), None, "what is new does not wait for what is not");
        assert_eq!(wait(&parts(&["description"]), start + FORGET_AFTER), None);
        assert_eq!(corrections.repeated(start), Some((parts(&["description"]), FORGET_AFTER)));
        assert_eq!(corrections.repeated(start + FORGET_AFTER), None);
        corrections.record(parts(&["enabled"]), start + FORGET_AFTER);
        assert_eq!(corrections.0.len(), 1, "what is calm is forgotten");
    }

    #[test]
    fn a_few_manual_edits_do_not_count_as_repeated_drift() {
        let (mut corrections, start) = (Corrections::default(), Instant::now());
        for _ in 0..IMMEDIATE_CORRECTIONS {
            assert_eq!(corrections.wait(&parts(&["roles"]), LONGEST_WAIT, start), None);
            corrections.record(parts(&["roles"]), start);
        }
        assert_eq!(corrections.repeated(start), None);
    }
}
