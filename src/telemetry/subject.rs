//! Whom telemetry is about: asked when somebody asks, instead of being told whenever something changes, so that no count
//! can go wrong.

use crate::api::Reason;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

/// What a controller can say of itself at any time, from memory.
pub trait ControllerStats: Send + Sync {
    /// How many resources there are for each reason of their Ready condition, and how many have none yet; `None` until all
    /// of them are known.
    fn accounts(&self) -> Option<HashMap<Option<Reason>, usize>>;

    /// How many accounts the brake holds.
    fn held_deletions(&self) -> usize;

    /// What has yet to happen for the first time before it is ready, in words.
    fn missing_for_readiness(&self) -> Vec<&'static str>;
}

/// Whom telemetry is about, once there is somebody.
#[derive(Clone, Default)]
pub(super) struct Subject(Arc<OnceLock<Weak<dyn ControllerStats>>>);

impl Subject {
    /// The first one counts: there is one controller for one telemetry.
    pub fn set(&self, vitals: Weak<dyn ControllerStats>) {
        if self.0.set(vitals).is_err() {
            tracing::debug!("telemetry is about another controller already");
        }
    }

    /// Who it is, while it is there.
    pub fn get(&self) -> Option<Arc<dyn ControllerStats>> {
        self.0.get()?.upgrade()
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("is_there", &self.get().is_some()).finish()
    }
}
