//! Measures the controller with many accounts on a real control plane and a real PostgreSQL: its time, memory,
//! processor time and writes, for new accounts and after a restart.
//!
//! `cargo bench --bench fleet -- 1000 5000` measures fleets of these sizes, each on a cluster and a database of its own,
//! and prints a line of a Markdown table for each. docs/reliability.md has the figures. It needs Linux, and the programs
//! that the tests need.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

mod accounts;
mod measure;
#[path = "../common/processes.rs"]
mod processes;
#[allow(unused_imports, reason = "it is the suite's, which uses all of it")]
#[path = "../../tests/suite/support/mod.rs"]
mod support;

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
    println!("{}", measure::HEADER);
    let mut is_within = true;
    for size in sizes {
        let measured = measure::fleet(size).await;
        println!("{measured}");
        eprintln!("{}", measured.processor_times());
        is_within &= measured.is_within_bounds();
    }
    if is_within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
