//! The port to the tables of logins: live logins, used assertions, and when each key pair was used.
//!
//! The account of a login is read through [`crate::database::AccountDatabase`].

use super::{EndReason, Generation, Login, LoginId, TokenHash, UsedAssertion};
use crate::account::{AccountId, KeyUse, Version};
use crate::database::DatabaseError;
use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use std::fmt;

/// The database that stores logins. SQLite and PostgreSQL implement it, and one contract suite tests both.
///
/// Each call takes effect completely or not at all. Times are stored in microseconds. Several servers use the same
/// tables at the same time.
#[async_trait]
pub trait LoginDatabase: fmt::Debug + Send + Sync {
    /// Records a new login and its assertion, in one statement. Records neither if the assertion was used before.
    async fn begin(&self, login: &Login, assertion: &UsedAssertion) -> Result<AssertionUse, DatabaseError>;

    /// Replaces the generations of a family and records the assertion, in one transaction.
    ///
    /// Writes nothing unless the login has not ended and `expected` is still the hash of its current refresh token.
    async fn refresh(
        &self,
        login: LoginId,
        expected: &TokenHash,
        next: &Generations,
        assertion: &UsedAssertion,
    ) -> Result<RefreshWrite, DatabaseError>;

    /// Records an assertion that begins no login: one that revokes a token, or comes with an old refresh token.
    async fn use_assertion(&self, assertion: &UsedAssertion) -> Result<AssertionUse, DatabaseError>;

    /// Returns the login with this id, also if it has ended or expired.
    ///
    /// # Errors
    /// [`DatabaseError::Inconsistent`] if the row cannot be read. The same holds for the other calls that return
    /// logins.
    async fn find(&self, login: LoginId) -> Result<Option<Login>, DatabaseError>;

    /// Returns the login whose current or previous access token has this hash, also if it has ended or expired.
    async fn find_by_access_token(&self, token: &TokenHash) -> Result<Option<Login>, DatabaseError>;

    /// Ends a login, and returns whether it was live: it existed and had not ended before.
    async fn end(&self, login: LoginId, at: Timestamp, reason: EndReason) -> Result<bool, DatabaseError>;

    /// Ends all logins of an account, and returns how many had not ended before.
    async fn end_account(&self, account: AccountId, at: Timestamp, reason: EndReason) -> Result<usize, DatabaseError>;

    /// Returns the logins of the account, or of all accounts, that have neither ended nor expired; the oldest first.
    async fn list(&self, account: Option<AccountId>, now: Timestamp) -> Result<Vec<Login>, DatabaseError>;

    /// Removes assertions that need not be remembered any more and logins that have expired ([`Login::expires`]), at
    /// most `limit` rows of each, and returns how many rows it removed. A caller that gets 0 is done for now.
    async fn purge_expired(&self, now: Timestamp, limit: usize) -> Result<usize, DatabaseError>;

    /// Records uses of key pairs. Keeps the earliest first and the latest last use of each pair, so that several
    /// servers may record in any order. Ignores pairs that no longer exist.
    async fn record_uses(&self, uses: &[KeyUse]) -> Result<(), DatabaseError>;

    /// Returns what changes from now on, by any program or person, as the database tells it. Begins with
    /// [`AccessChange::Everything`], and has it again after each interruption. The stream of a database that tells
    /// nothing ends at once: see [`Self::data_version`].
    fn changes(&self) -> BoxStream<'static, AccessChange>;

    /// Sends [`AccessChange::Heartbeat`] with this number to the stream of [`Self::changes`]. The server that hears its
    /// own heartbeat knows that the stream works. A database that tells nothing does nothing.
    async fn heartbeat(&self, number: u64) -> Result<(), DatabaseError>;

    /// Returns a number that differs from the last one if anything in the database was committed in between; `None` for
    /// a database that has no such number and tells changes instead.
    async fn data_version(&self) -> Result<Option<i64>, DatabaseError>;

    /// Returns the last answer of [`Self::data_version`] if the database can see without waiting that it still holds;
    /// otherwise `None`.
    fn data_version_at_once(&self) -> Option<i64>;
}

/// The generations of a family, as a refresh writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generations {
    /// The generation that is issued.
    pub current: Generation,
    /// The generation before it.
    pub previous: Generation,
}

/// Whether an assertion may be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssertionUse {
    /// The assertion was not used before, and is recorded.
    First,
    /// The assertion was used before: refuse it.
    Replay,
}

/// The outcome of [`LoginDatabase::refresh`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshWrite {
    /// Everything was written.
    Done,
    /// The assertion was used before: refuse it. Nothing was written.
    Replay,
    /// The login changed in the meantime. Nothing was written: read it again and decide again.
    Overtaken,
}

/// What changed about who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessChange {
    /// The account was changed.
    Account {
        /// The account.
        id: AccountId,
        /// Its new version; `None` if its row was removed.
        version: Option<Version>,
    },
    /// The login was ended, by any program or person. A refresh is not told.
    Login(LoginId),
    /// Anything may have changed, because notifications begin now or were interrupted, or because one was unreadable.
    Everything,
    /// Somebody sent this heartbeat.
    Heartbeat(u64),
}
