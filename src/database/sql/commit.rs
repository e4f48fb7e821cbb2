//! Commits changes. The changes of concurrent callers share a transaction.

use super::fault::Fault;
use super::gathering::{Gathering, Group};
use super::{CALL_TIMEOUT, Dialect, SqlAccounts, read, write};
use crate::account::Account;
use crate::database::{Change, DatabaseError};
use std::sync::Arc;
use tokio::time::timeout;

/// What became of a change in the transaction of its group.
pub(in crate::database) enum Committed {
    /// The change is committed, and this is the account as read back.
    Done(Box<Account>),
    /// Nothing of the change was written. It needs a transaction of its own, which tells why it is refused, if it is.
    LeftOut,
}

/// The answer to a change of a group.
pub(in crate::database) type Answer = Result<Committed, Fault>;

/// The changes that concurrent callers commit together.
pub(in crate::database) type ChangeGroup = Group<Change, Answer>;

/// The groups of changes.
pub(super) type Commits = Gathering<Change, Answer>;

impl<D: Dialect> SqlAccounts<D> {
    /// Commits the change together with those of other callers, or alone if it cannot share a transaction. A wait for
    /// the turn of the group is no failure, so the time limit does not include it.
    pub(super) async fn commit_in_group(&self, change: &Change) -> Result<Account, DatabaseError> {
        let (dialect, turns) = (Arc::clone(&self.dialect), Arc::clone(&self.turns));
        let work = |group: ChangeGroup| async move {
            let Ok(_turn) = turns.acquire().await else { return };
            if timeout(CALL_TIMEOUT, dialect.commit_together(&group)).await.is_err() {
                tracing::debug!("a group of changes took too long, and none of its callers gets an answer");
            }
        };
        match self.commits.join(change.clone(), work).await {
            Some(Ok(Committed::Done(account))) => Ok(*account),
            Some(Ok(Committed::LeftOut)) => self.answer(CALL_TIMEOUT, self.dialect.commit_alone(change)).await,
            Some(Err(fault)) => Err(self.explained(fault).await),
            None => Err(self.no_answer(CALL_TIMEOUT)),
        }
    }
}

/// Makes one of the transaction's changes, and increases the account's version by exactly one.
pub(super) async fn make<D: Dialect>(session: &mut D::Session, change: &Change) -> Result<(), Fault> {
    let id = change.account.to_string();
    let before = if D::COUNTS_EACH_ROW { write::version(session, &id).await? } else { None };
    write::apply(session, change).await?;
    if D::COUNTS_EACH_ROW {
        write::count_as_one(session, &id, before).await?;
    }
    Ok(())
}

/// Makes one of the transaction's changes, and returns the account as read back.
pub(in crate::database) async fn make_and_read_back<D: Dialect>(
    session: &mut D::Session,
    change: &Change,
) -> Result<Account, Fault> {
    make::<D>(session, change).await?;
    let account = read::first(session, &read::BY_ID, &[change.account.to_string().as_str().into()]).await?;
    Ok(stored(change, account)?)
}

/// Returns the account as read back in the transaction of this change.
///
/// # Errors
/// The change must not be committed.
pub(in crate::database) fn stored(change: &Change, account: Option<Account>) -> Result<Account, DatabaseError> {
    // A trigger or a rule in the database removed the row within the transaction that wrote it.
    let account = account.ok_or(DatabaseError::Conflict)?;
    let parts = change.not_stored(&account);
    if parts.is_empty() || change.may_stay(&account, &parts) {
        Ok(account)
    } else {
        Err(DatabaseError::NotStored { parts })
    }
}
