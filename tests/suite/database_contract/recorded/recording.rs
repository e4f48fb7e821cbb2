//! The statements that one version of the program sends to an account database, and the file that keeps them.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The statements that one version sends to one kind of database.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// The newest migration that the version knows.
    pub migration: i64,
    /// Each statement once, in the order of their first use.
    pub statements: Vec<Statement>,
    /// All calls with their values, in order. Empty for SQLite, whose driver does not report values.
    pub calls: Vec<Call>,
}

/// A statement, and what the database said about it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The text with placeholders.
    pub sql: String,
    /// The types of the parameters. SQLite knows only their number.
    pub parameters: Vec<String>,
    /// The columns of the answer. For PostgreSQL with their types.
    pub columns: Vec<String>,
}

/// One use of a statement.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The index of the statement.
    pub statement: usize,
    /// The values as SQL literals.
    pub values: Vec<String>,
    /// The number of rows that the database answered.
    pub rows: usize,
}

impl Recording {
    /// Reads a file of [`Recording::text`].
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Returns the recording as JSON, with one line for each statement and for each call.
    pub fn text(&self) -> String {
        let mut text = format!("{{\"migration\": {},\n\"statements\": [\n", self.migration);
        lines(&mut text, &self.statements);
        text.push_str("],\n\"calls\": [\n");
        lines(&mut text, &self.calls);
        text.push_str("]}\n");
        text
    }
}

fn lines<T: Serialize>(text: &mut String, items: &[T]) {
    for (index, item) in items.iter().enumerate() {
        let comma = if index + 1 < items.len() { "," } else { "" };
        writeln!(text, "{}{comma}", serde_json::to_string(item).unwrap()).unwrap();
    }
}

/// A version, as numbers that can be compared.
pub type Version = [u64; 3];

/// Returns the version of this program.
pub fn this_version() -> Version {
    version(env!("CARGO_PKG_VERSION"))
}

/// Returns the recorded versions, oldest first.
pub fn versions() -> Vec<Version> {
    let folders = fs::read_dir(folder()).expect("there are recordings");
    let mut versions: Vec<_> =
        folders.map(|folder| version(&folder.unwrap().file_name().into_string().unwrap())).collect();
    versions.sort_unstable();
    versions
}

/// Returns the file of one version and one kind of database: `sqlite` or `postgres`.
pub fn file([major, minor, patch]: Version, kind: &str) -> PathBuf {
    folder().join(format!("{major}.{minor}.{patch}/{kind}.json"))
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/statements"].iter().collect()
}

fn version(text: &str) -> Version {
    let numbers: Vec<u64> = text.split('.').map(|number| number.parse().expect("a version is three numbers")).collect();
    numbers.try_into().expect("a version is three numbers")
}
