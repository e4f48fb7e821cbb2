//! Drift that is put back and comes again and again: how soon to put it back the next time. Pure; time is passed in.
//!
//! The first few corrections are made at once. After them, each waits longer than the one before, so that two programs that
//! fight over a row or a Secret do not fill the journal, the events and the API server. What lets in more than is declared is
//! never left longer than [`LONGEST_OPEN`]: a wait must not be a way to widen access.

use super::{AccountPlan, Desired, Done, Obstacle, Outcome, Plan, SecretPlan};
use crate::account::{Account, StoredSettings};
use crate::api::{ApiAccountStatus, Reason, condition};
use crate::backoff::Backoff;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// So many corrections of the same part are made at once.
const AT_ONCE: u32 = 5;
/// The longest wait before a correction.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// The waits before the corrections after those.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), LONGEST_WAIT);
/// The longest wait before a correction of what lets in more than is declared.
const LONGEST_OPEN: Duration = Duration::from_secs(10);
/// A part that needed no correction for so long is left alone by now.
const CALM_AFTER: Duration = Duration::from_mins(10);

/// The Secret as a whole, as a part.
const SECRET: &str = "secret";

/// What was put back of one resource lately, by part: a field of the spec, or a part of the Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Corrections(BTreeMap<String, Corrected>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Corrected {
    times: u32,
    last: Instant,
}

impl Corrected {
    /// How long the next correction has to wait, counted from the last one.
    fn wait(self) -> Duration {
        match self.times.checked_sub(AT_ONCE) {
            None => Duration::ZERO,
            Some(more) => BACKOFF.pause(more),
        }
    }
}

impl Corrections {
    /// Takes in that these parts were put back now, and forgets those that have been left alone since.
    pub fn record(&mut self, parts: impl IntoIterator<Item = String>, now: Instant) {
        self.0.retain(|_, corrected| now.duration_since(corrected.last) < CALM_AFTER);
        for part in parts {
            let corrected = self.0.entry(part).or_insert(Corrected { times: 0, last: now });
            *corrected = Corrected { times: corrected.times.saturating_add(1), last: now };
        }
    }

    /// The parts that something keeps changing, by name; and when that may be over, if nothing changes them again.
    pub fn repeated(&self, now: Instant) -> Option<(Vec<String>, Duration)> {
        let calm = |corrected: &Corrected| CALM_AFTER.saturating_sub(now.duration_since(corrected.last));
        let repeated =
            || self.0.iter().filter(|(_, found)| found.times > AT_ONCE && now.duration_since(found.last) < CALM_AFTER);
        let over = repeated().map(|(_, corrected)| calm(corrected)).max()?;
        Some((repeated().map(|(part, _)| part.clone()).collect(), over))
    }

    /// How long to wait before all of these parts, which differ now, are put back; nothing if there is no reason to wait.
    /// Whatever differs for the first time has all of them put back at once.
    fn wait(&self, parts: &[String], longest: Duration, now: Instant) -> Option<Duration> {
        let wait = |part: &String| {
            let corrected = self.0.get(part).filter(|found| now.duration_since(found.last) < CALM_AFTER);
            corrected.map_or(Duration::ZERO, |found| {
                found.wait().min(longest).saturating_sub(now.duration_since(found.last))
            })
        };
        parts.iter().map(wait).min().filter(|wait| !wait.is_zero())
    }
}

/// What differs and is corrected later.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Postponed {
    /// The parts, by name.
    pub parts: Vec<String>,
    /// How much later.
    pub wait: Duration,
}

/// What a reconcile knows of those before it.
#[derive(Debug, Default)]
pub struct History<'a> {
    previous: Option<Previous<'a>>,
    /// What was in the way the last time.
    pub(super) obstacle: Option<Obstacle>,
}

#[derive(Debug)]
struct Previous<'a> {
    corrections: &'a Corrections,
    /// The pair that was in the Secret, by its id; `None` if the Secret was not right.
    key: Option<&'a str>,
    now: Instant,
}

impl<'a> History<'a> {
    /// For a resource of this generation whose last look came to `previous`: what differs now is somebody else's doing only if
    /// the same spec was reconciled before.
    pub fn new(
        corrections: &'a Corrections,
        previous: Option<&'a ApiAccountStatus>,
        generation: Option<i64>,
        now: Instant,
    ) -> Self {
        let known = previous.filter(|status| was_reconciled(status, generation));
        let key = known.and_then(|status| right_key(status, generation));
        Self { previous: known.map(|_| Previous { corrections, key, now }), obstacle: None }
    }

    /// The same for one that was refused the last time because of this obstacle. Whether it is still there is read before
    /// anything is tried, so that whoever waits for it neither makes keys nor writes rows in vain.
    #[must_use]
    pub fn with_obstacle(self, obstacle: Option<Obstacle>) -> Self {
        Self { obstacle, ..self }
    }

