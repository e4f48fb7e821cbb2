//! The numbers that metrics and probes ask the controller for, computed from the caches and from what the controller
//! remembers.

use super::context::Context;
use crate::api::{ApiAccountStatus, Reason};
use crate::telemetry::ControllerStats;
use std::collections::HashMap;
use std::sync::atomic::Ordering;

impl ControllerStats for Context {
    fn accounts(&self) -> Option<HashMap<Option<Reason>, usize>> {
        if !self.is_leader() {
            return None;
        }
        let mut counts = HashMap::new();
        for resource in self.resources()?.all() {
            let status = self.memory.status(&resource);
            let ready = status.as_ref().and_then(ApiAccountStatus::ready);
            let reason = ready.and_then(|ready| Reason::parse(&ready.reason));
            *counts.entry(reason).or_default() += 1;
        }
        Some(counts)
    }

    fn held_deletions(&self) -> Option<usize> {
        self.is_leader().then(|| self.brake.held())
    }

    fn is_leader(&self) -> bool {
        self.leadership.is_leader()
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
