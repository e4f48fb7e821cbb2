//! Problems in manifests and skipped objects, with their places, and how they are printed.

use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// A line and a column of a file, both counted from 1. Columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A place in a file, printed as `FILE:LINE:COLUMN`, or as `FILE` for a problem of the whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's path as the user named it, or `<stdin>`.
    pub file: Arc<str>,
    /// The position in the file.
    pub position: Option<Position>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match self.position {
            Some(Position { line, column }) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// One mistake in a manifest, or a source that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The place of the problem.
    pub place: Place,
    /// The resource as `NAMESPACE/NAME`, if it is known.
    pub object: Option<String>,
    /// The path of the field, such as `spec.allowedIPs[2]`.
    pub field: Option<String>,
    /// What is wrong and what to write.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        for part in [&self.object, &self.field].into_iter().flatten() {
            write!(f, "{part}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// An object that this program does not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Where the object begins.
    pub place: Place,
    /// The object's kind, if it has one.
    pub kind: Option<String>,
    /// The object's name, if it has one.
    pub name: Option<String>,
    /// Why the object is skipped.
    pub why: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: skipped", self.place)?;
        for part in [&self.kind, &self.name].into_iter().flatten() {
            write!(f, " {}", part.escape_debug())?;
        }
        write!(f, ": {}", self.why)
    }
}

/// The error for manifests with mistakes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", lines(problems))]
pub struct Invalid {
    /// All problems, in the order of the files.
    pub problems: Vec<Problem>,
    /// The skipped objects, which may explain why an ApiAccount seems to be missing.
    pub skipped: Vec<Skipped>,
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
