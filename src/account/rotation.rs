//! When keys are rotated, and why: small checks in order, with the time passed in.

use super::text::{InvalidText, check_prose};
use super::{Account, KeyId, KeyState, Period, StoredKey};
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

/// The most pairs of an account that may authenticate at a time: the active one and those on their way out.
pub const MAX_LIVE_PAIRS: usize = 3;

/// The most characters (Unicode code points) in a text that asks for a rotation.
const MAX_TRIGGER: usize = 256;

/// A scheduled rotation comes up to this part of the interval early, a different one for each pair, so that a fleet that
/// was created together does not rotate together.
const JITTER_PART: i32 = 10;

/// When an account's keys are to be rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationPolicy {
    /// A pair is replaced when it is this old; `None`: not by itself.
    pub interval: Option<Period>,
    /// How long the old pair goes on working.
    pub overlap: Period,
    /// What asks for a rotation now, whenever its text is another.
    pub asked: Asked,
}

/// The texts that ask for a rotation when they change: those that are there, or those that were answered last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// `spec.rotation.trigger`.
    pub trigger: Option<String>,
    /// The annotation `ops-admin.com/rotate`.
    pub annotation: Option<String>,
}

impl Asked {
    /// What will have been answered once this was answered: a text that was taken away still counts, so that putting it
    /// back asks for nothing new.
    #[must_use]
    pub fn answered_after(&self, before: &Self) -> Self {
        let later = |now: &Option<String>, before: &Option<String>| now.clone().or_else(|| before.clone());
        Self { trigger: later(&self.trigger, &before.trigger), annotation: later(&self.annotation, &before.annotation) }
    }
}

/// The text cannot ask for a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a trigger {0}")]
pub struct InvalidTrigger(InvalidText);

/// Checks a text that asks for a rotation. Which one it is makes no difference, but it is kept in the database.
///
/// # Errors
/// The text has more than 256 characters, or control characters other than tabs and line breaks.
pub fn check_trigger(text: &str) -> Result<(), InvalidTrigger> {
    check_prose(text, MAX_TRIGGER).map_err(InvalidTrigger)
}

/// Why keys are to be rotated now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationReason {
    /// The trigger's text is another than the one answered last.
    Trigger,
    /// The annotation's text is another than the one answered last.
    Annotation,
    /// The active pair is as old as the interval allows.
    Due,
}

impl RotationReason {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trigger => "spec.rotation.trigger changed",
            Self::Annotation => "the annotation ops-admin.com/rotate changed",
            Self::Due => "spec.rotation.interval has passed",
        }
    }
}

/// Why this account's keys are to be rotated at this time, if they are.
pub fn why_rotate(policy: &RotationPolicy, account: &Account, now: Timestamp) -> Option<RotationReason> {
    let active = account.active_key()?;
    let checks = [
        (RotationReason::Trigger, is_new(policy.asked.trigger.as_ref(), account.answered.trigger.as_ref())),
        (RotationReason::Annotation, is_new(policy.asked.annotation.as_ref(), account.answered.annotation.as_ref())),
        (RotationReason::Due, due(policy, active).is_some_and(|due| due <= now)),
    ];
    checks.into_iter().find(|(_, holds)| *holds).map(|(reason, _)| reason)
}

fn is_new(asked: Option<&String>, answered: Option<&String>) -> bool {
    asked.is_some() && asked != answered
}

/// When the account's keys will be rotated by themselves; `None` if never.
pub fn next_rotation(policy: &RotationPolicy, account: &Account) -> Option<Timestamp> {
    due(policy, account.active_key()?)
}

fn due(policy: &RotationPolicy, active: &StoredKey) -> Option<Timestamp> {
    let interval = policy.interval?;
    let spread = interval.duration().as_millis() / i128::from(JITTER_PART);
    // At most 3e10 times 2^32, which is more than 64 bits hold.
    let early = spread * i128::from(crc32fast::hash(active.id.as_bytes())) / i128::from(u32::MAX);
    let early = SignedDuration::from_millis(i64::try_from(early).ok()?);
    active.created.checked_add(interval.duration() - early).ok()
}

/// The pairs that are to be revoked at this time: those that have expired.
pub fn expired(account: &Account, now: Timestamp) -> Vec<&StoredKey> {
    account.keys.iter().filter(|key| matches!(key.state, KeyState::Retiring { expires } if expires <= now)).collect()
}