    /// Takes out of the plan what is corrected later, because something keeps changing it.
    pub(super) fn pace(
        &self,
        mut plan: Plan,
        account: Option<&Account>,
        desired: &Desired,
    ) -> (Plan, Option<Postponed>) {
        let of_account = self.account_backoff(&plan, account, desired);
        if of_account.is_some() {
            plan.account = AccountPlan::Keep;
        }
        let of_secret = self.secret_backoff(&plan, account);
        if of_secret.is_some() {
            plan.secret = SecretPlan::Postpone;
        }
        let postponed = of_account.into_iter().chain(of_secret).reduce(|mut all, more| {
            all.parts.extend(more.parts);
            Postponed { parts: all.parts, wait: all.wait.min(more.wait) }
        });
        (plan, postponed)
    }

    /// What differs on the account and is corrected later.
    fn account_backoff(&self, plan: &Plan, account: Option<&Account>, desired: &Desired) -> Option<Postponed> {
        let (before, account) = (self.previous.as_ref()?, account?);
        let AccountPlan::Update { changes, restore: false } = &plan.account else { return None };
        let is_open = !account.settings.grants_no_more_than(&StoredSettings::from(&desired.settings));
        let longest = if is_open { LONGEST_OPEN } else { LONGEST_WAIT };
        let parts: Vec<String> = changes.iter().map(|change| change.field.to_string()).collect();
        let wait = before.corrections.wait(&parts, longest, before.now)?;
        Some(Postponed { parts, wait })
    }

    /// What differs on the Secret and is corrected later. A Secret that lacks the account's active key pair is written at once.
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
    /// The parts that somebody else had changed and that were put back, told from what follows from a change of the spec or of
    /// the keys.
    pub fn corrected(&self, previous: Option<&ApiAccountStatus>, generation: Option<i64>) -> Vec<String> {
        let Some(known) = previous.filter(|status| was_reconciled(status, generation)) else {
            return Vec::new();
        };
        let active = self.account.as_ref().and_then(Account::active_key).map(|key| key.id.to_string());
        let had_keys = active.is_some() && right_key(known, generation) == active.as_deref();
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

/// Whether the spec of this generation was reconciled, and so whatever differs now was changed by somebody else.
pub(super) fn was_reconciled(status: &ApiAccountStatus, generation: Option<i64>) -> bool {
    let is_ready = |found: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        found.type_ == condition::READY && (found.status == "True" || found.reason == Reason::RepeatedDrift.as_str())
    };
    status.observed_generation == generation && status.conditions.iter().any(is_ready)
}

/// The pair that a Secret was verified to hold, by its id.
fn right_key(status: &ApiAccountStatus, generation: Option<i64>) -> Option<&str> {
    let is_right = status.observed_generation == generation && status.secret_resource_version.is_some();
    status.active_key().filter(|_| is_right).map(|key| key.id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The seconds at which drift of these parts is put back that comes again each second.
    fn put_back(drift: &[&str], longest: Duration, seconds: u64) -> Vec<u64> {
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
    fn what_comes_again_each_second_is_put_back_ever_less_often() {
        let at = put_back(&["description"], LONGEST_WAIT, 3600);
        assert_eq!(at[..12], [0, 1, 2, 3, 4, 6, 10, 18, 34, 66, 130, 258]);
        let waits: Vec<u64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(waits.iter().max(), Some(&LONGEST_WAIT.as_secs()));
        assert!(at.len() < 30, "{at:?}");
    }

    #[test]
    fn what_lets_in_more_is_never_left_long() {
        let at = put_back(&["allowedIPs"], LONGEST_OPEN, 600);
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] <= LONGEST_OPEN.as_secs()), "{at:?}");
        assert!(at.len() < 100, "{at:?}");
    }

    #[test]
    fn other_parts_and_calm_ones_are_put_back_at_once() {
        let (mut corrections, start) = (Corrections::default(), Instant::now());
        for _ in 0..20 {
            corrections.record(parts(&["description"]), start);
        }
        let wait = |parts: &[String], now| corrections.wait(parts, LONGEST_WAIT, now);
        assert_eq!(wait(&parts(&["description"]), start), Some(LONGEST_WAIT));
        assert_eq!(wait(&parts(&["enabled"]), start), None);
        assert_eq!(wait(&parts(&["description", "enabled"]), start), None, "what is new does not wait for what is not");
        assert_eq!(wait(&parts(&["description"]), start + CALM_AFTER), None);
        assert_eq!(corrections.repeated(start), Some((parts(&["description"]), CALM_AFTER)));
        assert_eq!(corrections.repeated(start + CALM_AFTER), None);
        corrections.record(parts(&["enabled"]), start + CALM_AFTER);
        assert_eq!(corrections.0.len(), 1, "what is calm is forgotten");
    }

    #[test]
    fn a_few_edits_by_hand_are_no_fight() {
        let (mut corrections, start) = (Corrections::default(), Instant::now());
        for _ in 0..AT_ONCE {
            assert_eq!(corrections.wait(&parts(&["roles"]), LONGEST_WAIT, start), None);
            corrections.record(parts(&["roles"]), start);
        }
        assert_eq!(corrections.repeated(start), None);
    }
}
