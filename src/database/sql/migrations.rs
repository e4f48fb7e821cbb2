//! Which migrations the database has, told without writing to it, and how it gets the others.

use super::fault::Fault;
use super::{Dialect, Meaning, Session, SqlAccounts};
use crate::database::DatabaseError;
use sqlx::FromRow;
use sqlx::migrate::{Migrate, MigrateError, Migration, Migrator};
use std::collections::BTreeSet;

/// The table and the form that sqlx keeps its record in, so that its own tools read it too.
const TABLE: &str = "_sqlx_migrations";

const APPLIED: &str = "SELECT version, description, checksum FROM _sqlx_migrations ORDER BY version";

#[derive(FromRow)]
struct Applied {
    version: i64,
    description: String,
    checksum: Vec<u8>,
}

impl<D: Dialect> SqlAccounts<D> {
    /// The names of the migrations that the database lacks.
    pub(super) async fn pending(&self) -> Result<Vec<String>, Fault> {
        let applied = self.applied().await?;
        let known = self.dialect.migrations();
        if let Some(newer) = applied.iter().find(|applied| !known.version_exists(applied.version)) {
            return Err(DatabaseError::NewerSchema { migration: name(newer.version, &newer.description) }.into());
        }
        let mut pending = Vec::new();
        for migration in known.iter() {
            match applied.iter().find(|applied| applied.version == migration.version) {
                Some(applied) => unaltered(applied, migration)?,
                None => pending.push(name(migration.version, &migration.description)),
            }
        }
        Ok(pending)
    }

    async fn applied(&self) -> Result<Vec<Applied>, Fault> {
        let mut session = self.dialect.read().await?;
        match session.rows(APPLIED, &[]).await {
            Ok(applied) => {
                session.finish().await?;
                Ok(applied)
            }
            Err(error) if self.meaning(&error) == Meaning::Schema => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Makes the migrations that are missing, within a transaction that keeps others from doing the same. Not the migrator's own
/// way, which locks no SQLite database, and keeps its lock of a PostgreSQL one after an error.
pub(crate) async fn apply_missing<C: Migrate>(connection: &mut C, migrator: &Migrator) -> Result<(), MigrateError> {
    connection.ensure_migrations_table(TABLE).await?;
    let applied = connection.list_applied_migrations(TABLE).await?;
    let applied: BTreeSet<i64> = applied.into_iter().map(|migration| migration.version).collect();
    for migration in migrator.iter().filter(|migration| !applied.contains(&migration.version)) {
        connection.apply(TABLE, migration).await?;
    }
    Ok(())
}

fn unaltered(applied: &Applied, migration: &Migration) -> Result<(), DatabaseError> {
    if applied.checksum == *migration.checksum {
        return Ok(());
    }
    Err(DatabaseError::Inconsistent {
        table: TABLE,
        column: "checksum",
        row: name(applied.version, &applied.description),
        reason: "this program's migration of that number is another one".to_owned(),
    })
}

fn name(version: i64, description: &str) -> String {
    format!("{version:04}_{}", description.replace(' ', "_"))
}
