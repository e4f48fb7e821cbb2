//! Measures the auth server against the least that any server would do, in one run: `/authz` against a handler that
//! answers 204 on the same HTTP stack, and `/token` against the bare insert of the same rows.
//!
//! `cargo bench --bench login` prints the figures as Markdown and fails if one is not within its bound. docs/login.md has
//! the figures. It needs Linux, and the PostgreSQL that the tests need.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

mod authorize;
mod bare;
mod load;
mod partners;
#[allow(dead_code, reason = "the benchmark of fleets uses all of it")]
#[path = "../common/processes.rs"]
mod processes;
#[allow(unused_imports, reason = "it is the suite's, which uses all of it")]
#[path = "../../tests/suite/support/mod.rs"]
mod support;
mod token;
mod world;

use std::env;
use std::process::ExitCode;
use world::{Engine, World};

#[tokio::main]
async fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some(bare::ARGUMENT) {
        return bare::serve().await;
    }
    let mut is_within = true;
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let world = World::start(engine).await;
        let authorize = authorize::measure(&world).await;
        println!("{engine}, authorize: {authorize}");
        is_within &= authorize.is_within_bounds();
        let token = token::measure(&world).await;
        println!("{engine}, token: {token}");
        is_within &= token.is_within_bounds();
    }
    if is_within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
