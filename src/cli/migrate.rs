//! `opsadmin migrate`: migrates the schema of the account database, or shows which migrations are missing.

use super::database::DatabaseArgs;
use super::output::{Format, Output};
use crate::account::twins;
use crate::database::Schema;
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::process::ExitCode;

/// The exit code of `--status` when migrations are missing.
const MISSING: u8 = 2;

/// Bring the schema of the account database up to date.
///
/// The controller, `apply` and `import` also do this when they start. If their database user may not change the schema,
/// run this command first.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin migrate \\\n    --database postgres://opsadmin@db.example.com/opsadmin\n  opsadmin migrate --status \\\n    --database postgres://reader@db.example.com/opsadmin"
)]
pub struct Migrate {
    #[command(flatten)]
    database: DatabaseArgs,

    /// Only show which migrations are missing; exit with 2 if any is missing.
    #[arg(long)]
    status: bool,

    /// How to print the result.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

/// The result of the command.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Migrated {
    /// The names of the migrations that were missing, oldest first.
    missing: Vec<String>,
    /// Whether the missing migrations were applied.
    applied: bool,
    /// The names of the migrations that a newer program has applied, oldest first.
    newer: Vec<String>,
    /// The number of the newest migration that a program must know to work with the database.
    least_version: Option<i64>,
    /// The number of the newest migration that this program knows.
    known_version: i64,
}

impl Migrate {
    /// Migrates the schema, and prints what was done.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let migrated = if self.status { self.status_of_schema().await? } else { self.migrate(output).await? };
        if self.output == Format::Text {
            self.print(&migrated, output)?;
        }
        output.value(self.output, &migrated)?;
        let is_missing = self.status && !migrated.missing.is_empty();
        Ok(if is_missing { ExitCode::from(MISSING) } else { ExitCode::SUCCESS })
    }

    async fn migrate(&self, output: &mut Output) -> Result<Migrated> {
        let database = self.database.open()?;
        let missing = database.pending_migrations().await?;
        database.migrate().await?;
        if !missing.is_empty() {
            let accounts = database.list().await?;
            for twin in twins(accounts.iter().flatten()) {
                output.note(format!("WARNING: {twin}"));
            }
        }
        let schema = database.schema().await?;
        database.close().await;
        Ok(Migrated::new(!missing.is_empty(), missing, schema))
    }

    /// Returns the missing migrations of an existing database. Changes nothing.
    async fn status_of_schema(&self) -> Result<Migrated> {
        let database = self.database.open_unchecked()?;
        // Fails if the schema is too new for this program.
        let missing = database.pending_migrations().await?;
        let schema = database.schema().await?;
        database.close().await;
        Ok(Migrated::new(false, missing, schema))
    }

    fn print(&self, migrated: &Migrated, output: &mut Output) -> Result<()> {
        let word = if self.status { "missing" } else { "applied" };
        for migration in &migrated.missing {
            output.line(&format!("{word} {migration}"))?;
        }
        for migration in &migrated.newer {
            output.line(&format!("{migration} was made by a newer program"))?;
        }
        if migrated.missing.is_empty() {
            output.line("the database is up to date")?;
        }
        if let (true, Some(least)) = (self.status, migrated.least_version) {
            let known = migrated.known_version;
            output.line(&format!(
                "programs that know migration {least:04} can work with it; this one knows those up to {known:04}"
            ))?;
        }
        Ok(())
    }
}

impl Migrated {
    fn new(applied: bool, missing: Vec<String>, schema: Schema) -> Self {
        Self { missing, applied, newer: schema.newer, least_version: schema.least, known_version: schema.known }
    }
}
