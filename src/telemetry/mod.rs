//! What the running program tells about itself: logs, metrics and probes.
//!
//! [`Telemetry`] is a value that is handed to whoever has something to tell; nothing is registered behind anybody's back.
//! Whoever asks is answered from memory: neither a scrape nor a probe costs a call to the API server or the database.

mod listen;
pub mod logs;
mod measured;
mod metrics;
mod probes;
mod server;
mod subject;

pub use listen::Listen;
pub use measured::Measured;
pub use metrics::{LostEvent, Metrics, Swept};
pub use probes::{Liveness, Probes};
pub use server::serve;
pub use subject::ControllerStats;

use std::sync::{Arc, Weak};
use subject::Subject;

/// What is told of one controller.
#[derive(Debug)]
pub struct Telemetry {
    /// Counts and measures.
    pub metrics: Arc<Metrics>,
    /// Whether it lives, and whether it is ready.
    pub probes: Probes,
    subject: Subject,
}

impl Telemetry {
    /// Nothing told yet. The [`Pulse`] goes to the task that has to live.
    pub fn new() -> (Arc<Self>, Liveness) {
        let subject = Subject::default();
        let (probes, pulse) = Probes::new(subject.clone());
        (Arc::new(Self { metrics: Arc::new(Metrics::new(subject.clone())), probes, subject }), pulse)
    }

    /// From now on this is asked, for as long as it is there.
    pub fn set_controller(&self, vitals: Weak<dyn ControllerStats>) {
        self.subject.set(vitals);
    }
}
