//! Reads which migrations the database has, without writing to it, and applies the missing ones.

use super::fault::Fault;
use super::{Dialect, ErrorKind, Session, SqlAccounts};
use crate::database::{DatabaseError, Schema};
use sqlx::FromRow;
use sqlx::migrate::{Migrate, MigrateError, Migration, Migrator};
use std::collections::BTreeSet;

/// The table of applied migrations. Its name and its columns are sqlx's, so that sqlx's own tools can read it too.
pub(crate) const TABLE: &str = "_sqlx_migrations";

const APPLIED: &str = "SELECT version, description, checksum FROM _sqlx_migrations ORDER BY version";

const LEAST: &str = "SELECT least_version FROM schema_compatibility";

#[derive(FromRow)]
struct Applied {
    version: i64,
    description: String,
    checksum: Vec<u8>,
}

impl<D: Dialect> SqlAccounts<D> {
    /// Returns the names of the migrations that the database lacks. Fails if the schema requires a newer program.
    pub(super) async fn pending(&self) -> Result<Vec<String>, Fault> {
        let applied = self.applied().await?;
        let mut schema = compared(&applied, self.dialect.migrations())?;
        if let Some(migration) = schema.newer.first().cloned() {
            schema.least = self.least().await?;
            if let Some(least) = schema.needs(newest(&applied)) {
                return Err(DatabaseError::NewerSchema { migration, least, known: schema.known }.into());
            }
        }
        Ok(schema.pending)
    }

    /// Returns the database's schema, whether or not this program can work with it.
    pub(super) async fn found_schema(&self) -> Result<Schema, Fault> {
        let schema = compared(&self.applied().await?, self.dialect.migrations())?;
        Ok(Schema { least: self.least().await?, ..schema })
    }

    /// Returns the newest migration that a program must know; `None` if the database does not record it.
    async fn least(&self) -> Result<Option<i64>, Fault> {
        let mut session = self.dialect.read().await?;
        match session.rows::<(i64,)>(LEAST, &[]).await {
            Ok(rows) => {
                session.finish().await?;
                Ok(rows.first().map(|(least,)| *least))
            }
            Err(error) if self.meaning(&error) == ErrorKind::Schema => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn applied(&self) -> Result<Vec<Applied>, Fault> {
        let mut session = self.dialect.read().await?;
        match session.rows(APPLIED, &[]).await {
            Ok(applied) => {
                session.finish().await?;
                Ok(applied)
            }
            Err(error) if self.meaning(&error) == ErrorKind::Schema => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Applies the missing migrations, and returns their numbers. The caller's transaction must prevent other programs from
/// migrating at the same time. The driver's migrator is not used, because it does not lock an SQLite database.
pub(crate) async fn apply_missing<C: Migrate>(
    connection: &mut C,
    migrator: &Migrator,
) -> Result<BTreeSet<i64>, MigrateError> {
    connection.ensure_migrations_table(TABLE).await?;
    let applied = connection.list_applied_migrations(TABLE).await?;
    let applied: BTreeSet<i64> = applied.into_iter().map(|migration| migration.version).collect();
    let mut missing = BTreeSet::new();
    for migration in migrator.iter().filter(|migration| !applied.contains(&migration.version)) {
        connection.apply(TABLE, migration).await?;
        missing.insert(migration.version);
    }
    Ok(missing)
}

/// Compares the applied migrations with this program's. Fails if an applied migration is another one than this
/// program's.
fn compared(applied: &[Applied], known: &Migrator) -> Result<Schema, DatabaseError> {
    let mut pending = Vec::new();
    for migration in known.iter() {
        match applied.iter().find(|applied| applied.version == migration.version) {
            Some(applied) => unaltered(applied, migration)?,
            None => pending.push(name(migration.version, &migration.description)),
        }
    }
    let newer = applied.iter().filter(|applied| !known.version_exists(applied.version));
    Ok(Schema {
        known: known.iter().map(|migration| migration.version).max().unwrap_or_default(),
        pending,
        newer: newer.map(|newer| name(newer.version, &newer.description)).collect(),
        least: None,
    })
}

fn newest(applied: &[Applied]) -> i64 {
    applied.last().map_or(0, |applied| applied.version)
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
