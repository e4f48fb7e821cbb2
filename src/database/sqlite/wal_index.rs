//! The index of the write-ahead log, a file that all programs with an open database share:
//! <https://www.sqlite.org/walformat.html#the_wal_index_file_format>.
//!
//! A commit changes its header, and is visible to others from then on. SQLite itself compares the header to find out
//! whether anything was committed.

use std::ffi::OsString;
use std::fs::{File, canonicalize};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// The bytes of the header. A copy follows it, which a commit writes first.
const HEADER_BYTES: usize = 48;

/// Where the header says that it is initialised.
const IS_INITIALISED: usize = 12;

/// The header, which every commit changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header([u8; HEADER_BYTES]);

/// The open index of one database.
#[derive(Debug, Clone)]
pub(super) struct WalIndex(Arc<File>);

impl WalIndex {
    /// Opens the index of the database at this path; `None` if it has none, for example because it has no write-ahead
    /// log. Keep a connection open for as long as the index is used, because SQLite may otherwise remove the file.
    pub fn open(database: &Path) -> Option<Self> {
        // SQLite follows links to the database first, and names its other files after what it finds.
        let database = canonicalize(database).ok()?;
        let mut path = OsString::from(database);
        path.push("-shm");
        File::open(path).ok().map(|file| Self(Arc::new(file)))
    }

    /// Returns the header; `None` if it cannot be read, or if a commit is writing it.
    pub fn header(&self) -> Option<Header> {
        let mut both = [0; 2 * HEADER_BYTES];
        self.0.read_exact_at(&mut both, 0).ok()?;
        let (header, copy) = both.split_at(HEADER_BYTES);
        (header == copy && header[IS_INITIALISED] == 1).then(|| header.try_into().ok().map(Header))?
    }
}
