//! What a database tells of itself while it is used: that somebody changed an account.

use crate::account::{Owner, Version};

/// News from the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The account of this owner, by whomever.
    Account {
        /// Who owns it.
        owner: Owner,
        /// What it is now; `None` if this owner has no account any more.
        version: Option<Version>,
    },
    /// Listening begins, here or again after it was interrupted: anything may have changed before.
    Anything,
    /// The database does not let anybody listen; there will be no more news.
    Silence {
        /// What it said.
        reason: String,
    },
}
