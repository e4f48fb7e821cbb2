//! When keys are rotated, and why: small checks in order, with the time passed in.

use super::{Account, KeyId, KeyState, Period, StoredKey};
use jiff::{SignedDuration, Timestamp};

/// The most pairs of an account that may authenticate at a time: the active one and those on their way out.
pub const MAX_LIVE_PAIRS: usize = 3;

/// A scheduled rotation comes up to this part of the interval early, a different one for each pair, so that a fleet that
/// was created together does not rotate together.
const JITTER_PART: i64 = 10;

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
    let spread = interval.seconds() * 1000 / JITTER_PART;
    // At most 3e10 times 2^32: no overflow.
    let early = spread * i64::from(crc32fast::hash(active.id.as_bytes())) / i64::from(u32::MAX);
    active.created.checked_add(interval.duration() - SignedDuration::from_millis(early)).ok()
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
    /// Older pairs that go now: those that have expired, and those that would be too many.
    pub revoke: Vec<KeyId>,
}

/// What becomes of the account's pairs if it gets a new one at this time, with this overlap.
pub fn succession(account: &Account, overlap: Period, now: Timestamp) -> Succession {
    let old_expires = if overlap.is_zero() { None } else { now.checked_add(overlap.duration()).ok() };
    let revoke = expired(account, now).into_iter().chain(crowded_out(account, now)).map(|key| key.id).collect();
    Succession { old_expires, revoke }
}

/// When next to look at the account though nothing changes: a rotation or an expiry.
pub fn next_look(policy: &RotationPolicy, account: &Account) -> Option<Timestamp> {
    let expiries = account.keys.iter().filter_map(|key| match key.state {
        KeyState::Active => None,
        KeyState::Retiring { expires } => Some(expires),
    });
    expiries.chain(next_rotation(policy, account)).min()
}
