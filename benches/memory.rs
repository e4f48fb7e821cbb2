//! How much memory the commands that platform teams run on every change take, for few and for many accounts.
//!
//! What is bounded is the heap: the bytes that one more account may add to the most that were ever asked for at once, which
//! is counted and so does not depend on the machine. What the whole process took at its peak (SQLite's own memory, and what
//! the allocator keeps for itself, more on a machine with more processors) is printed beside it. `cargo bench --bench memory`
//! prints the figures, and fails above a bound. It runs on Linux only, whose kernel keeps the peaks of processes.
#![forbid(unsafe_code)]

use opsadmin_operator::cli::{parse, run};
use peak_alloc::PeakAlloc;
use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const FEW: u64 = 1_000;
const MANY: u64 = 10_000;

/// Set for a process that is to be measured: it runs the command line that it was given.
const MEASURED: &str = "OPSADMIN_BENCH_MEASURED";

/// One thing to measure.
struct Case {
    name: &'static str,
    /// The command line, within a folder with manifests in `accounts`.
    arguments: &'static [&'static str],
    /// The most bytes that one more account may add to the peak of the heap.
    bound: u64,
}

/// In an order in which each finds what those before it have made.
const CASES: [Case; 8] = [
    Case { name: "validate", arguments: &["validate", "-f", "accounts"], bound: 700 },
    Case { name: "plan, all new", arguments: &["plan", "-f", "accounts"], bound: 4_000 },
    Case { name: "plan -o json, all new", arguments: &["plan", "-f", "accounts", "-o", "json"], bound: 4_000 },
    Case { name: "apply, all new", arguments: &["apply", "-f", "accounts", "--secrets", "secrets"], bound: 2_500 },
    Case { name: "plan, unchanged", arguments: &["plan", "-f", "accounts"], bound: 2_000 },
    Case {
        name: "plan --secrets --prune, unchanged",
        arguments: &["plan", "-f", "accounts", "--secrets", "secrets", "--prune"],
        bound: 2_000,
    },
    Case { name: "apply, unchanged", arguments: &["apply", "-f", "accounts", "--secrets", "secrets"], bound: 2_500 },
    Case { name: "plan, all changed", arguments: &["plan", "-f", "changed"], bound: 2_000 },
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if env::var_os(MEASURED).is_some() {
        return measured();
    }
    let (few, many) = (all_taken(FEW)?, all_taken(MANY)?);
    println!(
        "{:34} {:>25} {:>9} {:>6} {:>26} {:>7}",
        "", "heap, 1,000 .. 10,000", "B/account", "bound", "process (KiB)", "s"
    );
    let mut is_within = true;
    for ((Case { name, bound, .. }, few), many) in CASES.iter().zip(few).zip(many) {
        let growth = many.heap.saturating_sub(few.heap) / (MANY - FEW);
        println!(
            "{name:34} {:>12} {:>12} {growth:>9} {bound:>6} {:>13} {:>12} {:>7.2}",
            few.heap, many.heap, few.process, many.process, many.seconds
        );
        is_within &= growth <= *bound;
    }
    if !is_within {
        eprintln!("One more account takes more memory than its bound.");
    }
    Ok(if is_within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a command line as the program does, and prints the peaks: the heap's in bytes, the process's in KiB.
#[tokio::main]
async fn measured() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = [OsString::from("opsadmin")].into_iter().chain(env::args_os().skip(1));
    let code = run(parse(arguments)).await;
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|error| format!("/proc/self/status cannot be read, and has the peak: {error}"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    eprintln!("{} {}", HEAP.peak_usage(), peak.ok_or("/proc/self/status has no peak (VmHWM)")?);
    Ok(code)
}

/// What one command took.
struct Taken {
    /// The most bytes of the heap that were in use at once.
    heap: u64,
    /// The most that the process had in memory, in KiB.
    process: u64,
    seconds: f64,
}

/// What each case takes with this many accounts.
fn all_taken(accounts: u64) -> Result<Vec<Taken>, Box<dyn Error>> {
    let desk = tempfile::tempdir()?;
    write(&desk.path().join("accounts"), accounts, "")?;
    write(&desk.path().join("changed"), accounts, ", by contract")?;
    CASES.iter().map(|case| taken(case, desk.path())).collect()
}

fn taken(case: &Case, desk: &Path) -> Result<Taken, Box<dyn Error>> {
    let begun = Instant::now();
    let output = Command::new(env::current_exe()?)
        .args(case.arguments)
        .current_dir(desk)
        .env_clear()
        .env(MEASURED, "1")
        .stdout(Stdio::null())
        .stdin(Stdio::null())
        .output()?;
    let seconds = begun.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{}: {}\n{said}", case.name, output.status).into());
    }
    let peaks = said.lines().last().and_then(|line| line.split_once(' '));
    let (heap, process) = peaks.ok_or_else(|| format!("{}: no peaks in {said:?}", case.name))?;
    Ok(Taken { heap: heap.parse()?, process: process.parse()?, seconds })
}

/// Writes this many manifests, one file each, as a platform team would.
fn write(folder: &Path, accounts: u64, remark: &str) -> Result<(), Box<dyn Error>> {
    fs::create_dir(folder)?;
    for number in 0..accounts {
        let network = number % 256;
        fs::write(
            folder.join(format!("partner-{number}.yaml")),
            format!(
                "apiVersion: ops-admin.com/v1
kind: ApiAccount
metadata:
  name: partner-{number}
  namespace: partners
spec:
  description: Partner {number}, who reads plans and enrolls customers{remark}
  roles: [Customer, PlansAndRates]
  allowedIPs: [203.0.113.7, 198.51.{network}.0/24]
  rotation: {{interval: 720h, overlap: 24h}}
"
            ),
        )?;
    }
    Ok(())
}
