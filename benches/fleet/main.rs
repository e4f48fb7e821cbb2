//! Measures the controller with many accounts on a real control plane and a real PostgreSQL, against a bare loop that
//! sends the same writes and decides nothing: speed, writes, statements, processor time, memory, a restart and edits.
//!
//! `cargo bench --bench fleet -- 1000 5000` measures fleets of these sizes, each on a cluster and a database of its own.
//! For each it prints a table in Markdown and one line of JSON. It fails if more is written or asked than docs/performance.md
//! says: those counts do not depend on the machine or its load. It needs Linux, and the programs that the tests need.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

#[path = "../common/accounts.rs"]
mod accounts;
mod bare;
mod edits;
mod fleet;
mod phase;
#[path = "../common/processes.rs"]
mod processes;
mod report;
#[allow(unused_imports, reason = "it is the suite's, which uses all of it")]
#[path = "../../tests/suite/support/mod.rs"]
mod support;
#[path = "../common/times.rs"]
mod times;
#[path = "../common/world.rs"]
mod world;

use std::env;
use std::process::ExitCode;

/// The sizes to measure if the command line has none.
const SIZES: [usize; 1] = [1_000];

#[tokio::main]
async fn main() -> ExitCode {
    let sizes = match sizes(env::args().skip(1)) {
        Ok(sizes) => sizes,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    let mut exceeded = Vec::new();
    for size in sizes {
        let measured = fleet::measure(size).await;
        println!("{measured}");
        println!("{}", measured.json());
        exceeded.extend(measured.exceeded_bounds());
    }
    for bound in &exceeded {
        eprintln!("more than promised: {bound}");
    }
    if exceeded.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reads the sizes. `cargo bench` adds `--bench` to the arguments.
fn sizes(arguments: impl Iterator<Item = String>) -> Result<Vec<usize>, String> {
    let sizes: Vec<usize> = arguments
        .filter(|argument| argument != "--bench")
        .map(|text| match text.parse() {
            Ok(size) if size > 0 => Ok(size),
            _ => Err(format!("{text:?} is not a number of accounts, such as 1000")),
        })
        .collect::<Result<_, _>>()?;
    Ok(if sizes.is_empty() { SIZES.to_vec() } else { sizes })
}
