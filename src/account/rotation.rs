//! The rotation rules: when an account's keys are rotated, why, and which key pairs are revoked then. Functions get the
//! current time as an argument.

use super::text::{InvalidText, check_prose};
use super::{Account, KeyId, KeyState, Period, StoredKey};
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

/// The most key pairs of an account that authenticate at the same time: the active one and the retiring ones.
pub const MAX_LIVE_KEY_PAIRS: usize = 3;

/// The most characters (Unicode code points) in a rotation trigger.
const MAX_TRIGGER: usize = 256;

/// The divisor of the jitter: a scheduled rotation is early by up to the interval divided by this number. The exact
/// part is derived from the key pair's id, so that accounts that were created together do not rotate together.
const JITTER_PART: i32 = 10;

/// When an account's keys are to be rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationPolicy {
    /// The age at which the active key pair is rotated; `None`: no scheduled rotation.
    pub interval: Option<Period>,
    /// How long the old key pair still authenticates after a rotation.
    pub overlap: Period,
    /// The texts that request a rotation when they change.
    pub requests: RotationRequests,
}

/// The texts that request a rotation when they change: either the present ones, or the last ones that were answered
/// with a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RotationRequests {
    /// `spec.rotation.trigger`.
    pub trigger: Option<String>,
    /// The annotation `ops-admin.com/rotate`.
    pub annotation: Option<String>,
}

impl RotationRequests {
    /// Returns the answered texts after a rotation for `self`. A text that was removed keeps its last answered value,
    /// so that adding the same text again requests no rotation.
    #[must_use]
    pub fn answered_after(&self, before: &Self) -> Self {
        let later = |now: &Option<String>, before: &Option<String>| now.clone().or_else(|| before.clone());
        Self { trigger: later(&self.trigger, &before.trigger), annotation: later(&self.annotation, &before.annotation) }
    }
}

/// The error for a text that cannot be a rotation trigger.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a trigger {0}")]
pub struct InvalidTrigger(InvalidText);

/// Checks a rotation trigger or the text of the annotation. The limits exist because the database stores the text.
///
/// # Errors
/// The text has more than 256 characters, or control characters other than tabs and line breaks.
pub fn check_trigger(text: &str) -> Result<(), InvalidTrigger> {
    check_prose(text, MAX_TRIGGER).map_err(InvalidTrigger)
}

/// Why keys are rotated now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationReason {
    /// `spec.rotation.trigger` differs from the text answered last.
    Trigger,
    /// The annotation differs from the text answered last.
    Annotation,
    /// The active key pair has reached the age of the interval, less the jitter.
    Due,
}

impl RotationReason {
    /// The reason as a text for users.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trigger => "spec.rotation.trigger changed",
            Self::Annotation => "the annotation ops-admin.com/rotate changed",
            Self::Due => "spec.rotation.interval has passed",
        }
    }
}

/// Returns why the account's keys are to be rotated at the time `now`; `None` if they are not.
pub fn rotation_reason(policy: &RotationPolicy, account: &Account, now: Timestamp) -> Option<RotationReason> {
    let active = account.active_key()?;
    let checks = [
        (RotationReason::Trigger, is_new(policy.requests.trigger.as_ref(), account.answered_requests.trigger.as_ref())),
        (
            RotationReason::Annotation,
            is_new(policy.requests.annotation.as_ref(), account.answered_requests.annotation.as_ref()),
        ),
        (RotationReason::Due, due(policy, active).is_some_and(|due| due <= now)),
    ];
    checks.into_iter().find(|(_, holds)| *holds).map(|(reason, _)| reason)
}

fn is_new(asked: Option<&String>, answered: Option<&String>) -> bool {
    asked.is_some() && asked != answered
}

/// Returns the time of the next scheduled rotation; `None` without an interval or an active key pair.
pub fn next_rotation(policy: &RotationPolicy, account: &Account) -> Option<Timestamp> {
    due(policy, account.active_key()?)
}

