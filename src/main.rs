//! The program `opsadmin`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// The allocator of the released program, whose C library is musl.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    opsadmin_operator::cli::main()
}
