//! The last use of each key pair in a status: which uses are worth a write, and who still uses a pair that ends soon.
//! Pure.
//!
//! Partners log in all the time, and a status is written only if it changes what a person would do. A person wants to
//! know whether the new pair works, whether the old one is still needed, and whether the account is used at all.

use super::status::whole_seconds;
use crate::account::KeyUse;
use crate::api::KeyStatus;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// How late a shown last use may be while a pair is retiring.
const LATE_BY_IF_RETIRING: SignedDuration = SignedDuration::from_hours(1);

/// How late a shown last use may be otherwise.
const LATE_BY: SignedDuration = SignedDuration::from_hours(24);

/// An old pair is given up if a newer one is used for this long and the old one is not. Longer than shown uses are late.
const GIVEN_UP_AFTER: SignedDuration = SignedDuration::from_hours(2);

/// The half of an overlap. The overlap begins when the next pair is created, and ends when the old one expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OverlapHalf {
    /// The first half: partners change over.
    First,
    /// The second half: a partner that has not changed over by then is probably cut off at the end.
    Second,
}

impl OverlapHalf {
    /// Both halves.
    pub const ALL: [Self; 2] = [Self::First, Self::Second];

    /// The half as the label of a metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
        }
    }
}

/// Puts those of these uses into a status that are worth a write.
pub fn show_last_uses(keys: &mut [KeyStatus], uses: &[KeyUse]) {
    for index in 0..keys.len() {
        if let Some(used) = news(keys, &keys[index], uses) {
            keys[index].last_used = Some(used);
        }
    }
}

/// Returns whether any of these uses is worth a write.
pub fn has_unshown_use(keys: &[KeyStatus], uses: &[KeyUse]) -> bool {
    keys.iter().any(|key| news(keys, key, uses).is_some())
}

/// Returns in which half of its overlap an old pair was last used, as the status shows it; `None` if it is not an old
/// pair, was not used since there is a newer one, or was given up.
pub fn used_in_overlap(keys: &[KeyStatus], key: &KeyStatus) -> Option<OverlapHalf> {
    let Time(used) = key.last_used.as_ref()?;
    let later = |newer: &Time| newer.0.duration_since(*used) >= GIVEN_UP_AFTER;
    let is_given_up =
        keys.iter().any(|newer| newer.created.0 > key.created.0 && newer.last_used.as_ref().is_some_and(later));
    half(keys, key, *used).filter(|_| !is_given_up)
}

/// Returns the pairs that are used in the second half of their overlap, and were not `before`.
pub fn newly_used_late<'a>(before: &[KeyStatus], keys: &'a [KeyStatus]) -> Vec<&'a KeyStatus> {
    let is_late = |keys: &[KeyStatus], key: &KeyStatus| used_in_overlap(keys, key) == Some(OverlapHalf::Second);
    let was_late = |id: &str| before.iter().any(|key| key.id == id && is_late(before, key));
    keys.iter().filter(|key| is_late(keys, key) && !was_late(&key.id)).collect()
}

/// Returns the last use of this pair if it is worth a write.
fn news(keys: &[KeyStatus], key: &KeyStatus, uses: &[KeyUse]) -> Option<Time> {
    let found = uses.iter().find(|found| found.key.to_string() == key.id)?;
    let last = whole_seconds(found.last);
    let Some(Time(shown)) = key.last_used else { return Some(last) };
    let is_retiring = |key: &KeyStatus| key.state == KeyStatus::RETIRING;
    let late_by = if keys.iter().any(is_retiring) { LATE_BY_IF_RETIRING } else { LATE_BY };
    let is_late = || last.0.duration_since(shown) >= late_by || half(keys, key, last.0) != half(keys, key, shown);
    (last.0 > shown && is_late()).then_some(last)
}

fn half(keys: &[KeyStatus], key: &KeyStatus, used: Timestamp) -> Option<OverlapHalf> {
    let Time(expires) = key.expires.as_ref()?;
    let newer = keys.iter().map(|key| key.created.0).filter(|created| *created > key.created.0);
    let begin = newer.min()?;
    let middle = begin.checked_add(expires.duration_since(begin) / 2).ok()?;
    match used {
        used if used < begin => None,
        used if used < middle => Some(OverlapHalf::First),
        _ => Some(OverlapHalf::Second),
    }
}

#[cfg(test)]
mod tests {
    use super::OverlapHalf::{First, Second};
    use super::*;
    use crate::account::KeyId;
    use proptest::prelude::*;

    fn at(hours: f64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(hours * 3600.0)
    }

    fn id(number: u8) -> KeyId {
        KeyId::from_random([number; 16])
    }

    /// A pair that was created at this hour, retires until this hour, and was last used at this hour.
    fn key(number: u8, created: f64, expires: Option<f64>, last_used: Option<f64>) -> KeyStatus {
        let state = if expires.is_some() { KeyStatus::RETIRING } else { KeyStatus::ACTIVE };
        KeyStatus {
            id: id(number).to_string(),
            api_key: "k".to_owned(),
            state: state.to_owned(),
            created: Time(at(created)),
            expires: expires.map(|expires| Time(at(expires))),
            last_used: last_used.map(|used| Time(at(used))),
        }
    }

