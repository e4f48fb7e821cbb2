//! Logs, metrics and probes.
//!
//! The metrics are not global: the program passes a [`Telemetry`] to the code that counts. Scrapes and probes are
//! answered from memory, without a call to the API server or the database.

mod calls;
mod controller_stats;
mod log_filter;
pub mod logs;
mod measured;
mod metrics;
mod probes;
mod server;
pub mod traces;

pub use calls::{KubernetesResult, Verb};
pub use controller_stats::{ControllerStats, Fleet};
pub use measured::MeasuredDatabase;
pub use metrics::{LostEvent, Metrics, SweepResult};
pub use probes::{Liveness, Probes};
pub use server::serve;

use controller_stats::ControllerHandle;
use std::sync::{Arc, Weak};

/// The metrics and probes of one controller.
#[derive(Debug)]
pub struct Telemetry {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The liveness and readiness probes.
    pub probes: Probes,
    controller_handle: ControllerHandle,
}

impl Telemetry {
    /// Creates the telemetry. The [`Liveness`] must run in the controller's task, so that the liveness probe succeeds.
    pub fn new() -> (Arc<Self>, Liveness) {
        let controller_handle = ControllerHandle::default();
        let (probes, liveness) = Probes::new(controller_handle.clone());
        (
            Arc::new(Self { metrics: Arc::new(Metrics::new(controller_handle.clone())), probes, controller_handle }),
            liveness,
        )
    }

    /// Sets the controller whose stats metrics and probes report until it is dropped.
    pub fn set_controller(&self, controller: Weak<dyn ControllerStats>) {
        self.controller_handle.set(controller);
    }
}
