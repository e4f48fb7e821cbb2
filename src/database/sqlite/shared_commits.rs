//! Commits concurrent acceptances together. A commit waits for the disk, so one commit for each of them would be slow.
//!
//! What arrives while another transaction runs, waits for the next one. Each acceptance has a savepoint of its own, so
//! that one that fails does not affect the others.

use super::begin;
use crate::database::sql::{Acceptance, Accepted, Fault, Session as _, accept};
use sqlx::sqlite::SqlitePool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tracing::Instrument as _;

/// How many acceptances one transaction takes.
const AT_ONCE: usize = 256;

type Transaction = sqlx::Transaction<'static, sqlx::Sqlite>;

/// Writes acceptances on the connection for writing. Clones share the queue.
#[derive(Clone)]
pub(super) struct SharedCommits {
    writer: SqlitePool,
    queue: Arc<Mutex<Vec<Waiting>>>,
}

/// An acceptance that is not written yet, and where its outcome goes.
struct Waiting {
    acceptance: Acceptance,
    outcome: oneshot::Sender<Result<Accepted, Fault>>,
}

impl SharedCommits {
    pub fn new(writer: SqlitePool) -> Self {
        Self { writer, queue: Arc::default() }
    }

    /// Writes an acceptance, and returns its outcome once it is committed.
    pub async fn write(&self, acceptance: Acceptance) -> Result<Accepted, Fault> {
        let (outcome, written) = oneshot::channel();
        let is_first = {
            let mut queue = self.queue();
            queue.push(Waiting { acceptance, outcome });
            queue.len() == 1
        };
        if is_first {
            // A task of its own, because the caller may be dropped, and others wait for the same transaction.
            let shared = self.clone();
            tokio::spawn(async move { shared.write_waiting().await }.in_current_span());
        }
        written.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }

    /// Writes what waits, until nothing does. What arrives before a transaction has begun is written in it.
    async fn write_waiting(&self) {
        loop {
            let begun = begin(&self.writer).await;
            let (waiting, is_last) = {
                let mut queue = self.queue();
                let taken = queue.len().min(AT_ONCE);
                (queue.drain(..taken).collect::<Vec<_>>(), queue.is_empty())
            };
            write_and_tell(begun, waiting).await;
            if is_last {
                return;
            }
        }
    }

    /// Locks the queue. A poisoned lock is used too, because no code that holds it leaves a partial change.
    fn queue(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write_and_tell(begun: Result<Transaction, sqlx::Error>, waiting: Vec<Waiting>) {
    // A call that was given up gets no login that nobody would know of.
    let waiting = waiting.into_iter().filter(|waiting| !waiting.outcome.is_closed());
    let (acceptances, outcomes): (Vec<_>, Vec<_>) =
        waiting.map(|waiting| (waiting.acceptance, waiting.outcome)).unzip();
    let written = match begun {
        Ok(transaction) => write_all(transaction, &acceptances).await,
        Err(error) => Err(error),
    };
    let written = written.unwrap_or_else(|error| {
        let error = Arc::new(error);
        outcomes.iter().map(|_| Err(Fault::Driver(Arc::clone(&error)))).collect()
    });
    for (outcome, written) in outcomes.into_iter().zip(written) {
        if outcome.send(written).is_err() {
            tracing::debug!("an assertion was written for a call that nobody waits for any more");
        }
    }
}

/// Writes all acceptances and commits. Fails if the transaction as a whole fails.
async fn write_all(
    mut transaction: Transaction,
    acceptances: &[Acceptance],
) -> Result<Vec<Result<Accepted, Fault>>, sqlx::Error> {
    let mut outcomes = Vec::with_capacity(acceptances.len());
    for acceptance in acceptances {
        transaction.run("SAVEPOINT acceptance", &[]).await?;
        let outcome = accept(&mut transaction, acceptance).await;
        if !matches!(outcome, Ok(Accepted::Done)) {
            // Fails after an error that made SQLite roll back the whole transaction.
            transaction.run("ROLLBACK TO acceptance", &[]).await?;
        }
        transaction.run("RELEASE acceptance", &[]).await?;
        outcomes.push(outcome);
    }
    transaction.commit().await?;
    Ok(outcomes)
}
