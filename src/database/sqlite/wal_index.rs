//! The index of the write-ahead log, a file that all programs with an open database share:
//! <https://www.sqlite.org/walformat.html#the_wal_index_file_format>.
//!
//! A commit changes its header, and is visible to others from then on. SQLite itself compares the header to find out
//! whether anything was committed.

use std::ffi::OsString;
use std::fs::{File, Metadata, canonicalize, metadata};
use std::mem::ManuallyDrop;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The bytes of the header. A copy follows it, which a commit writes first.
const HEADER_BYTES: usize = 48;

/// Where the header says that it is initialised.
const IS_INITIALISED: usize = 12;

/// The header, which every commit changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header([u8; HEADER_BYTES]);

/// The open index of one database.
///
/// The file is never closed. That would release the locks that all connections of this process have on it, and another
/// program could then write at the same time: <https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_>.
#[derive(Debug, Clone)]
pub(super) struct WalIndex(Arc<ManuallyDrop<File>>);

impl WalIndex {
    /// Returns the index that an open connection to the database at this path uses: the one that is held, unless SQLite
    /// has made another file meanwhile. `None` if there is none, for example because there is no write-ahead log.
    ///
    /// Keep the connection open for as long as the index is used, because SQLite may otherwise replace the file.
    pub fn of(database: &Path, held: Option<Self>) -> Option<Self> {
        let path = path(database)?;
        let present = metadata(&path).ok()?;
        match held {
            Some(held) if held.is_at(&present) => Some(held),
            _ => File::open(path).ok().map(|file| Self(Arc::new(ManuallyDrop::new(file)))),
        }
    }

    fn is_at(&self, present: &Metadata) -> bool {
        self.0.metadata().is_ok_and(|held| (held.dev(), held.ino()) == (present.dev(), present.ino()))
    }

    /// Returns the header; `None` if it cannot be read, or if a commit is writing it.
    pub fn header(&self) -> Option<Header> {
        let mut both = [0; 2 * HEADER_BYTES];
        self.0.read_exact_at(&mut both, 0).ok()?;
        let (header, copy) = both.split_at(HEADER_BYTES);
        (header == copy && header[IS_INITIALISED] == 1).then(|| header.try_into().ok().map(Header))?
    }
}

fn path(database: &Path) -> Option<PathBuf> {
    // SQLite follows links to the database first, and names its other files after what it finds.
    let mut path = OsString::from(canonicalize(database).ok()?);
    path.push("-shm");
    Some(path.into())
}
