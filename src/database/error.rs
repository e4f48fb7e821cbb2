//! What can go wrong with the account database, for whoever has to act on it.

use super::not_kept::{self, NotKept};
use crate::account::{AccountName, AffiliateName};
use std::path::PathBuf;
use thiserror::Error;

/// Why the database did not do what it was asked. No variant ever shows a key, or a password of a URL.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// Another live account has the name.
    #[error("the account name {:?} is taken", name.as_str())]
    NameTaken {
        /// The name asked for.
        name: AccountName,
    },
    /// The affiliate is not in the table `affiliates`.
    #[error("OpsAdmin knows no affiliate {:?}", affiliate.as_str())]
    UnknownAffiliate {
        /// The affiliate asked for.
        affiliate: AffiliateName,
    },
    /// Another account, or another pair of this one, has the API key.
    #[error("the API key is in use already")]
    KeyTaken,
    /// Something in the database, such as a trigger, stored something else than was written. Nothing was changed.
    #[error(
        "the account database does not keep what is written to it: {}; something there rewrites it, such as a trigger: change that, or declare what it stores",
        not_kept::listed(parts)
    )]
    NotKept {
        /// What was stored otherwise.
        parts: Vec<NotKept>,
    },
    /// The pair with the API key was revoked, or its account purged.
    #[error("the pair with this API key was revoked, or purged with its account, and is never used again")]
    KeyRevoked,
    /// Somebody else changed or made the account in between: observe again, then plan again.
    #[error("the account was changed by somebody else in the meantime")]
    Conflict,
    /// No answer, or an answer that a later try may change.
    #[error("the account database is not available: {reason}")]
    Unavailable {
        /// Which database, and what the driver said.
        reason: String,
    },
    /// The server refused the login, and not only once. It is tried again, but a person has to act.
    #[error(
        "the account database refuses the login: {reason}; put the login right, there or here. It is tried again, with the password that --database-password-file then holds"
    )]
    LoginRefused {
        /// Which database, and what the server said.
        reason: String,
    },
    /// The database holds something that this program never writes.
    #[error("the account database holds a value that cannot be read: {table}.{column} of {row}: {reason}")]
    Inconsistent {
        /// Which table.
        table: &'static str,
        /// Which column.
        column: &'static str,
        /// Which row, by its id.
        row: String,
        /// What is wrong with it; never the value of a secret.
        reason: String,
    },
    /// The schema is older than this program.
    #[error("the account database lacks {} of this program's migrations; run `opsadmin migrate`", pending.len())]
    OlderSchema {
        /// Their names.
        pending: Vec<String>,
    },
    /// The schema needs a newer program.
    #[error(
        "the account database was migrated by a newer program ({migration}): it needs a program that knows migration {least:04}, and this one knows those up to {known:04}; use that version of opsadmin or a later one"
    )]
    NewerSchema {
        /// The first migration that this program does not know.
        migration: String,
        /// The newest migration that a program must know.
        least: i64,
        /// The newest migration that this program knows.
        known: i64,
    },
    /// The URL names no database this program can use.
    #[error("{url} is no database URL: {reason}; write sqlite://FILE or postgres://USER@HOST/DATABASE")]
    Url {
        /// The URL without its password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file that the URL names cannot be a database of this program's.
    #[error("cannot use {} as the account database: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Anything else the driver reports: a permission, a table that is not ours.
    #[error("the account database refused: {reason}")]
    Refused {
        /// Which database, and what the driver said. Text, not the driver's error: that one would show the row's values.
        reason: String,
    },
}

impl DatabaseError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        self.is_away() || matches!(self, Self::Conflict)
    }

    /// Whether a person has to act before the same call can succeed.
    pub fn needs_a_person(&self) -> bool {
        matches!(self, Self::LoginRefused { .. }) || !self.is_retryable()
    }

    /// Whether the database could not be used at all. What waits for it is reconciled once it answers.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::LoginRefused { .. })
    }
}
