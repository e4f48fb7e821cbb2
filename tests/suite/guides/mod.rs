//! Tests of the pages for users: their links and commands work, and their generated parts agree with the code.

mod advice;
pub mod auth_server;
mod commands;
mod links;
mod pictures;
mod readme;
mod reference;
mod schema;

use std::path::{Path, PathBuf};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Returns the path of a file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(REPOSITORY).join(path)
}

/// Returns the text of a file of the repository.
pub fn page(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
