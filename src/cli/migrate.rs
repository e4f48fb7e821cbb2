//! `opsadmin migrate`: the database's schema.

use super::database::DatabaseArgs;
use super::output::Output;
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

/// Bring the schema of the account database up to date.
///
/// The controller and `apply` do this too when they start. Run it before them if they connect as a user that may not
/// change the schema.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  opsadmin migrate --database postgres://opsadmin@db.example.com/opsadmin")]
pub struct Migrate {
    #[command(flatten)]
    database: DatabaseArgs,
}

impl Migrate {
    /// Migrates, and prints what was done.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let database = self.database.open()?;
        let pending = database.pending_migrations().await?;
        database.migrate().await?;
        database.close().await;
        for migration in &pending {
            output.line(&format!("applied {migration}"))?;
        }
        if pending.is_empty() {
            output.line("the database is up to date")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
