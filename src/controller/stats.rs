//! The numbers that metrics and probes ask the controller for, computed from the caches and from what the controller
//! remembers.

use super::context::Context;
use super::held::Share;
use crate::telemetry::{ControllerStats, Fleet};
use std::sync::atomic::Ordering;

impl ControllerStats for Context {
    fn fleet(&self) -> Option<Fleet> {
        if !self.is_leader() {
            return None;
        }
        let mut fleet = Fleet::default();
        let written = self.memory.written_and_not_shown(|status| Share::of(Some(status)));
        self.resources()?.each_share(|key, share| written.get(key).unwrap_or(share).add_to(&mut fleet));
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
