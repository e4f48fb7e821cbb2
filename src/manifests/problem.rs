//! What is wrong with manifests and what was left out of them, each with the place it stands at.

use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// A line and a column of a file, both counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// Where something stands: `FILE:LINE:COLUMN`, or `FILE` for what concerns all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as it was asked for, or `<stdin>`.
    pub file: Arc<str>,
    /// Where in the file.
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
    /// Where it is.
    pub place: Place,
    /// The resource it is in, as `NAMESPACE/NAME`, where that much can be told.
    pub object: Option<String>,
    /// The field it is in, as in `spec.allowedIPs[2]`.
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

/// An object that is not for this program, and was left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Where it begins.
    pub place: Place,
    /// Its kind, where it has one.
    pub kind: Option<String>,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Why it is not for this program.
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

/// Manifests that cannot be used, with everything that is wrong with them, in the order of the files.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", lines(problems))]
pub struct Invalid {
    /// Each mistake.
    pub problems: Vec<Problem>,
    /// What was left out: the reason, at times, why something seems to be missing.
    pub skipped: Vec<Skipped>,
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
