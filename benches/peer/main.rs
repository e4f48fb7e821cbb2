//! Measures the controller beside crossplane's provider-sql, in one run, on one control plane and one PostgreSQL: the same
//! number of objects is created while the operator runs, and each gets generated credentials in PostgreSQL and in a Secret.
//!
//! `benches/peer/build.sh` builds provider-sql once. `cargo bench --bench peer -- 500` then prints a table in Markdown and
//! one line of JSON. The operators take turns, and only one runs at a time. It needs Linux, and the programs that the
//! tests need.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

#[path = "../common/accounts.rs"]
mod accounts;
mod entries;
mod machine;
#[path = "../common/processes.rs"]
mod processes;
mod provider_sql;
mod report;
mod round;
#[allow(unused_imports, reason = "it is the suite's, which uses all of it")]
#[path = "../../tests/suite/support/mod.rs"]
mod support;
#[path = "../common/times.rs"]
mod times;
#[path = "../common/world.rs"]
mod world;

use std::env;
use std::process::ExitCode;

use entries::ENTRIES;
use provider_sql::ProviderSql;
use report::Report;
use world::World;

/// The number of objects if the command line has none.
const COUNT: usize = 500;

#[tokio::main]
async fn main() -> ExitCode {
    let found = count(env::args().skip(1)).and_then(|count| Ok((count, ProviderSql::find()?)));
    let (count, provider_sql) = match found {
        Ok(found) => found,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    let world = World::start(&ENTRIES.each_ref().map(|entry| entry.namespace)).await;
    provider_sql.install_definitions(&world).await;
    let mut rounds = Vec::new();
    for entry in &ENTRIES {
        rounds.push(round::measure(&world, &provider_sql, entry, count).await);
    }
    let report = Report { count, version: provider_sql.version, rounds };
    println!("{report}");
    println!("{}", report.json());
    ExitCode::SUCCESS
}

/// Reads the number of objects. `cargo bench` adds `--bench` to the arguments.
fn count(arguments: impl Iterator<Item = String>) -> Result<usize, String> {
    let given: Vec<String> = arguments.filter(|argument| argument != "--bench").collect();
    match given.as_slice() {
        [] => Ok(COUNT),
        [text] => text
            .parse()
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| format!("{text:?} is not a number of objects, such as {COUNT}")),
        _ => Err(format!("give one number of objects, such as {COUNT}")),
    }
}
