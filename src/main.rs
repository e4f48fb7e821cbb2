//! The program `opsadmin`: arguments to a command to an exit code.
#![forbid(unsafe_code)]

use clap::Parser;
use opsadmin_operator::cli::{Cli, run};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    run(Cli::parse()).await
}
