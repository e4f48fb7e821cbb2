//! The program `opsadmin`: parses the arguments, runs the command and returns its exit code.
#![forbid(unsafe_code)]

use opsadmin_operator::cli::{parse, run};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    run(parse(std::env::args_os())).await
}
