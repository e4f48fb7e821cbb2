//! The journal: what happened to an account, as the database tells it.

use jiff::Timestamp;
use serde::Deserialize;

/// One thing that happened to an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub actor: String,
    /// The generation of the resource that asked for it, where there was one.
    pub generation: Option<i64>,
    /// What was done, in a word or two.
    pub action: String,
    /// What changed by it.
    pub changes: JournalledChanges,
}

/// What changed, as far as it can be read: the journal is open to hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalledChanges {
    /// Each field.
    Changes(Vec<JournalledChange>),
    /// Something that this program does not write, as it stands there.
    Text(String),
}

/// One field's change, in the words in which it was told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct JournalledChange {
    /// The field, by its name in the resource.
    pub field: String,
    /// What it was; empty if there was nothing.
    pub old: String,
    /// What it became; empty if there is nothing.
    pub new: String,
}

impl JournalledChanges {
    /// Reads the column `changes`.
    pub(super) fn parse(text: String) -> Self {
        match serde_json::from_str(&text) {
            Ok(changes) => Self::Changes(changes),
            Err(_) => Self::Text(text),
        }
    }
}
