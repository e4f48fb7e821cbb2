//! Measures the memory of the commands that platform teams run on every change, with few and with many accounts.
//!
//! Each case bounds the heap: how many bytes one more account may add to the peak of the allocated bytes. This figure
//! does not depend on the machine. The peak of the whole process is printed beside it and has no bound, because it
//! includes SQLite's own memory and the allocator's reserve, which grows with the number of processors.
//!
//! `cargo bench --bench memory` prints the figures, and fails when a case is above its bound. It needs Linux, whose
//! kernel records the peak memory of a process.
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
const MANY: u64 = 5_000;

/// The environment variable that makes this program run the given command line and print its peaks.
const MEASURED: &str = "OPSADMIN_BENCH_MEASURED";

/// A command to measure.
struct Case {
    name: &'static str,
    /// The command's arguments. It runs in a folder with manifests in `accounts` and `changed`.
    arguments: &'static [&'static str],
    /// The maximum number of bytes that one more account may add to the peak of the heap.
    bound: u64,
}

/// The cases run in this order, because later cases need the database and the Secrets of earlier cases.
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
    let (few, many) = (measure_all(FEW)?, measure_all(MANY)?);
    println!(
        "{:34} {:>25} {:>9} {:>6} {:>26} {:>7}",
        "", "heap, 1,000 .. 5,000", "B/account", "bound", "process (KiB)", "s"
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

/// Runs a command line as the program does, and prints the peak of the heap in bytes and of the process in KiB.
#[tokio::main]
async fn measured() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = [OsString::from("opsadmin")].into_iter().chain(env::args_os().skip(1));
    let code = Box::pin(run(parse(arguments))).await;
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|error| format!("/proc/self/status cannot be read, and has the peak: {error}"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    eprintln!("{} {}", HEAP.peak_usage(), peak.ok_or("/proc/self/status has no peak (VmHWM)")?);
    Ok(code)
}

/// The memory and the time of one command.
struct Measurement {
    /// The peak of the heap, in bytes.
    heap: u64,
    /// The peak memory of the process, in KiB.
    process: u64,
    seconds: f64,
}

/// Runs every case with this number of accounts.
fn measure_all(accounts: u64) -> Result<Vec<Measurement>, Box<dyn Error>> {
    let desk = tempfile::tempdir()?;
    write(&desk.path().join("accounts"), accounts, "")?;
    write(&desk.path().join("changed"), accounts, ", by contract")?;
    CASES.iter().map(|case| measure(case, desk.path())).collect()
}

fn measure(case: &Case, desk: &Path) -> Result<Measurement, Box<dyn Error>> {
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
    Ok(Measurement { heap: heap.parse()?, process: process.parse()?, seconds })
}

/// Writes manifests of this number of accounts, each in its own file.
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
