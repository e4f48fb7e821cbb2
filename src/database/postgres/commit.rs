//! Commits changes: those of a group in one transaction, and a change that cannot share one in its own.

use super::Postgres;
use super::creations::{create, create_the_free};
use super::pool::{PgSession, WRITE, WRITE_TOGETHER, is_end_of_connection};
use super::whole::{ReadBack, read_back};
use crate::account::{Account, AccountId};
use crate::database::sql::{
    Answer, ChangeGroup, Committed, Creation, Fault, Session as _, apply, creation_refusal, stored,
};
use crate::database::{Change, DatabaseError};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Why the transaction of a group was not committed.
enum Failure {
    /// One of the changes, or a lock that another transaction holds. Nothing was changed.
    OfOne,
    /// The server or the connection. The changes of all may have been committed, if the answer to the commit was lost.
    OfAll(Fault),
}

impl Postgres {
    /// Commits the changes of a group. If one of them makes the transaction fail, every change is left out, because the
    /// server cannot go on with the others.
    pub(super) async fn commit_group(&self, group: &ChangeGroup) {
        let mut jobs = group.take();
        // Each program locks accounts in this order, so that no two wait for each other.
        jobs.sort_by_cached_key(|job| job.job.account.to_string());
        let (changes, callers): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.job, job.caller)).unzip();
        let answers: Vec<Answer> = match changes.as_slice() {
            [] => Vec::new(),
            [alone] => vec![self.commit_one(alone).await.map(|account| Committed::Done(Box::new(account)))],
            _ => match self.try_together(&changes).await {
                Ok(outcomes) => outcomes,
                Err(Failure::OfOne) => changes.iter().map(|_| Ok(Committed::LeftOut)).collect(),
                Err(Failure::OfAll(fault)) => changes.iter().map(|_| Err(fault.clone())).collect(),
            },
        };
        callers.into_iter().zip(answers).for_each(|(caller, answer)| caller.answer(answer));
    }

    async fn try_together(&self, changes: &[Change]) -> Result<Vec<Answer>, Failure> {
        let mut session = self.pool.begin(WRITE_TOGETHER).await.map_err(Failure::OfAll)?;
        let outcomes = match write_together(&mut session, changes).await {
            Ok(outcomes) => outcomes,
            Err(fault) if session.is_lost() => return Err(Failure::OfAll(fault)),
            Err(fault) => {
                tracing::debug!(%fault, "a group of changes is not committed together, but each by itself");
                return Err(Failure::OfOne);
            }
        };
        match session.finish().await {
            Ok(()) => Ok(outcomes.into_iter().map(Ok).collect()),
            // The server answers so if it rolled back, for example because of a deferred constraint of others.
            Err(error @ sqlx::Error::Database(_)) if !is_end_of_connection(&error) => Err(Failure::OfOne),
            Err(error) => Err(Failure::OfAll(error.into())),
        }
    }

    /// Commits a change in a transaction of its own.
    pub(super) async fn commit_one(&self, change: &Change) -> Result<Account, Fault> {
        let mut session = self.pool.begin(WRITE).await?;
        match Creation::of(change) {
            Some(creation) => {
                let created = create(&mut session, &creation).await;
                created.map_err(|error| creation_refusal(error, creation.settings))?;
            }
            None => apply(&mut session, change).await?,
        }
        let account = checked(change, read_back(&mut session, &[change.account]).await?.pop())?;
        session.finish().await?;
        Ok(account)
    }
}

/// Makes the changes within the transaction, and checks what is stored. Leaves out a creation whose name, owner or id is
/// taken, and a further change of the same account.
async fn write_together(session: &mut PgSession, changes: &[Change]) -> Result<Vec<Committed>, Fault> {
    let mut written: HashMap<AccountId, &Change> = HashMap::new();
    let creations: Vec<Creation<'_>> = changes.iter().filter_map(Creation::of).collect();
    if !creations.is_empty() {
        let created = create_the_free(session, &creations).await?;
        let changes = creations.iter().map(|creation| creation.change);
        let created = changes.filter(|change| created.contains(&change.account.to_string()));
        written.extend(created.map(|change| (change.account, change)));
    }
    for change in changes.iter().filter(|change| Creation::of(change).is_none()) {
        if let Entry::Vacant(vacant) = written.entry(change.account) {
            apply(session, change).await?;
            vacant.insert(change);
        }
    }
    let ids = changes.iter().map(|change| change.account).filter(|id| written.contains_key(id));
    let ids: Vec<AccountId> = ids.collect();
    let read_back = read_back(session, &ids).await?;
    let mut read_back: HashMap<AccountId, ReadBack> =
        read_back.into_iter().map(|read_back| (read_back.account.id, read_back)).collect();
    let outcome = |change: &Change| match written.get(&change.account) {
        Some(written) if std::ptr::eq(*written, change) => {
            Ok(Committed::Done(Box::new(checked(change, read_back.remove(&change.account))?)))
        }
        _ => Ok(Committed::LeftOut),
    };
    changes.iter().map(outcome).collect()
}

/// Returns the account as read back in the transaction of this change.
///
/// # Errors
/// The change must not be committed.
fn checked(change: &Change, read_back: Option<ReadBack>) -> Result<Account, DatabaseError> {
    let (account, revoked) = read_back.map(|read_back| (read_back.account, read_back.revoked)).unzip();
    let is_revoked = |creation: Creation<'_>| revoked.is_some_and(|revoked| revoked.contains(&creation.key.id));
    if Creation::of(change).is_some_and(is_revoked) {
        return Err(DatabaseError::KeyRevoked);
    }
    stored(change, account)
}
