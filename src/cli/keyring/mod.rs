//! `opsadmin keyring`: manages the keys that seal the secret keys in the database.

mod init;
mod rotate;
mod status;

use super::output::Output;
use anyhow::Result;
use clap::{Args, Subcommand};
use std::process::ExitCode;

/// Manage the keyring that seals secret keys in the account database.
#[derive(Debug, Args)]
pub struct KeyringCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Rotate(rotate::Rotate),
    Status(status::Status),
}

impl KeyringCommand {
    /// Runs the subcommand.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        match &self.command {
            Command::Init(init) => init.run(output).await,
            Command::Rotate(rotate) => rotate.run(output).await,
            Command::Status(status) => status.run(output).await,
        }
    }
}
