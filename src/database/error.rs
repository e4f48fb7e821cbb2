//! The errors of the account database. Each message is for the person who has to act on it.

use super::not_stored::{self, NotStored};
use crate::account::{AccountName, AffiliateName};
use std::path::PathBuf;
use thiserror::Error;

/// Why a call of the account database failed. No variant shows a key or the password of a URL.
#[derive(Debug, Clone, Error)]
pub enum DatabaseError {
    /// Another live account has the name.
    #[error("the account name {:?} is taken", name.as_str())]
    NameTaken {
        /// The requested name.
        name: AccountName,
    },
    /// The affiliate is not in the table `affiliates`.
    #[error("OpsAdmin knows no affiliate {:?}", affiliate.as_str())]
    UnknownAffiliate {
        /// The requested affiliate.
        affiliate: AffiliateName,
    },
    /// Another account, or another key pair of the same account, has the API key.
    #[error("the API key is in use already")]
    KeyTaken,
    /// Something in the database, such as a trigger, stored other values than those written. Nothing was changed.
    #[error(
        "the account database does not keep what is written to it: {}; something there rewrites it, such as a trigger: change that, or declare what it stores",
        not_stored::listed(parts)
    )]
    NotStored {
        /// The parts of the account that were stored otherwise.
        parts: Vec<NotStored>,
    },
    /// The key pair with this API key was revoked, or its account was purged.
    #[error("the pair with this API key was revoked, or purged with its account, and is never used again")]
    KeyRevoked,
    /// Another program or person changed or created the account in the meantime. The caller must observe and plan
    /// again.
    #[error("the account was changed by somebody else in the meantime")]
    Conflict,
    /// The database did not answer, or failed with an error that a later try may not have.
    #[error("the account database is not available: {reason}")]
    Unavailable {
        /// The database, and the driver's error.
        reason: String,
    },
    /// The server refused the login more than once. Later calls try again, but a person has to act.
    #[error(
        "the account database refuses the login: {reason}; correct the login in the database or the password here. The login is tried again, with the password that --database-password-file then holds"
    )]
    LoginRefused {
        /// The database, and the server's error.
        reason: String,
    },
    /// The database holds a value that this program never writes.
    #[error("the account database holds a value that cannot be read: {table}.{column} of {row}: {reason}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The id of the row.
        row: String,
        /// What is wrong with the value. Never contains a secret.
        reason: String,
    },
    /// The schema is older than this program.
    #[error("the account database lacks {} of this program's migrations; run `opsadmin migrate`", pending.len())]
    OlderSchema {
        /// The names of the missing migrations.
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
    /// The URL is not a URL of a database that this program can use.
    #[error("{url} is no database URL: {reason}; write sqlite://FILE or postgres://USER@HOST/DATABASE")]
    Url {
        /// The URL without its password.
        url: String,
        /// What is wrong with the URL.
        reason: String,
    },
    /// The program cannot use the file of the URL.
    #[error("cannot use {} as the account database: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
    /// Any other error of the driver, such as a missing permission or a foreign table.
    #[error("the account database refused: {reason}")]
    Refused {
        /// The database, and the text of the driver's error. The driver's error itself would show the row's values.
        reason: String,
    },
}

impl DatabaseError {
    /// Returns whether the same call may succeed later without any correction by a person.
    pub fn is_retryable(&self) -> bool {
        self.is_unavailable() || matches!(self, Self::Conflict)
    }

    /// Returns whether a person has to act before the same call can succeed.
    pub fn needs_a_person(&self) -> bool {
        matches!(self, Self::LoginRefused { .. }) || !self.is_retryable()
    }

    /// Returns whether the whole database was not usable. A resource that failed with such an error is reconciled again
    /// once the database answers.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::LoginRefused { .. })
    }
}
