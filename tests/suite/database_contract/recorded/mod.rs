//! The previous version of the program works with the tables of this version: its recorded statements still do what they
//! did. `tests/statements` has the recordings, one folder for each version.
//!
//! The tables expand before they contract. A migration may add what older programs can do without. What this version
//! does not need any more, a later version removes.

mod capture;
mod check;
mod recording;
mod scenario;

use super::fixture::{Fresh, migrate_as_another};
use crate::guides::repository;
use recording::{Recording, file, this_version, versions};
use std::fs;

const RECORD: &str = "OPSADMIN_TEST_WRITE=1 cargo test --test suite the_statements_of_this_version_are_recorded";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_statements_of_this_version_are_recorded() {
    for (kind, recording) in [("sqlite", capture::sqlite().await), ("postgres", capture::postgres().await)] {
        let (file, text) = (file(this_version(), kind), recording.text());
        if std::env::var_os("OPSADMIN_TEST_WRITE").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
        } else {
            assert!(
                fs::read_to_string(&file).is_ok_and(|recorded| recorded == text),
                "{} has other statements than this program sends. If this version is released, raise the version in \
                 Cargo.toml first. Then record them: {RECORD}",
                file.display()
            );
        }
    }
}

async fn newest_tables(kind: &str) -> Fresh {
    let fresh = if kind == "sqlite" { Fresh::sqlite() } else { Fresh::postgres("recorded").await };
    fresh.open().await.close().await;
    fresh
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_versions_work_with_the_newest_tables() {
    let versions = versions();
    let previous = versions.iter().rfind(|version| **version < this_version());
    for kind in ["sqlite", "postgres"] {
        for version in &versions {
            let fresh = newest_tables(kind).await;
            let recording = Recording::read(&file(*version, kind));
            let least = fresh.column("SELECT least_version FROM schema_compatibility").await.remove(0);
            if recording.migration < least.parse().unwrap() {
                assert_ne!(Some(version), previous, "the previous version must work with these tables ({kind})");
                continue;
            }
            let problems = check::problems(&fresh, &recording).await;
            assert!(problems.is_empty(), "{version:?} on {kind}:\n{}", problems.join("\n"));
        }
    }
}

/// Migrations that the recorded program cannot work with, and what the check says about them.
const HARMFUL: [(&str, &str, &str); 9] = [
    ("postgres", "ALTER TABLE accounts DROP COLUMN adopter", "adopter"),
    ("sqlite", "ALTER TABLE accounts DROP COLUMN adopter", "adopter"),
    ("postgres", "ALTER TABLE accounts RENAME COLUMN description TO notes", "description"),
    ("sqlite", "ALTER TABLE accounts RENAME COLUMN description TO notes", "description"),
    ("postgres", "ALTER TABLE account_keys ADD COLUMN colour TEXT NOT NULL", "colour"),
    (
        "sqlite",
        "DROP TABLE account_roles; CREATE TABLE account_roles (account_id TEXT NOT NULL, role TEXT NOT NULL, \
         colour TEXT NOT NULL)",
        "the column colour of account_roles has no default",
    ),
    ("postgres", "ALTER TABLE accounts ALTER COLUMN retained_at TYPE TEXT", "retained_at TEXT"),
    ("postgres", "ALTER TABLE accounts ADD CHECK (description <> '')", "accounts_description_check"),
    (
        "postgres",
        "CREATE FUNCTION lost() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
         CREATE TRIGGER lost BEFORE DELETE ON account_keys FOR EACH ROW \
         WHEN (OLD.expires_at IS NOT NULL) EXECUTE FUNCTION lost()",
        "are now 0",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_breaks_a_recorded_version_is_found() {
    for (kind, migration, told) in HARMFUL {
        let fresh = newest_tables(kind).await;
        fresh.by_hand(migration).await.unwrap();
        let problems = check::problems(&fresh, &Recording::read(&file(versions()[0], kind))).await;
        assert!(problems.iter().any(|problem| problem.contains(told)), "{kind}, {migration}: {problems:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_only_adds_breaks_no_recorded_version() {
    for kind in ["sqlite", "postgres"] {
        let fresh = newest_tables(kind).await;
        let adds = "ALTER TABLE accounts ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'; \
                    CREATE TABLE account_colours (name TEXT NOT NULL)";
        migrate_as_another(&fresh, usize::MAX, &[("9000_colours", adds)]).await;
        let problems = check::problems(&fresh, &Recording::read(&file(versions()[0], kind))).await;
        assert!(problems.is_empty(), "{problems:?}");
    }
}

/// The files whose statements only a migration sends. An older program never migrates newer tables.
const OF_MIGRATIONS: [&str; 2] = ["migrate.rs", "name_keys.rs"];

/// Returns the statements in a source file, each up to the end of its first literal.
fn statements_in(source: &str) -> Vec<String> {
    let (source, _) = source.split_once("#[cfg(test)]").unwrap_or((source, ""));
    let literals = source.split('"').skip(1).step_by(2);
    let one_line = |literal: &str| literal.replace("\\\n", "").split_whitespace().collect::<Vec<_>>().join(" ");
    let is_statement =
        |text: &String| ["SELECT ", "INSERT ", "UPDATE ", "DELETE "].iter().any(|verb| text.starts_with(verb));
    literals.map(one_line).filter(is_statement).collect()
}

#[test]
fn each_statement_of_the_program_is_recorded() {
    let recordings = ["sqlite", "postgres"].map(|kind| Recording::read(&file(this_version(), kind)));
    let recorded: Vec<&str> = recordings.iter().flat_map(|of| &of.statements).map(|one| one.sql.as_str()).collect();
    let mut seen = 0;
    for folder in ["sql", "sql/logins", "sql/write", "postgres", "sqlite"] {
        for file in fs::read_dir(repository("src/database").join(folder)).unwrap() {
            let file = file.unwrap().path();
            let name = file.file_name().unwrap().to_str().unwrap();
            if file.extension().is_none_or(|extension| extension != "rs") || OF_MIGRATIONS.contains(&name) {
                continue;
            }
            for statement in statements_in(&fs::read_to_string(&file).unwrap()) {
                seen += 1;
                assert!(
                    recorded.iter().any(|recorded| recorded.contains(&statement)),
                    "{name}: no recording has {statement:?}: call it in recorded/scenario.rs, and record: {RECORD}"
                );
            }
        }
    }
    assert!(seen > 50, "{seen}");
}
