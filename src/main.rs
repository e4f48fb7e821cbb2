//! The program `opsadmin`: parses the arguments, runs the command and returns its exit code.
#![forbid(unsafe_code)]

use opsadmin_operator::cli::{parse, run};
use std::process::ExitCode;

/// The allocator of the released program, whose C library is musl.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    run(parse(std::env::args_os())).await
}
