//! The processor time and the memory of running programs, as the kernel counts them.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The clock ticks in a second. The kernel reports to programs in this unit on every Linux machine.
const TICKS: u64 = 100;

/// The processor time of each running program that this process or its children have started, by name.
pub fn processor_time() -> BTreeMap<String, Duration> {
    let mut by_name: BTreeMap<String, Duration> = BTreeMap::new();
    for process in descendants() {
        *by_name.entry(process.name).or_default() += process.time;
    }
    by_name
}

/// The memory of a running program, in KiB.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    /// What it has now.
    pub resident: u64,
    /// The most that it has had.
    pub peak: u64,
}

/// Returns the memory of the running program with this name that this process has started.
pub fn memory(name: &str) -> Memory {
    let process = descendants().into_iter().find(|process| process.name == name);
    let process = process.unwrap_or_else(|| panic!("no {name} runs"));
    let status = fs::read_to_string(format!("/proc/{}/status", process.id)).expect("the program runs");
    let field = |field: &str| {
        let text = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
        text.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {field} in {status}"))
    };
    Memory { resident: field("VmRSS:"), peak: field("VmHWM:") }
}

struct Process {
    id: u32,
    parent: u32,
    name: String,
    /// The time of the process, and of its ended children.
    time: Duration,
}

fn descendants() -> Vec<Process> {
    let mut found = Vec::new();
    let mut parents = vec![std::process::id()];
    let mut others: Vec<Process> = fs::read_dir("/proc")
        .expect("Linux has /proc")
        .flatten()
        .filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?))
        .collect();
    while let Some(parent) = parents.pop() {
        let (children, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(|process| process.parent == parent);
        parents.extend(children.iter().map(|child| child.id));
        found.extend(children);
        others = rest;
    }
    found
}

/// Returns `None` if the process has ended meanwhile.
fn read(id: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name is in parentheses, and may hold any character.
    let (head, tail) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    let fields: Vec<&str> = tail.split(' ').collect();
    let parent = fields.get(1)?.parse().ok()?;
    let ticks = fields.get(11..15)?.iter().map(|ticks| ticks.parse::<u64>()).sum::<Result<u64, _>>().ok()?;
    Some(Process { id, parent, name: name.to_owned(), time: Duration::from_millis(ticks * 1000 / TICKS) })
}
