//! `opsadmin migrate`: the database's schema.

use super::database::DatabaseArgs;
use super::output::Output;
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

/// The exit code that says that migrations are missing.
const MISSING: u8 = 2;

/// Bring the schema of the account database up to date.
///
/// The controller and `apply` do this too when they start. Run it before them if they connect as a user that may not
/// change the schema.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin migrate --database postgres://opsadmin@db.example.com/opsadmin\n  opsadmin migrate --status --database postgres://reader@db.example.com/opsadmin"
)]
pub struct Migrate {
    #[command(flatten)]
    database: DatabaseArgs,

    /// Only say which migrations are missing; exit with 2 if any is.
    #[arg(long)]
    status: bool,
}

impl Migrate {
    /// Migrates, and prints what was done.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let database = self.database.open()?;
        let pending = database.pending_migrations().await?;
        if !self.status {
            database.migrate().await?;
        }
        database.close().await;
        if self.status && !pending.is_empty() {
            pending.iter().try_for_each(|migration| output.line(&format!("missing {migration}")))?;
            return Ok(ExitCode::from(MISSING));
        }
        for migration in &pending {
            output.line(&format!("applied {migration}"))?;
        }
        if pending.is_empty() {
            output.line("the database is up to date")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
