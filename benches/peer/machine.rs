//! What the benchmark itself and other programs of the machine used of its processors. Whatever else runs makes times
//! longer, and not those of both operators alike.

use std::fs;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use super::processes::processor_time;

/// The clock ticks in a second. The kernel reports to programs in this unit on every Linux machine.
const TICKS: u64 = 100;

/// The processor time so far.
pub struct Machine {
    at: Instant,
    /// The time of this process.
    own: Duration,
    /// The time of the programs that it has started.
    started: Duration,
    /// The time of all programs and of the kernel.
    all: Duration,
}

/// The processor time between two looks.
#[derive(Clone, Copy)]
pub struct Use {
    /// The time of the benchmark itself.
    pub own: Duration,
    /// The share of all processors that programs used which the benchmark did not start.
    pub others: f64,
}

impl Machine {
    /// Looks at what has been used so far.
    pub fn look() -> Self {
        let own = fields("/proc/self/stat", ") ");
        let all = fields("/proc/stat", "cpu ");
        // The names are: user, nice, system, idle, iowait, irq, softirq, steal.
        let all = [0, 1, 2, 5, 6, 7].map(|field| all[field]).iter().sum();
        Self {
            at: Instant::now(),
            own: duration(own[11] + own[12]),
            started: processor_time().values().sum(),
            all: duration(all),
        }
    }

    /// Returns what was used since then.
    pub fn used(&self) -> Use {
        let now = Self::look();
        let own = now.own.saturating_sub(self.own);
        let others = now.all.saturating_sub(self.all).saturating_sub(own + now.started.saturating_sub(self.started));
        let processors = u32::try_from(available_parallelism().expect("it is known").get()).expect("it is small");
        Use { own, others: others.as_secs_f64() / ((now.at - self.at) * processors).as_secs_f64() }
    }
}

/// The numbers of a file's first line, after this text. What is no number is 0.
fn fields(file: &str, after: &str) -> Vec<u64> {
    let text = fs::read_to_string(file).expect("Linux has /proc");
    let (_, text) = text.lines().next().and_then(|line| line.split_once(after)).expect("it has its form");
    text.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect()
}

fn duration(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS)
}
