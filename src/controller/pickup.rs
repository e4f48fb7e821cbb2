//! Measures how long the controller takes from a written generation of a resource to its Ready condition.
//!
//! Only generations that are not Ready yet have an entry, so that the memory does not grow with the number of
//! resources. Nothing is written anywhere.
//!
//! Two clocks are used. The time since the watch showed the generation is exact, but lacks the delay of the watch. The
//! time since the API server stored the generation includes that delay, but it has whole seconds and another clock. The
//! longer one counts, after one second is subtracted from the latter. So the result is never too long by the rounding.

use super::held::Key;
use super::managed_fields::{entries, has_spec};
use crate::api::{ApiAccount, ApiAccountStatus};
use crate::reconcile::Outcome;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The number of entries for which there is always room. Most of the room for more is given back once it is unused, because
/// a whole fleet may be new at once.
const ROOM: usize = 1000;

/// The resolution of the times that the API server stores.
const RESOLUTION: SignedDuration = SignedDuration::from_secs(1);

/// The generations that are not Ready yet, by resource.
#[derive(Default)]
pub(super) struct Pickups(Mutex<HashMap<Key, Pending>>);

/// A generation that is not Ready yet.
struct Pending {
    generation: i64,
    /// When the API server stored it, in whole seconds.
    written: Option<Timestamp>,
    /// When the watch showed it.
    shown: Instant,
    /// Whether it has been attempted.
    is_attempted: bool,
}

impl Pickups {
    /// Records the resource as the watch shows it, with its managed fields. `status` is its present status.
    ///
    /// A generation that has been reconciled before the controller first sees it is not measured, because it is not
    /// known whether it was Ready once.
    pub fn shown(&self, resource: &ApiAccount, status: Option<&ApiAccountStatus>, now: Instant) {
        let key = Key::of_resource(resource);
        let Some(generation) = resource.metadata.generation.filter(|_| resource.metadata.deletion_timestamp.is_none())
        else {
            self.forget(&key);
            return;
        };
        let mut pending = self.pending();
        let is_observed = status.is_some_and(|status| status.observed_generation == Some(generation));
        let is_ready =
            is_observed && status.and_then(ApiAccountStatus::ready).is_some_and(|ready| ready.status == "True");
        let is_pending = pending.get(&key).is_some_and(|pending| pending.generation == generation);
        if is_ready || (is_observed && !is_pending) {
            remove(&mut pending, &key);
        } else if !is_pending {
            let written = written(&resource.metadata);
            pending.insert(key, Pending { generation, written, shown: now, is_attempted: false });
        }
    }

    /// Records an attempt of the resource. Returns for how long it waited since the watch showed it, if this is the
    /// first attempt of its generation.
    pub fn began(&self, resource: &Key, now: Instant) -> Option<Duration> {
        let mut all = self.pending();
        let pending = all.get_mut(resource).filter(|pending| !pending.is_attempted)?;
        pending.is_attempted = true;
        Some(now.duration_since(pending.shown))
    }

    /// Records the outcome of a reconcile whose status is written. Returns the time since the generation was written
    /// if the resource is Ready for the first time in this generation.
    ///
    /// A generation that waits for a user is not measured: how long that takes says nothing about the controller.
    pub fn reported(
        &self,
        resource: &ApiAccount,
        outcome: &Outcome,
        now: Instant,
        wall_clock: Timestamp,
    ) -> Option<Duration> {
        let mut all = self.pending();
        let key = Key::of_resource(resource);
        let pending = all.get(&key).filter(|pending| Some(pending.generation) == resource.metadata.generation)?;
        match &outcome.not_ready {
            Some(not_ready) if !not_ready.needs_a_person() => None,
            Some(_) => {
                remove(&mut all, &key);
                None
            }
            None => {
                let took = pending.took(now, wall_clock);
                remove(&mut all, &key);
                Some(took)
            }
        }
    }

    /// Removes a resource that is gone.
    pub fn forget(&self, resource: &Key) {
        remove(&mut self.pending(), resource);
    }

    /// Removes the resources that no longer exist, including those whose deletion no watch has shown.
    pub fn retain(&self, is_there: impl Fn(&Key) -> bool) {
        self.pending().retain(|resource, _| is_there(resource));
    }

    /// A panic of another task cannot leave the map half changed, so a poisoned lock is still usable.
    fn pending(&self) -> MutexGuard<'_, HashMap<Key, Pending>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(pending: &mut HashMap<Key, Pending>, resource: &Key) {
    pending.remove(resource);
    if pending.len() < pending.capacity() / 8 {
        pending.shrink_to((pending.len() * 2).max(ROOM));
    }
}

impl Pending {
    fn took(&self, now: Instant, wall_clock: Timestamp) -> Duration {
        let since_shown = now.duration_since(self.shown);
        let since_written = self.written.map(|written| wall_clock.duration_since(written) - RESOLUTION);
        // A negative duration means that the two clocks differ.
        since_written
            .and_then(|since| Duration::try_from(since).ok())
            .map_or(since_shown, |since| since.max(since_shown))
    }
}

