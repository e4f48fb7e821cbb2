//! What one resource adds to the numbers of the whole fleet. It is kept beside the packed resource, so that a scrape of
//! metrics unpacks nothing.

use crate::api::{ApiAccountStatus, Reason};
use crate::reconcile::{OverlapHalf, used_in_overlap};
use crate::telemetry::Fleet;
use jiff::Timestamp;

/// The share of one resource in [`Fleet`].
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::controller) struct Share {
    reason: Option<Reason>,
    active_key_created: Option<Timestamp>,
    old_key_in_use: Option<OverlapHalf>,
    used_key_expiry: Option<Timestamp>,
    next_rotation: Option<Timestamp>,
}

impl Share {
    /// Returns the share of a resource with this status.
    pub fn of(status: Option<&ApiAccountStatus>) -> Self {
        let Some(status) = status else { return Self::default() };
        let old_keys = status.keys.iter().filter_map(|key| Some((used_in_overlap(&status.keys, key)?, key)));
        let used: Vec<_> = old_keys.collect();
        let late = used.iter().filter(|(half, _)| *half == OverlapHalf::Second);
        // The rotation of a resource that is paused or suspended, for example, is late for a known reason.
        let next_rotation = status.next_rotation.as_ref().filter(|_| status.has_reason(Reason::Reconciled));
        Self {
            reason: status.ready().and_then(|ready| Reason::parse(&ready.reason)),
            active_key_created: status.active_key().map(|key| key.created.0),
            old_key_in_use: used.iter().map(|(half, _)| *half).max(),
            used_key_expiry: late.filter_map(|(_, key)| Some(key.expires.as_ref()?.0)).min(),
            next_rotation: next_rotation.map(|next| next.0),
        }
    }

    /// Adds the share to the fleet.
    pub fn add_to(&self, fleet: &mut Fleet) {
        *fleet.accounts.entry(self.reason).or_default() += 1;
        if let Some(half) = self.old_key_in_use {
            *fleet.old_keys_in_use.entry(half).or_default() += 1;
        }
        for (first, own) in [
            (&mut fleet.oldest_active_key, self.active_key_created),
            (&mut fleet.next_used_key_expiry, self.used_key_expiry),
            (&mut fleet.next_rotation, self.next_rotation),
        ] {
            *first = first.iter().copied().chain(own).min();
        }
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
        Share::of(None).add_to(&mut fleet);
        assert_eq!((fleet.oldest_active_key, fleet.next_rotation), (None, None));
        Share::of(Some(&status("Reconciled", "2026-03-01T00:00:00Z", "2026-08-01T00:00:00Z"))).add_to(&mut fleet);
        Share::of(Some(&status("Reconciled", "2026-02-01T00:00:00Z", "2026-09-01T00:00:00Z"))).add_to(&mut fleet);
        Share::of(Some(&status("Suspended", "2026-01-01T00:00:00Z", "2026-07-01T00:00:00Z"))).add_to(&mut fleet);
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
            Share::of(Some(&status)).add_to(&mut fleet);
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