fn due(policy: &RotationPolicy, active: &StoredKey) -> Option<Timestamp> {
    let interval = policy.interval?;
    let spread = interval.duration().as_millis() / i128::from(JITTER_PART);
    // In 128 bits: the product is up to 3e10 times 2^32, which overflows 64 bits.
    let early = spread * i128::from(crc32fast::hash(active.id.as_bytes())) / i128::from(u32::MAX);
    let early = SignedDuration::from_millis(i64::try_from(early).ok()?);
    active.created.checked_add(interval.duration() - early).ok()
}

/// Returns the retiring key pairs that have expired by the time `now` and are to be revoked.
pub fn expired(account: &Account, now: Timestamp) -> Vec<&StoredKey> {
    account.keys.iter().filter(|key| matches!(key.state, KeyState::Retiring { expires } if expires <= now)).collect()
}

/// Returns the retiring key pairs that a rotation revokes before they expire, so that at most [`MAX_LIVE_KEY_PAIRS`]
/// remain: the oldest ones.
pub fn over_limit(account: &Account, now: Timestamp) -> Vec<&StoredKey> {
    let mut retiring: Vec<_> = account
        .keys
        .iter()
        .filter(|key| matches!(key.state, KeyState::Retiring { expires } if expires > now))
        .collect();
    retiring.sort_by_key(|key| std::cmp::Reverse(key.created));
    // Two places are taken by the new key pair and by the one that it replaces.
    retiring.split_off(retiring.len().min(MAX_LIVE_KEY_PAIRS - 2))
}

/// What a rotation does with the account's existing key pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationEffect {
    /// When the key pair that was active expires; `None`: the rotation revokes it.
    pub old_expires: Option<Timestamp>,
    /// The retiring key pairs that the rotation revokes. With an overlap: the expired ones and the ones over
    /// [`MAX_LIVE_KEY_PAIRS`]. Without an overlap: all of them, since the rotation may answer a leak of any of them.
    pub revoke: Vec<KeyId>,
}

/// Returns what a rotation at the time `now` does with the account's existing key pairs.
pub fn rotation_effect(account: &Account, overlap: Period, now: Timestamp) -> RotationEffect {
    if overlap.is_zero() {
        let retiring = account.keys.iter().filter(|key| key.state != KeyState::Active);
        return RotationEffect { old_expires: None, revoke: retiring.map(|key| key.id).collect() };
    }
    // An overlap is at most ten years, so the sum overflows only if the clock is near the greatest timestamp.
    let old_expires = now.checked_add(overlap.duration()).ok();
    let revoke = expired(account, now).into_iter().chain(over_limit(account, now)).map(|key| key.id).collect();
    RotationEffect { old_expires, revoke }
}

/// Returns when to reconcile the account again if nothing changes: the next scheduled rotation or expiry.
pub fn next_key_event(policy: &RotationPolicy, account: &Account) -> Option<Timestamp> {
    expiries(account).chain(next_rotation(policy, account)).min()
}

/// Returns the first time after `now` at which a key pair of the account expires.
pub fn next_expiry(account: &Account, now: Timestamp) -> Option<Timestamp> {
    expiries(account).filter(|expires| *expires > now).min()
}