/// Returns when the API server stored the present generation; `None` if the managed fields do not say.
fn written(metadata: &ObjectMeta) -> Option<Timestamp> {
    if metadata.generation == Some(1) {
        return metadata.creation_timestamp.as_ref().map(|created| created.0);
    }
    let of_spec = entries(metadata).filter(|entry| has_spec(entry));
    of_spec.filter_map(|entry| entry.time.as_ref()).map(|time| time.0).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::NotReady;
    use serde_json::json;

    fn resource(generation: i64) -> ApiAccount {
        serde_json::from_value(json!({
            "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "spec": {},
            "metadata": {
                "name": "acme", "namespace": "ns", "generation": generation,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "managedFields": [
                    { "manager": "kubectl", "time": "2026-01-01T00:01:00Z", "fieldsV1": { "f:spec": {} } },
                    { "manager": "argocd", "time": "2026-01-01T00:02:00Z", "fieldsV1": { "f:spec": { "f:roles": {} } } },
                    { "manager": "opsadmin", "time": "2026-01-01T09:00:00Z", "fieldsV1": { "f:metadata": {} } },
                    { "manager": "other", "time": "2026-01-01T09:00:00Z", "subresource": "status",
                      "fieldsV1": { "f:spec": {} } },
                ],
            },
        }))
        .unwrap()
    }

    fn status(generation: i64, ready: &str) -> ApiAccountStatus {
        serde_json::from_value(json!({
            "observedGeneration": generation,
            "conditions": [{ "type": "Ready", "status": ready, "reason": "Reconciled", "message": "",
                             "lastTransitionTime": "2026-01-01T00:00:00Z" }],
        }))
        .unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_time_of_a_generation_is_its_creation_or_the_last_write_of_the_spec() {
        assert_eq!(written(&resource(1).metadata), Some(at("2026-01-01T00:00:00Z")));
        assert_eq!(written(&resource(2).metadata), Some(at("2026-01-01T00:02:00Z")));
        assert_eq!(written(&ObjectMeta { generation: Some(2), ..ObjectMeta::default() }), None);
    }

    #[test]
    fn the_longer_clock_counts_and_a_clock_that_is_behind_does_not() {
        let (start, seconds) = (Instant::now(), Duration::from_secs);
        let took = |shown_for, wall_clock: &str| {
            let pickups = Pickups::default();
            pickups.shown(&resource(1), None, start);
            pickups.reported(&resource(1), &Outcome::default(), start + seconds(shown_for), at(wall_clock)).unwrap()
        };
        assert_eq!(took(2, "2026-01-01T00:00:02.5Z"), seconds(2));
        assert_eq!(took(2, "2026-01-01T00:01:01Z"), seconds(60), "the watch was late");
        assert_eq!(took(2, "2025-12-31T23:00:00Z"), seconds(2), "the other clock is ahead");
    }

    #[test]
    fn the_room_for_a_fleet_that_was_new_at_once_is_given_back() {
        let (pickups, now) = (Pickups::default(), Instant::now());
        let named = |number: usize| {
            let mut resource = resource(1);
            resource.metadata.name = Some(number.to_string());
            resource
        };
        (0..20 * ROOM).for_each(|number| pickups.shown(&named(number), None, now));
        assert!(pickups.pending().capacity() >= 20 * ROOM);
        (0..20 * ROOM).for_each(|number| pickups.forget(&Key::of_resource(&named(number))));
        assert!(pickups.pending().capacity() < 3 * ROOM, "{}", pickups.pending().capacity());
    }

    #[test]
    fn each_generation_is_measured_once_and_leaves_nothing_behind() {
        let (pickups, now, wall_clock) = (Pickups::default(), Instant::now(), at("2026-01-01T00:00:00Z"));
        let reported =
            |generation, outcome: &Outcome| pickups.reported(&resource(generation), outcome, now, wall_clock).is_some();
        let outage = Outcome::blocked(NotReady::Panicked);
        pickups.shown(&resource(1), None, now);
        assert!(!reported(1, &outage));
        pickups.shown(&resource(1), Some(&status(1, "Unknown")), now);
        assert!(reported(1, &Outcome::default()), "an outage in between counts");
        assert!(!reported(1, &Outcome::default()));
        pickups.shown(&resource(1), Some(&status(1, "True")), now);
        pickups.shown(&resource(1), Some(&status(1, "Unknown")), now);
        assert!(!reported(1, &Outcome::default()), "it was Ready before");
        pickups.shown(&resource(2), Some(&status(1, "True")), now);
        pickups.shown(&resource(3), Some(&status(1, "True")), now);
        assert!(!reported(2, &Outcome::default()), "a newer one is written");
        assert!(!reported(3, &Outcome::blocked(NotReady::Paused)) && !reported(3, &Outcome::default()));
        pickups.shown(&resource(4), Some(&status(3, "True")), now);
        pickups.shown(&resource(4), Some(&status(4, "True")), now);
        assert!(pickups.pending().is_empty(), "another controller did it");
        pickups.shown(&resource(5), None, now);
        pickups.retain(|_| false);
        assert!(pickups.pending().is_empty());
    }
}
