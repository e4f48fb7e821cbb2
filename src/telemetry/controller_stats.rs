//! The controller's stats for metrics and probes. They are read from the controller at each request instead of updated
//! at each change, so that no count can drift.

use crate::api::Reason;
use crate::reconcile::OverlapHalf;
use jiff::Timestamp;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

/// What the metrics say about all resources together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fleet {
    /// The number of resources for each reason of their Ready condition, with the key `None` for resources without a
    /// Ready condition.
    pub accounts: HashMap<Option<Reason>, usize>,
    /// When the oldest active key pair was created; `None` without key pairs.
    pub oldest_active_key: Option<Timestamp>,
    /// The number of resources with an old key pair that was last used in this half of its overlap, with
    /// [`OverlapHalf::Second`] if it has both.
    pub old_keys_in_use: HashMap<OverlapHalf, usize>,
    /// When the first of the old key pairs expires that were last used in the second half of their overlap; `None`
    /// without such pairs.
    pub next_used_key_expiry: Option<Timestamp>,
    /// The time of the next scheduled rotation among the resources that are Ready; `None` if no rotation is scheduled.
    pub next_rotation: Option<Timestamp>,
}

/// The stats of a controller. The methods answer from memory.
pub trait ControllerStats: Send + Sync {
    /// Returns the sums over all resources; `None` until the controller knows all of them, and while it does not lead.
    fn fleet(&self) -> Option<Fleet>;

    /// Returns the number of accounts that the brake holds; `None` while the controller does not lead.
    fn held_deletions(&self) -> Option<usize>;

    /// Returns whether the controller leads. Without a leader election it always does.
    fn is_leader(&self) -> bool;

    /// Returns whether the controller is frozen: it observes and reports, and changes nothing.
    fn is_frozen(&self) -> bool;

    /// Returns what the controller still waits for before it is ready, as texts for the readiness probe.
    fn missing_for_readiness(&self) -> Vec<&'static str>;
}

/// The controller that the telemetry reads, once it is set. The reference is weak: it does not keep the controller
/// alive.
#[derive(Clone, Default)]
pub(super) struct ControllerHandle(Arc<OnceLock<Weak<dyn ControllerStats>>>);

impl ControllerHandle {
    /// Sets the controller. Only the first call has an effect, since a process has one controller.
    pub fn set(&self, controller: Weak<dyn ControllerStats>) {
        if self.0.set(controller).is_err() {
            tracing::debug!("telemetry is about another controller already");
        }
    }

    /// Returns the controller; `None` before it is set and after it is dropped.
    pub fn get(&self) -> Option<Arc<dyn ControllerStats>> {
        self.0.get()?.upgrade()
    }
}

impl fmt::Debug for ControllerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControllerHandle").field("is_there", &self.get().is_some()).finish()
    }
}
