//! What is known about an account before its reconcile, from a bulk read.

use crate::account::{Account, Owner};
use crate::database::{AccountDatabase, DatabaseError};

/// What a bulk read found about the account of a resource a moment ago.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Known {
    /// The account was not read.
    #[default]
    Nothing,
    /// The resource had no account. It may have one by now.
    NoAccount,
    /// The account, as it was read.
    Account(Box<Account>),
}

impl From<Option<Account>> for Known {
    fn from(account: Option<Account>) -> Self {
        account.map_or(Self::Nothing, |account| Self::Account(Box::new(account)))
    }
}

impl Known {
    /// Returns the account of the owner, and reads it unless it is known.
    ///
    /// # Errors
    /// The account cannot be read.
    pub(super) async fn or_read(
        self,
        database: &dyn AccountDatabase,
        owner: &Owner,
    ) -> Result<Option<Account>, DatabaseError> {
        match self {
            Self::Account(account) => Ok(Some(*account)),
            Self::NoAccount => Ok(None),
            Self::Nothing => database.find_by_owner(owner).await,
        }
    }
}
