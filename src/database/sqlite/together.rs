//! Writes what concurrent callers want in one transaction. A commit waits for the disk, so one commit for each of them
//! would be slow.
//!
//! What each of them writes has a savepoint of its own, so that one that fails does not affect the others.

use super::{Sqlite, begin};
use crate::database::Change;
use crate::database::sql::{Acceptance, Accepted, Committed, Fault, Group, Session as _, accept, make_and_read_back};
use async_trait::async_trait;
use sqlx::sqlite::SqlitePool;

type Transaction = sqlx::Transaction<'static, sqlx::Sqlite>;

/// Something that a caller writes, in a transaction that others may share.
#[async_trait]
pub(super) trait Written: Send + Sync + 'static {
    type Outcome: Send + 'static;

    /// Writes it within the transaction.
    async fn write(&self, transaction: &mut Transaction) -> Result<Self::Outcome, Fault>;

    /// Returns whether what was written with this outcome is committed.
    fn is_kept(outcome: &Self::Outcome) -> bool;
}

#[async_trait]
impl Written for Change {
    type Outcome = Committed;

    async fn write(&self, transaction: &mut Transaction) -> Result<Committed, Fault> {
        Ok(Committed::Done(Box::new(make_and_read_back::<Sqlite>(transaction, self).await?)))
    }

    fn is_kept(_: &Committed) -> bool {
        true
    }
}

#[async_trait]
impl Written for Acceptance {
    type Outcome = Accepted;

    async fn write(&self, transaction: &mut Transaction) -> Result<Accepted, Fault> {
        accept(transaction, self).await
    }

    fn is_kept(accepted: &Accepted) -> bool {
        *accepted == Accepted::Done
    }
}

/// Writes what the group brings, and gives each caller its outcome once everything is committed. What arrives before the
/// transaction has begun is written in it.
pub(super) async fn write_together<W: Written>(writer: &SqlitePool, group: &Group<W, Result<W::Outcome, Fault>>) {
    let begun = begin(writer).await;
    let (jobs, callers): (Vec<_>, Vec<_>) = group.take().into_iter().map(|job| (job.job, job.caller)).unzip();
    let written = match begun {
        Ok(transaction) => write_all(transaction, &jobs).await,
        Err(error) => Err(error.into()),
    };
    match written {
        Ok(outcomes) => callers.into_iter().zip(outcomes).for_each(|(caller, outcome)| caller.answer(outcome)),
        Err(fault) => callers.into_iter().for_each(|caller| caller.answer(Err(fault.clone()))),
    }
}

/// Writes all and commits. Fails if the transaction as a whole fails.
async fn write_all<W: Written>(
    mut transaction: Transaction,
    jobs: &[W],
) -> Result<Vec<Result<W::Outcome, Fault>>, Fault> {
    let mut outcomes = Vec::with_capacity(jobs.len());
    for job in jobs {
        transaction.run("SAVEPOINT one_of_many", &[]).await?;
        let outcome = job.write(&mut transaction).await;
        if !outcome.as_ref().is_ok_and(W::is_kept) {
            let undone = transaction.run("ROLLBACK TO one_of_many", &[]).await;
            // After some errors, such as a full disk, SQLite itself has rolled back the whole transaction.
            if let (Err(_), Err(fault @ Fault::Driver(_))) = (&undone, &outcome) {
                return Err(fault.clone());
            }
            undone?;
        }
        transaction.run("RELEASE one_of_many", &[]).await?;
        outcomes.push(outcome);
    }
    transaction.commit().await?;
    Ok(outcomes)
}
