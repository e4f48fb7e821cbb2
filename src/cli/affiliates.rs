//! `opsadmin affiliates`: lists and registers the sales partners that OpsAdmin knows.

use super::database::DatabaseArgs;
use super::environment::SystemEnvironment;
use super::output::{Format, FormatArgs, Output};
use super::text::display_name;
use crate::account::AffiliateName;
use crate::reconcile::Environment;
use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;
use std::process::ExitCode;

/// List the affiliates that OpsAdmin knows, or register a new one.
#[derive(Debug, Args)]
pub struct Affiliates {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Add(Add),
}

/// List the affiliates that OpsAdmin knows, by name.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  opsadmin affiliates list -o json")]
struct List {
    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    format: FormatArgs,
}

/// Register an affiliate in OpsAdmin. An affiliate that OpsAdmin knows already does not change.
///
/// Accounts must name an affiliate exactly, so read the list first: an affiliate can be neither renamed nor removed
/// while an account has it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  opsadmin affiliates add Bright")]
struct Add {
    /// The name of the affiliate.
    #[arg(value_name = "NAME", value_parser = AffiliateName::parse)]
    name: AffiliateName,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    format: FormatArgs,
}

impl Affiliates {
    /// Runs the subcommand.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        match &self.command {
            Command::List(list) => list.run(output).await?,
            Command::Add(add) => add.run(output).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    async fn run(&self, output: &mut Output) -> Result<()> {
        let database = self.database.open_read_only().await?;
        let affiliates = database.affiliates().await;
        database.close().await;
        let affiliates = affiliates?;
        match self.format.format {
            Format::Text if affiliates.is_empty() => output.note("OpsAdmin knows no affiliate"),
            Format::Text => affiliates.iter().try_for_each(|affiliate| output.line(&display_name(affiliate)))?,
            format => output.value(format, &json!({ "affiliates": affiliates }))?,
        }
        Ok(())
    }
}

impl Add {
    async fn run(&self, output: &mut Output) -> Result<()> {
        let database = self.database.open_existing().await?;
        let added = database.register_affiliate(&self.name, SystemEnvironment.now()).await;
        database.close().await;
        let added = added?;
        let name = display_name(self.name.as_str());
        match (self.format.format, added) {
            (Format::Text, true) => output.line(&format!("OpsAdmin knows the affiliate {name} now")),
            (Format::Text, false) => output.line(&format!("OpsAdmin knows the affiliate {name} already")),
            (format, added) => output.value(format, &json!({ "affiliate": self.name.as_str(), "added": added })),
        }
    }
}
