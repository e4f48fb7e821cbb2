//! When a narrower access is in force everywhere: auth servers may answer from memory for a short time after a change.
//!
//! With `--revocation-lag`, a status that may report a narrower access waits for that time after the commit, and so does
//! the end of a deletion. Without it, nothing waits.

use crate::account::Version;
use crate::api::ApiAccount;
use crate::reconcile::{Done, Found, Outcome};
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

type Resource = ObjectRef<ApiAccount>;

/// Remembers until when each resource waits. An entry is removed together with its resource.
#[derive(Default)]
pub(super) struct Revocations {
    lag: Duration,
    entries: Mutex<HashMap<Resource, Entry>>,
}

#[derive(Default)]
struct Entry {
    /// The version of the account that was seen last.
    version: Option<Version>,
    /// When the last change that may have narrowed the access is in force everywhere.
    in_force: Option<Instant>,
}

impl Revocations {
    /// Waits for this time after each change that may narrow an access.
    pub fn new(lag: Duration) -> Self {
        Self { lag, entries: Mutex::default() }
    }

    /// Records an outcome, and returns how much longer its access may be wider than in the database; `None`: it is not.
    ///
    /// A change by another program or by an earlier process counts from the time at which it is first seen here.
    pub fn time_left(&self, resource: &Resource, outcome: &Outcome, now: Instant) -> Option<Duration> {
        let version = outcome.account.as_ref()?.version;
        if self.lag.is_zero() {
            return None;
        }
        let mut entries = self.entries();
        let entry = entries.entry(resource.clone()).or_default();
        let is_changed_by_others = match outcome.found {
            Found::At(found) => entry.version != Some(found),
            Found::Absent | Found::Unread => false,
        };
        if is_changed_by_others || outcome.done.iter().any(Done::may_narrow_access) {
            entry.in_force = now.checked_add(self.lag);
        }
        entry.version = Some(version);
        entry.in_force?.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Removes a resource that is gone.
    pub fn forget(&self, resource: &Resource) {
        self.entries().remove(resource);
    }

    /// Removes the resources that no longer exist, including those whose deletion no watch has shown.
    pub fn retain(&self, is_there: impl Fn(&Resource) -> bool) {
        self.entries().retain(|resource, _| is_there(resource));
    }

    /// A panic of another task cannot leave the map half changed, so a poisoned lock is still usable.
    fn entries(&self) -> MutexGuard<'_, HashMap<Resource, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, Field, FieldChange, samples};

    const LAG: Duration = Duration::from_secs(1);

    fn acme() -> Resource {
        ObjectRef::new("acme").within("ns")
    }

    fn outcome(found: Found, version: i64, done: Vec<Done>) -> Outcome {
        let account = Account { version: Version(version), ..samples::account() };
        Outcome { found, account: Some(account), done, ..Outcome::default() }
    }

    fn changed(field: Field, new: &str) -> Vec<Done> {
        let change = FieldChange { field, old: String::new(), new: new.to_owned() };
        vec![Done::Updated { changes: vec![change] }]
    }

    fn found(version: i64) -> Found {
        Found::At(Version(version))
    }

    /// Returns the time that is left right after an account of version 1, created here, has this outcome.
    fn left(outcome: &Outcome) -> Option<Duration> {
        let (revocations, now) = (Revocations::new(LAG), Instant::now());
        let created = vec![Done::Created { recovered: false }];
        assert_eq!(revocations.time_left(&acme(), &self::outcome(Found::Absent, 1, created), now), None);
        revocations.time_left(&acme(), outcome, now)
    }

    #[test]
    fn only_a_change_that_may_narrow_the_access_waits() {
        for done in [
            changed(Field::Enabled, "false"),
            changed(Field::Roles, "[]"),
            changed(Field::AllowedIps, "[10.0.0.0/8]"),
            changed(Field::Affiliate, "North"),
            vec![Done::Disabled],
        ] {
            assert_eq!(left(&outcome(found(1), 2, done.clone())), Some(LAG), "{done:?}");
        }
        for done in [changed(Field::Enabled, "true"), changed(Field::Name, "other"), Vec::new()] {
            assert_eq!(left(&outcome(found(1), 2, done.clone())), None, "{done:?}");
        }
    }

    #[test]
    fn a_change_by_another_program_waits_from_when_it_is_seen() {
        assert_eq!(left(&outcome(found(1), 1, Vec::new())), None);
        assert_eq!(left(&outcome(found(2), 2, Vec::new())), Some(LAG));
        // The process that made the change may have ended a moment ago.
        let after_a_restart = Revocations::new(LAG);
        let now = Instant::now();
        assert_eq!(after_a_restart.time_left(&acme(), &outcome(found(7), 7, Vec::new()), now), Some(LAG));
    }

    #[test]
    fn the_time_is_counted_once_and_ends() {
        let (revocations, start) = (Revocations::new(LAG), Instant::now());
        let disabled = outcome(Found::Absent, 2, vec![Done::Disabled]);
        assert_eq!(revocations.time_left(&acme(), &disabled, start), Some(LAG));
        let unchanged = outcome(found(2), 2, Vec::new());
        let half = LAG / 2;
        assert_eq!(revocations.time_left(&acme(), &unchanged, start + half), Some(half));
        assert_eq!(revocations.time_left(&acme(), &unchanged, start + LAG), None);
        revocations.forget(&acme());
        assert_eq!(revocations.time_left(&acme(), &unchanged, start + LAG), Some(LAG));
        revocations.retain(|_| false);
        assert!(revocations.entries().is_empty());
    }

    #[test]
    fn without_a_lag_nothing_waits_and_nothing_is_remembered() {
        let revocations = Revocations::new(Duration::ZERO);
        let disabled = outcome(found(1), 2, vec![Done::Disabled]);
        assert_eq!(revocations.time_left(&acme(), &disabled, Instant::now()), None);
        assert!(revocations.entries().is_empty());
    }
}
