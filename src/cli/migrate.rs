//! `opsadmin migrate`: the database's schema.

use super::database::DatabaseArgs;
use super::output::{Format, Output};
use crate::database::DatabaseError;
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::process::ExitCode;

/// The exit code that says that migrations are missing.
const MISSING: u8 = 2;

/// Bring the schema of the account database up to date.
///
/// The controller, `apply` and `import` do this too when they start. Run it before them if they connect as a user that may
/// not change the schema.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin migrate \\\n    --database postgres://opsadmin@db.example.com/opsadmin\n  opsadmin migrate --status \\\n    --database postgres://reader@db.example.com/opsadmin"
)]
pub struct Migrate {
    #[command(flatten)]
    database: DatabaseArgs,

    /// Only say which migrations are missing; exit with 2 if any is.
    #[arg(long)]
    status: bool,

    /// How to print it.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

/// What there was to migrate.
#[derive(Serialize)]
struct Migrated {
    /// The migrations that were missing, oldest first, by name.
    missing: Vec<String>,
    /// Whether they have been made.
    applied: bool,
}

impl Migrate {
    /// Migrates, and prints what was done.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let pending = if self.status { self.missing().await? } else { self.migrate().await? };
        let migrated = Migrated { applied: !self.status && !pending.is_empty(), missing: pending };
        if self.output == Format::Text {
            self.tell(&migrated, output)?;
        }
        output.value(self.output, &migrated)?;
        let is_missing = self.status && !migrated.missing.is_empty();
        Ok(if is_missing { ExitCode::from(MISSING) } else { ExitCode::SUCCESS })
    }

    async fn migrate(&self) -> Result<Vec<String>> {
        let database = self.database.open()?;
        let pending = database.pending_migrations().await?;
        database.migrate().await?;
        database.close().await;
        Ok(pending)
    }

    /// What is missing in the database that there is.
    async fn missing(&self) -> Result<Vec<String>> {
        match self.database.open_existing().await {
            Ok(database) => {
                database.close().await;
                Ok(Vec::new())
            }
            Err(error) => match error.downcast()? {
                DatabaseError::OlderSchema { pending } => Ok(pending),
                other => Err(other.into()),
            },
        }
    }

    fn tell(&self, migrated: &Migrated, output: &mut Output) -> Result<()> {
        let word = if self.status { "missing" } else { "applied" };
        for migration in &migrated.missing {
            output.line(&format!("{word} {migration}"))?;
        }
        if migrated.missing.is_empty() {
            output.line("the database is up to date")?;
        }
        Ok(())
    }
}
