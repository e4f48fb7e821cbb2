//! The notifications that a database sends when an account changes.

use crate::account::{Owner, Version};

/// A notification from the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The account of this owner was changed, by any program or person.
    Account {
        /// The owner of the account.
        owner: Owner,
        /// The account's new version; `None` if this owner no longer has an account.
        version: Option<Version>,
    },
    /// Any account may have changed, because notifications begin now or were interrupted, or because one was
    /// unreadable.
    Anything,
    /// The database allows no notifications, and the stream ends.
    Silence {
        /// The database's error, or why notifications cannot work.
        reason: String,
    },
}
