//! Finds PostgreSQL's server programs, and the user to run them as.

use std::cmp::Reverse;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::run::run_blocking;

const OLDEST_VERSION: u32 = 15;
const ASKED_WITHIN: Duration = Duration::from_secs(10);
const INSTALL: &str = "run tests/setup.sh, or set OPSADMIN_TEST_POSTGRES_BIN to the folder of its programs";

/// The user that runs the server if the tests run as root. PostgreSQL refuses to run as root.
pub struct User {
    /// The user ID.
    pub uid: u32,
    /// The group ID.
    pub gid: u32,
}

impl User {
    /// Returns `None` if the server runs as the user of the tests.
    pub fn for_postgres() -> Result<Option<Self>, String> {
        if id("-u", None)? != 0 {
            return Ok(None);
        }
        let name = if id("-u", Some("postgres")).is_ok() { "postgres" } else { "nobody" };
        Ok(Some(Self { uid: id("-u", Some(name))?, gid: id("-g", Some(name))? }))
    }
}

fn id(which: &str, user: Option<&str>) -> Result<u32, String> {
    let mut command = Command::new("id");
    command.arg(which).args(user);
    let finished = run_blocking(command, b"", ASKED_WITHIN)?;
    finished.stdout.trim().parse().map_err(|_| format!("id {which} {user:?}: {}", finished.stderr))
}

/// Returns the folder that `OPSADMIN_TEST_POSTGRES_BIN` names. Without it, returns the folder of Debian's newest
/// version, or a folder on `PATH`.
pub fn find_programs() -> Result<PathBuf, String> {
    let folder =
        match env::var_os("OPSADMIN_TEST_POSTGRES_BIN") {
            Some(folder) => PathBuf::from(folder),
            None => debian_folders().into_iter().chain(path_folders()).find(|folder| is_complete(folder)).ok_or_else(
                || format!("PostgreSQL's server programs (initdb, postgres) are not installed: {INSTALL}"),
            )?,
        };
    let mut version = Command::new(folder.join("postgres"));
    version.arg("--version");
    let finished = run_blocking(version, b"", ASKED_WITHIN).map_err(|problem| format!("{problem}: {INSTALL}"))?;
    match major_version(&finished.stdout) {
        Some(major) if major >= OLDEST_VERSION => Ok(folder),
        _ => Err(format!(
            "PostgreSQL {OLDEST_VERSION} or newer is needed, but the one in {} says {:?}: {INSTALL}",
            folder.display(),
            finished.stdout.trim(),
        )),
    }
}

fn debian_folders() -> Vec<PathBuf> {
    let Ok(versions) = fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    let mut folders: Vec<(u32, PathBuf)> = versions
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    folders.sort_by_key(|(version, _)| Reverse(*version));
    folders.into_iter().map(|(_, folder)| folder).collect()
}

fn path_folders() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

fn is_complete(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file())
}

/// Returns the major version: 15 for `postgres (PostgreSQL) 15.4 (Debian 15.4-1)`.
fn major_version(text: &str) -> Option<u32> {
    let version = text.split(") ").nth(1)?;
    version.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}
