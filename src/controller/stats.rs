//! The numbers that metrics and probes ask the controller for, computed from the caches and from what the controller
//! remembers.

use super::context::Context;
use crate::api::{ApiAccountStatus, Reason};
use crate::reconcile::{OverlapHalf, used_in_overlap};
use crate::telemetry::{ControllerStats, Fleet};
use std::sync::atomic::Ordering;

impl ControllerStats for Context {
    fn fleet(&self) -> Option<Fleet> {
        if !self.is_leader() {
            return None;
        }
        let mut fleet = Fleet::default();
        for resource in self.resources()?.all() {
            self.memory.with_status(&resource, |status| add(&mut fleet, status));
        }
        Some(fleet)
    }

    fn held_deletions(&self) -> Option<usize> {
        self.is_leader().then(|| self.brake.held())
    }

    fn is_leader(&self) -> bool {
        self.leadership.is_leader()
    }

    fn is_frozen(&self) -> bool {
        self.freeze.is_on()
    }

    fn missing_for_readiness(&self) -> Vec<&'static str> {
        [
            (self.stores.secrets_are_listed(self.scopes), "the first list of the Secrets"),
            (self.resources().is_some(), "the first list of the ApiAccounts"),
            (self.reached.load(Ordering::Relaxed), "the account database"),
            (self.leadership.is_known(), "the Lease of the leader election"),
        ]
        .into_iter()
        .filter_map(|(is_there, what)| (!is_there).then_some(what))
        .collect()
    }
}

/// Adds a resource with this status.
fn add(fleet: &mut Fleet, status: Option<&ApiAccountStatus>) {
    let ready = status.and_then(ApiAccountStatus::ready);
    *fleet.accounts.entry(ready.and_then(|ready| Reason::parse(&ready.reason))).or_default() += 1;
    let Some(status) = status else { return };
    let created = status.active_key().map(|key| key.created.0);
    fleet.oldest_active_key = fleet.oldest_active_key.into_iter().chain(created).min();
    let old_keys = status.keys.iter().filter_map(|key| Some((used_in_overlap(&status.keys, key)?, key)));
    let used: Vec<_> = old_keys.collect();
    if let Some(half) = used.iter().map(|(half, _)| *half).max() {
        *fleet.old_keys_in_use.entry(half).or_default() += 1;
    }
    let late = used.iter().filter(|(half, _)| *half == OverlapHalf::Second);
    let expiries = late.filter_map(|(_, key)| Some(key.expires.as_ref()?.0));
    fleet.next_used_key_expiry = fleet.next_used_key_expiry.into_iter().chain(expiries).min();
    // The rotation of a resource that is paused or suspended, for example, is late for a known reason.
    if status.has_reason(Reason::Reconciled) {
        let next = status.next_rotation.as_ref().map(|next| next.0);
        fleet.next_rotation = fleet.next_rotation.into_iter().chain(next).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;
    use std::collections::HashMap;

    fn status(reason: &str, created: &str, next: &str) -> ApiAccountStatus {
        let key =
            |state: &str, created: &str| json!({ "id": state, "apiKey": "k", "state": state, "created": created });
        serde_json::from_value(json!({
            "conditions": [{ "type": "Ready", "status": "True", "reason": reason, "message": "",
                             "lastTransitionTime": "2026-01-01T00:00:00Z" }],
            "nextRotation": next,
            "keys": [key("Active", created), key("Retiring", "2020-01-01T00:00:00Z")],
        }))
        .unwrap()
    }

    #[test]
    fn the_oldest_active_key_and_the_next_rotation_of_ready_resources_are_found() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let mut fleet = Fleet::default();
        add(&mut fleet, None);
        assert_eq!((fleet.oldest_active_key, fleet.next_rotation), (None, None));
        add(&mut fleet, Some(&status("Reconciled", "2026-03-01T00:00:00Z", "2026-08-01T00:00:00Z")));
        add(&mut fleet, Some(&status("Reconciled", "2026-02-01T00:00:00Z", "2026-09-01T00:00:00Z")));
        add(&mut fleet, Some(&status("Suspended", "2026-01-01T00:00:00Z", "2026-07-01T00:00:00Z")));
        assert_eq!(fleet.oldest_active_key, at("2026-01-01T00:00:00Z"));
        assert_eq!(fleet.next_rotation, at("2026-08-01T00:00:00Z"));
        assert_eq!((fleet.old_keys_in_use.len(), fleet.next_used_key_expiry), (0, None));
        let counts = HashMap::from([(None, 1), (Some(Reason::Reconciled), 2), (Some(Reason::Suspended), 1)]);
        assert_eq!(fleet.accounts, counts);
    }

    #[test]
    fn each_resource_with_an_old_pair_in_use_counts_once() {
        let mut fleet = Fleet::default();
        // The overlap is from 2026-03-01 to this day of March.
        let mut count = |expires: &str, last_used: &str| {
            let mut status = status("Reconciled", "2026-03-01T00:00:00Z", "2026-08-01T00:00:00Z");
            let at = |day: &str| Some(Time(format!("2026-{day}T00:00:00Z").parse().unwrap()));
            (status.keys[1].expires, status.keys[1].last_used) = (at(expires), at(last_used));
            add(&mut fleet, Some(&status));
        };
        count("03-11", "02-28");
        count("03-11", "03-02");
        count("03-09", "03-08");
        count("03-05", "03-04");
        let halves = HashMap::from([(OverlapHalf::First, 1), (OverlapHalf::Second, 2)]);
        assert_eq!(fleet.old_keys_in_use, halves);
        assert_eq!(fleet.next_used_key_expiry, Some("2026-03-05T00:00:00Z".parse::<Timestamp>().unwrap()));
    }
}