/// The pairs that have to go before their time when one more is made: the oldest, as many as are too many.
pub fn crowded_out(account: &Account, now: Timestamp) -> Vec<&StoredKey> {
    let mut retiring: Vec<_> = account
        .keys
        .iter()
        .filter(|key| matches!(key.state, KeyState::Retiring { expires } if expires > now))
        .collect();
    retiring.sort_by_key(|key| std::cmp::Reverse(key.created));
    // Beside them stay the new pair and the one it replaces.
    retiring.split_off(retiring.len().min(MAX_LIVE_PAIRS - 2))
}

/// What becomes of an account's pairs when a new one takes their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Succession {
    /// Until when the active pair goes on working; `None`: not at all.
    pub old_expires: Option<Timestamp>,
    /// Older pairs that go now: those that have expired, and those that would be too many; all of them without an overlap,
    /// which is for a leak, and nobody knows which of them has leaked.
    pub revoke: Vec<KeyId>,
}

/// What becomes of the account's pairs if it gets a new one at this time, with this overlap.
pub fn succession(account: &Account, overlap: Period, now: Timestamp) -> Succession {
    if overlap.is_zero() {
        let retiring = account.keys.iter().filter(|key| key.state != KeyState::Active);
        return Succession { old_expires: None, revoke: retiring.map(|key| key.id).collect() };
    }
    // An overlap has at most ten years: only a clock at the end of time leaves none.
    let old_expires = now.checked_add(overlap.duration()).ok();
    let revoke = expired(account, now).into_iter().chain(crowded_out(account, now)).map(|key| key.id).collect();
    Succession { old_expires, revoke }
}

/// When next to look at the account though nothing changes: a rotation or an expiry.
pub fn next_look(policy: &RotationPolicy, account: &Account) -> Option<Timestamp> {
    expiries(account).chain(next_rotation(policy, account)).min()
}

/// When next, after this time, a pair of the account expires by itself.
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
        RotationPolicy { interval, overlap: Period::parse("0s").unwrap(), asked: Asked::default() }
    }

    #[test]
    fn without_an_overlap_no_older_pair_goes_on_and_with_one_it_keeps_its_time() {
        let retiring = key(2, 5, KeyState::Retiring { expires: at(1000) });
        let account = account(vec![key(1, 10, KeyState::Active), retiring.clone()]);
        let of = |overlap| succession(&account, Period::parse(overlap).unwrap(), at(20));
        assert_eq!(of("0s"), Succession { old_expires: None, revoke: vec![retiring.id] });
        assert_eq!(of("60s"), Succession { old_expires: Some(at(80)), revoke: Vec::new() });
    }

    #[test]
    fn a_fleet_that_was_made_together_is_rotated_over_a_tenth_of_the_interval_and_never_late() {
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
        /// Never before nine tenths of the interval, always once all of it is over, whatever the clock said in between: only
        /// the time now and the time when the pair was made count.
        #[test]
        fn a_pair_is_due_by_its_age_alone(seed: u8, created in -1_000_000..1_000_000_i64, hours in prop_oneof![1..1000_i64, 1..=87_600_i64],
            part in -1.0..2.0_f64,
        ) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "seconds, roughly")]
            let age = (part * (hours * 3600) as f64) as i64;
            let account = account(vec![key(seed, created, KeyState::Active)]);
            let why = why_rotate(&every(hours), &account, at(created + age));
            if age < hours * 3600 * 9 / 10 {
                prop_assert_eq!(why, None);
            }
            if age >= hours * 3600 {
                prop_assert_eq!(why, Some(RotationReason::Due));
            }
            let next = next_rotation(&every(hours), &account).unwrap();
            prop_assert_eq!(why.is_some(), next <= at(created + age));
        }

        /// A pair ends at its time: not a moment earlier, whatever else is on the account.
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

        /// After one more rotation there are at most as many as may be; none that is not in the way goes early.
        #[test]
        fn only_what_is_too_many_is_crowded_out(ends in proptest::collection::vec((-50..50_i64, -50..50_i64), 0..6), now in -50..50_i64) {
            let retiring = ends.iter().zip(2..).map(|((created, expires), seed)| {
                key(seed, *created, KeyState::Retiring { expires: at(*expires) })
            });
            let account = account(std::iter::once(key(1, 0, KeyState::Active)).chain(retiring).collect());
            let live = account.keys.len() - expired(&account, at(now)).len();
            let out = crowded_out(&account, at(now)).len();
            prop_assert_eq!(out, (live + 1).saturating_sub(MAX_LIVE_PAIRS));
        }
    }

    #[test]
    fn a_fleet_made_together_is_not_rotated_together() {
        let due: BTreeSet<_> = (0..=255)
            .map(|seed| next_rotation(&every(1000), &account(vec![key(seed, 0, KeyState::Active)])).unwrap())
            .collect();
        assert!(due.len() > 250, "{}", due.len());
    }
}
