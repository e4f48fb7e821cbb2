//! `opsadmin keyring`: manages the keys that seal the secret keys in the database.

mod rotate;
mod status;

use super::database::create;
use super::output::{Format, FormatArgs, Output};
use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;
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
    Rotate(rotate::Rotate),
    Status(status::Status),
}

/// Create a new keyring that only its owner can read. An existing file is never overwritten.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  opsadmin keyring init --keyring opsadmin.keyring\n  kubectl create secret generic opsadmin-keyring \\\n    --from-file=keyring=opsadmin.keyring"
)]
struct Init {
    /// The file to create.
    #[arg(long, value_name = "FILE", env = "OPSADMIN_KEYRING", default_value = "opsadmin.keyring")]
    keyring: PathBuf,

    #[command(flatten)]
    format: FormatArgs,
}

impl KeyringCommand {
    /// Runs the subcommand.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        match &self.command {
            Command::Init(init) => init.run(output),
            Command::Rotate(rotate) => rotate.run(output).await,
            Command::Status(status) => status.run(output).await,
        }
    }
}

impl Init {
    /// Creates the keyring.
    fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let keyring = create(&self.keyring)?;
        let file = self.keyring.display().to_string();
        match self.format.format {
            Format::Text => output.line(&format!(
                "created the keyring {file}; back it up: without it, no secret key in the database can be read again"
            ))?,
            format => output.value(format, &json!({ "keyring": file, "seals": keyring.ids().next() }))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
