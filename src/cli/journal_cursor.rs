//! The file in which `opsadmin journal` records how far it has written the journal.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A position in the journal of one database, and the file that records it.
#[derive(Debug)]
pub(super) struct Cursor {
    file: Option<PathBuf>,
    state: State,
}

/// The content of the file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// The id of the database.
    database: Option<String>,
    /// The id of the entry up to which everything was written.
    position: i64,
}

impl Cursor {
    /// Reads the position. Begins before the first entry if there is no file yet.
    ///
    /// # Errors
    /// The file cannot be read, holds something else, or is about another database.
    pub fn read(file: Option<&Path>, database: Option<&str>) -> Result<Self> {
        let begin = State { database: database.map(str::to_owned), position: 0 };
        let Some(path) = file else { return Ok(Self { file: None, state: begin }) };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { file: Some(path.to_owned()), state: begin });
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read the cursor {}", path.display())),
        };
        let Ok(state) = serde_json::from_str::<State>(&text) else {
            bail!("{} is no cursor of this command; name another file with --cursor", path.display());
        };
        if state.database != begin.database {
            bail!(
                "the cursor {} is about another database ({}) than this one ({}); name another file with --cursor",
                path.display(),
                state.database.as_deref().unwrap_or("without an id"),
                begin.database.as_deref().unwrap_or("without an id"),
            );
        }
        Ok(Self { file: Some(path.to_owned()), state })
    }

    /// Returns the id of the entry up to which everything was written.
    pub fn position(&self) -> i64 {
        self.state.position
    }

    /// Records the position. The file is replaced as a whole.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn move_to(&mut self, position: i64) -> Result<()> {
        if position == self.state.position {
            return Ok(());
        }
        self.state.position = position;
        let Some(path) = &self.file else { return Ok(()) };
        write(path, &self.state).with_context(|| format!("cannot write the cursor {}", path.display()))
    }
}

fn write(path: &Path, state: &State) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::with_prefix_in(".opsadmin-", folder)?;
    file.write_all(serde_json::to_string(state)?.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_is_kept_for_its_database_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let mut cursor = Cursor::read(Some(&path), Some("one")).unwrap();
        assert_eq!(cursor.position(), 0);
        cursor.move_to(7).unwrap();
        assert_eq!(Cursor::read(Some(&path), Some("one")).unwrap().position(), 7);
        let other = Cursor::read(Some(&path), Some("two")).unwrap_err().to_string();
        assert!(other.contains("about another database (one) than this one (two)"), "{other}");
        fs::write(&path, "7").unwrap();
        let wrong = Cursor::read(Some(&path), Some("one")).unwrap_err().to_string();
        assert!(wrong.contains("is no cursor"), "{wrong}");
        let unnamed = Cursor::read(None, Some("one")).unwrap();
        assert_eq!(unnamed.position(), 0);
    }
}
