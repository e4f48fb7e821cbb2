//! The entries of the journal, which records every change of an account.

use jiff::Timestamp;
use serde::Deserialize;

/// One change of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// The time of the change.
    pub at: Timestamp,
    /// The actor, such as `controller`, `apply` or `cli:NAME`.
    pub actor: String,
    /// The generation of the resource that requested the change, if a resource did.
    pub generation: Option<i64>,
    /// Who wrote that resource, if it is known: the text of a [`crate::account::Requester`], or what people made of it.
    pub requested_by: Option<String>,
    /// The action in one or two words, such as `created`.
    pub action: String,
    /// The fields that changed.
    pub changes: JournalledChanges,
}

/// One entry of the whole journal. People may edit the journal, so the account may be any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRecord {
    /// The id of the entry. Ids grow in the order in which transactions began to write, not in that of their commits.
    pub id: i64,
    /// The id of the account.
    pub account: String,
    /// The time of the change; `None` if the column holds no valid time.
    pub at: Option<Timestamp>,
    /// As [`JournalEntry::actor`].
    pub actor: String,
    /// As [`JournalEntry::generation`].
    pub generation: Option<i64>,
    /// As [`JournalEntry::requested_by`].
    pub requested_by: Option<String>,
    /// As [`JournalEntry::action`].
    pub action: String,
    /// As [`JournalEntry::changes`].
    pub changes: JournalledChanges,
}

/// The changed fields of an entry. People may edit the journal, so the column may hold any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalledChanges {
    /// The changed fields.
    Changes(Vec<JournalledChange>),
    /// The text of the column, if it is not in the format that this program writes.
    Text(String),
}

/// The change of one field, as text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct JournalledChange {
    /// The name of the field in the resource.
    pub field: String,
    /// The value before the change; empty if there was none.
    pub old: String,
    /// The value after the change; empty if there is none.
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