fn expiries(account: &Account) -> impl Iterator<Item = Timestamp> {
    account.keys.iter().filter_map(|key| match key.state {
        KeyState::Active => None,
        KeyState::Retiring { expires } => Some(expires),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{KeyId, samples};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn key(seed: u8, created: i64, state: KeyState) -> StoredKey {
        StoredKey { id: KeyId::from_random([seed; 16]), created: at(created), ..samples::key(state) }
    }

    fn account(keys: Vec<StoredKey>) -> Account {
        Account { keys, ..samples::account() }
    }

    fn every(hours: i64) -> RotationPolicy {
        let interval = Some(Period::parse(&format!("{hours}h")).unwrap());
        RotationPolicy { interval, overlap: Period::parse("0s").unwrap(), requests: RotationRequests::default() }
    }

    #[test]
    fn a_rotation_without_overlap_revokes_retiring_pairs_and_one_with_overlap_keeps_them() {
        let retiring = key(2, 5, KeyState::Retiring { expires: at(1000) });
        let account = account(vec![key(1, 10, KeyState::Active), retiring.clone()]);
        let of = |overlap| rotation_effect(&account, Period::parse(overlap).unwrap(), at(20));
        assert_eq!(of("0s"), RotationEffect { old_expires: None, revoke: vec![retiring.id] });
        assert_eq!(of("60s"), RotationEffect { old_expires: Some(at(80)), revoke: Vec::new() });
    }

    #[test]
    fn accounts_created_together_rotate_over_a_tenth_of_the_interval_and_never_late() {
        let hours = |seed: u8| {
            let key = key(seed, 0, KeyState::Active);
            let due = due(&every(100), &key).unwrap();
            assert_eq!(Some(due), super::due(&every(100), &key), "the same each time it is looked at");
            due.as_second() / 3600
        };
        let due: Vec<_> = (0..100).map(hours).collect();
        assert!(due.iter().all(|hours| (90..=100).contains(hours)), "{due:?}");
        for hour in 90..100 {
            let together = due.iter().filter(|due| **due == hour).count();
            assert!((1..=30).contains(&together), "{together} of 100 in the hour {hour}: {due:?}");
        }
    }

    proptest! {
        /// A key pair is never due before nine tenths of the interval and always due after all of it. Only the current
        /// time and the time of creation count.
        #[test]
        fn a_pair_is_due_by_its_age_only(seed: u8, created in -1_000_000..1_000_000_i64, hours in prop_oneof![1..1000_i64, 1..=87_600_i64],
            part in -1.0..2.0_f64,
        ) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "seconds, roughly")]
            let age = (part * (hours * 3600) as f64) as i64;
            let account = account(vec![key(seed, created, KeyState::Active)]);
            let why = rotation_reason(&every(hours), &account, at(created + age));
            if age < hours * 3600 * 9 / 10 {
                prop_assert_eq!(why, None);
            }
            if age >= hours * 3600 {
                prop_assert_eq!(why, Some(RotationReason::Due));
            }
            let next = next_rotation(&every(hours), &account).unwrap();
            prop_assert_eq!(why.is_some(), next <= at(created + age));
        }

        #[test]
        fn a_pair_expires_at_its_time(expires in -1000..1000_i64, now in -1000..1000_i64, created in -1000..1000_i64) {
            let account = account(vec![
                key(1, created, KeyState::Active),
                key(2, 0, KeyState::Retiring { expires: at(expires) }),
            ]);
            let ids: Vec<_> = expired(&account, at(now)).iter().map(|key| key.id).collect();
            prop_assert_eq!(ids.contains(&KeyId::from_random([2; 16])), expires <= now);
            prop_assert!(!ids.contains(&KeyId::from_random([1; 16])));
        }

        /// After one more rotation at most `MAX_LIVE_PAIRS` key pairs remain, and no other pair is revoked early.
        #[test]
        fn only_pairs_over_the_limit_are_crowded_out(ends in proptest::collection::vec((-50..50_i64, -50..50_i64), 0..6), now in -50..50_i64) {
            let retiring = ends.iter().zip(2..).map(|((created, expires), seed)| {
                key(seed, *created, KeyState::Retiring { expires: at(*expires) })
            });
            let account = account(std::iter::once(key(1, 0, KeyState::Active)).chain(retiring).collect());
            let live = account.keys.len() - expired(&account, at(now)).len();
            let out = over_limit(&account, at(now)).len();
            prop_assert_eq!(out, (live + 1).saturating_sub(MAX_LIVE_KEY_PAIRS));
        }
    }

    #[test]
    fn accounts_created_together_do_not_rotate_together() {
        let due: BTreeSet<_> = (0..=255)
            .map(|seed| next_rotation(&every(1000), &account(vec![key(seed, 0, KeyState::Active)])).unwrap())
            .collect();
        assert!(due.len() > 250, "{}", due.len());
    }
}
