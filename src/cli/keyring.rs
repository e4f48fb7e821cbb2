//! `opsadmin keyring`: the keys that seal secret keys in the database.

use super::database::create;
use super::output::Output;
use anyhow::Result;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Manage the keyring that seals secret keys in the account database.
#[derive(Debug, Args)]
pub struct KeyringCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(Init),
}

/// Make a new keyring, readable by its owner only. An existing file is never overwritten.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  opsadmin keyring init --keyring opsadmin.keyring\n  kubectl create secret generic opsadmin-keyring --from-file=keyring=opsadmin.keyring"
)]
struct Init {
    /// The file to make.
    #[arg(long, value_name = "FILE", env = "OPSADMIN_KEYRING", default_value = "opsadmin.keyring")]
    keyring: PathBuf,
}

impl KeyringCommand {
    /// Makes it.
    pub fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let Command::Init(init) = &self.command;
        create(&init.keyring)?;
        output.line(&format!(
            "made the keyring {}; back it up: without it, no secret key in the database can be read again",
            init.keyring.display()
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
