//! One phase of a fleet: what the controller and the servers did from its start until nothing was left to do.

use std::time::{Duration, Instant};

use super::processes::{Memory, memory, processor_time};
use super::support::http::get;
use super::support::opsadmin::RunningController;
use super::support::wait::eventually;
use super::times::{Times, difference};
use super::world::{World, Writes};

/// The process of the controller.
pub const CONTROLLER: &str = "opsadmin";

/// How long the controller may take for one account. Only a broken controller takes longer.
const FOR_ONE: Duration = Duration::from_millis(200);
const STARTED_WITHIN: Duration = Duration::from_mins(1);
const ENDED_WITHIN: Duration = Duration::from_mins(1);

/// What one phase took.
pub struct Phase {
    /// From the start of the program until nothing was left to do.
    pub time: Duration,
    /// What the controller wrote, events too.
    pub writes: Writes,
    /// How many objects the controller read one by one.
    pub single_reads: usize,
    /// How many statements the database ran.
    pub statements: i64,
    /// The processor time of each program.
    pub processor_time: Times,
    /// The controller's memory.
    pub memory: Memory,
}

impl Phase {
    /// Runs a controller until its metrics say that it is done, and counts until they say that it also has told
    /// everything, and it has ended.
    pub async fn run(
        world: &World,
        namespace: &str,
        accounts: usize,
        is_done: impl Fn(&str) -> bool,
        has_told: impl Fn(&str) -> bool,
    ) -> Self {
        let (writes, single_reads) = (world.writes(namespace), world.single_reads(namespace));
        let (statements, times) = (world.statements().await, processor_time());
        let begun = Instant::now();
        let controller = start(world, namespace, &[], accounts, is_done).await;
        let time = begun.elapsed();
        // Events give way to accounts, so many of them are sent afterwards.
        shows(&controller, accounts, has_told).await;
        // The system knows neither of a process that has ended.
        let (processor_time, memory) = (difference(&processor_time(), &times), memory(CONTROLLER));
        end(controller).await;
        let since = |(kind, count): (String, usize)| {
            let count = count - writes.get(&kind).copied().unwrap_or_default();
            (count > 0).then_some((kind, count))
        };
        Self {
            time,
            writes: world.writes(namespace).into_iter().filter_map(since).collect(),
            single_reads: world.single_reads(namespace) - single_reads,
            statements: world.statements().await - statements,
            processor_time,
            memory,
        }
    }

    /// The number of writes of all kinds.
    pub fn write_count(&self) -> usize {
        self.writes.values().sum()
    }

    /// The processor time of the controller.
    pub fn own_time(&self) -> Duration {
        self.processor_time.get(CONTROLLER).copied().unwrap_or_default()
    }
}

/// Starts a controller with further arguments, and waits until its metrics say that it is done.
pub async fn start(
    world: &World,
    namespace: &str,
    arguments: &[&str],
    accounts: usize,
    is_done: impl Fn(&str) -> bool,
) -> RunningController {
    let controller = world.controller(namespace, arguments);
    shows(&controller, accounts, is_done).await;
    controller
}

/// Waits until the metrics of a controller show this.
pub async fn shows(controller: &RunningController, accounts: usize, is_shown: impl Fn(&str) -> bool) {
    let address = controller.address().await;
    let within = STARTED_WITHIN + FOR_ONE * u32::try_from(accounts).expect("a fleet is not that large");
    eventually("the metrics to show it", within, async || {
        let metrics = get(&address, "/metrics").await?.body;
        if is_shown(&metrics) { Ok(()) } else { Err(metrics) }
    })
    .await;
}

/// Ends a controller as Kubernetes does.
pub async fn end(controller: RunningController) {
    let (code, log) = controller.terminate(ENDED_WITHIN).await;
    assert_eq!(code, 0, "{log}");
}
