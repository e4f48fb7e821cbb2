//! The pages for users: what they link to is there, and what can be generated is as the code says.

mod advice;
mod commands;
mod links;
mod pictures;
mod readme;
mod reference;
mod schema;

use std::path::{Path, PathBuf};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(REPOSITORY).join(path)
}

/// The text of a file of the repository.
pub fn page(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
