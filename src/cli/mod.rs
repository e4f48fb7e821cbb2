//! The command line: one file for each command; each builds the adapters, calls the rooms inside, and prints.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 an error or a refusal, 2 the
//! command was not understood, 130 interrupted.

mod apply;
mod controller;
mod crd;
mod database;
mod export;
mod findings;
mod import;
mod keyring;
mod known;
mod manifests;
mod migrate;
mod output;
mod plan;
mod planned;
mod progress;
mod prune;
mod render;
mod report;
mod surroundings;
mod validate;

use anyhow::Result;
use clap::{Parser, Subcommand};
use output::Output;
use std::process::ExitCode;

/// In whose name accounts are owned that no cluster declares.
const LOCAL_CLUSTER: &str = "local";

/// API accounts for the OpsAdmin API, declared in YAML and kept true.
///
/// An account is declared as an ApiAccount resource. OpsAdmin's account database is made to say the same, and the
/// account's generated keys are written to a Secret. On a cluster, `opsadmin controller` does that; without one, `opsadmin
/// apply`.
#[derive(Debug, Parser)]
#[command(
    name = "opsadmin",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Plan(plan::Plan),
    Apply(apply::Apply),
    Validate(validate::Validate),
    Export(export::Export),
    Import(import::Import),
    Controller(controller::Controller),
    Crd(crd::Crd),
    Render(render::Render),
    Migrate(migrate::Migrate),
    Keyring(keyring::KeyringCommand),
}

/// Runs the command, prints its error if it fails, and answers with the exit code.
pub async fn run(cli: Cli) -> ExitCode {
    let mut output = Output::default();
    let result: Result<ExitCode> = match cli.command {
        Command::Plan(command) => command.run(&mut output).await,
        Command::Apply(command) => command.run(&mut output).await,
        Command::Validate(command) => command.run(&mut output),
        Command::Export(command) => command.run(&mut output).await,
        Command::Import(command) => command.run(&mut output).await,
        Command::Controller(command) => command.run().await,
        Command::Crd(command) => command.run(&mut output),
        Command::Render(command) => command.run(&mut output),
        Command::Migrate(command) => command.run(&mut output).await,
        Command::Keyring(command) => command.run(&mut output).await,
    };
    result.unwrap_or_else(|error| {
        // `{:#}` adds the causes: each says something the one before does not.
        output.complain(format!("opsadmin: {error:#}"));
        ExitCode::FAILURE
    })
}