    /// Returns whether a use of the first pair at this hour is shown.
    fn shown(keys: &[KeyStatus], hour: f64) -> bool {
        let uses = [KeyUse { key: id(1), first: at(0.0), last: at(hour) }];
        let mut next = keys.to_vec();
        show_last_uses(&mut next, &uses);
        assert_eq!(has_unshown_use(keys, &uses), next != keys);
        assert!(!has_unshown_use(&next, &uses), "it is shown once");
        next[0].last_used == Some(Time(at(hour)))
    }

    #[test]
    fn the_first_use_is_shown_at_once_and_later_ones_once_a_day() {
        assert!(shown(&[key(1, 0.0, None, None)], 1.0));
        let used = [key(1, 0.0, None, Some(1.0))];
        assert!(!shown(&used, 0.5) && !shown(&used, 24.9) && shown(&used, 25.0));
    }

    #[test]
    fn a_retiring_pair_that_is_still_used_is_shown_hourly() {
        let used = [key(1, 0.0, Some(34.0), Some(11.0)), key(2, 10.0, None, None)];
        assert!(!shown(&used, 11.9) && shown(&used, 12.0));
    }

    #[test]
    fn an_old_pair_is_given_up_when_only_the_new_one_is_used() {
        let pairs = |old, new| [key(1, 0.0, Some(34.0), Some(old)), key(2, 10.0, None, Some(new))];
        let of = |old, new| used_in_overlap(&pairs(old, new), &pairs(old, new)[0]);
        assert_eq!([of(23.0, 24.9), of(23.0, 25.0), of(24.0, 25.0)].map(|half| half.is_some()), [true, false, true]);
    }

    #[test]
    fn the_new_pair_is_shown_hourly_too_during_an_overlap() {
        let used = [key(1, 10.0, None, Some(11.0)), key(2, 0.0, Some(34.0), None)];
        assert!(!shown(&used, 11.9) && shown(&used, 12.0));
    }

    #[test]
    fn a_use_in_another_half_of_the_overlap_is_shown_at_once() {
        // The overlap is from hour 10 to hour 34.
        let pairs = |used| [key(1, 0.0, Some(34.0), Some(used)), key(2, 10.0, None, None)];
        assert!(shown(&pairs(9.9), 10.0), "used although there is a newer pair");
        assert!(!shown(&pairs(21.8), 21.9) && shown(&pairs(21.9), 22.0));
        let of = |used| used_in_overlap(&pairs(used), &pairs(used)[0]);
        assert_eq!([9.9, 10.0, 21.9, 22.0, 33.9].map(of), [None, Some(First), Some(First), Some(Second), Some(Second)]);
    }

    #[test]
    fn a_pair_without_an_overlap_is_not_used_late() {
        let unused = [key(1, 0.0, Some(34.0), None), key(2, 10.0, None, Some(30.0))];
        assert_eq!(unused.each_ref().map(|key| used_in_overlap(&unused, key)), [None, None]);
        // A clock was set back, so that no pair is newer.
        let alone = [key(1, 20.0, Some(34.0), Some(33.0)), key(2, 10.0, None, None)];
        assert_eq!(used_in_overlap(&alone, &alone[0]), None);
    }

    #[test]
    fn a_pair_that_is_used_late_is_told_once() {
        let pairs = |used| [key(1, 0.0, Some(34.0), Some(used)), key(2, 10.0, None, None)];
        let told = |before: &[KeyStatus], now: &[KeyStatus]| newly_used_late(before, now).len();
        assert_eq!(told(&[], &pairs(22.0)), 1);
        assert_eq!(told(&pairs(21.0), &pairs(22.0)), 1);
        assert_eq!(told(&pairs(22.0), &pairs(23.0)), 0);
        assert_eq!(told(&pairs(9.0), &pairs(21.0)), 0);
    }

    proptest! {
        #[test]
        fn a_pair_in_constant_use_is_shown_at_most_hourly_and_when_the_half_changes(
            minutes in proptest::collection::vec(1_u32..90, 1..200)
        ) {
            let mut keys = vec![key(1, 0.0, Some(34.0), Some(10.5)), key(2, 10.0, None, None)];
            let (mut hours, mut writes) = (10.5, 0);
            for pause in minutes {
                hours += f64::from(pause) / 60.0;
                writes += u32::from(hours < 34.0 && {
                    let before = keys.clone();
                    show_last_uses(&mut keys, &[KeyUse { key: id(1), first: at(0.0), last: at(hours) }]);
                    before != keys
                });
            }
            prop_assert!(f64::from(writes) <= (hours.min(34.0) - 10.5) + 1.0, "{writes} writes in {hours} h");
        }
    }
}
