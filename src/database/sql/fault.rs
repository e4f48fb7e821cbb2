//! Converts a driver's error to a [`DatabaseError`], for both databases.

use super::{Dialect, ErrorKind, SqlAccounts};
use crate::database::DatabaseError;
use sqlx::migrate::MigrateError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Why a call failed: the driver's error, or an error of the trait.
#[derive(Clone)]
pub(crate) enum Fault {
    /// Shared, because one failed commit may be the fault of several calls.
    Driver(Arc<sqlx::Error>),
    Explained(DatabaseError),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(Arc::new(error))
    }
}

impl From<DatabaseError> for Fault {
    fn from(error: DatabaseError) -> Self {
        Self::Explained(error)
    }
}

impl From<MigrateError> for Fault {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            other => Self::Explained(DatabaseError::Refused { reason: other.to_string() }),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(error) => f.write_str(&said(error)),
            Self::Explained(error) => error.fmt(f),
        }
    }
}

impl<D: Dialect> SqlAccounts<D> {
    /// Waits for a permit, runs the work within the time limit, and converts its error to a [`DatabaseError`].
    pub(super) async fn answer<T>(
        &self,
        within: Duration,
        work: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, DatabaseError> {
        let closed = |_| DatabaseError::Unavailable { reason: format!("{}: closed", self.dialect) };
        let _turn = self.turns.acquire().await.map_err(closed)?;
        self.answer_at_once(within, work).await
    }

    /// Does the same as [`Self::answer`] without a permit, for work that shares the connection of other calls.
    pub(super) async fn answer_at_once<T>(
        &self,
        within: Duration,
        work: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, DatabaseError> {
        match timeout(within, work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(fault)) => Err(self.explained(fault).await),
            Err(_) => Err(self.no_answer(within)),
        }
    }

    /// Returns the error of a call that ended without an answer within this time.
    pub(super) fn no_answer(&self, within: Duration) -> DatabaseError {
        DatabaseError::Unavailable { reason: format!("{}: no answer within {} s", self.dialect, within.as_secs()) }
    }

    /// Converts a fault to the error of the trait.
    pub(super) async fn explained(&self, fault: Fault) -> DatabaseError {
        match fault {
            Fault::Explained(error) => error,
            Fault::Driver(error) => self.explain(&error).await,
        }
    }

    async fn explain(&self, error: &sqlx::Error) -> DatabaseError {
        let reason = format!("{}: {}", self.dialect, said(error));
        match self.meaning(error) {
            ErrorKind::Later => DatabaseError::Unavailable { reason },
            ErrorKind::Refused => DatabaseError::Refused { reason },
            ErrorKind::Schema => match self.pending().await {
                Ok(pending) if pending.is_empty() => DatabaseError::Refused { reason },
                Ok(pending) => DatabaseError::OlderSchema { pending },
                Err(Fault::Explained(error)) => error,
                Err(Fault::Driver(_)) => DatabaseError::Unavailable { reason },
            },
        }
    }

    pub(super) fn meaning(&self, error: &sqlx::Error) -> ErrorKind {
        match error {
            sqlx::Error::Database(error) => self.dialect.error_kind(&**error),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => ErrorKind::Later,
            _ => ErrorKind::Refused,
        }
    }
}

/// Returns the driver's error as a short text.
pub(crate) fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) if error.message().contains("statement pooling mode") => format!(
            "{}; set pool_mode of PgBouncer to transaction or session, because each change of an account is a transaction",
            error.message()
        ),
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Protocol(text) => {
            // The driver's text ends with a place in the driver's own source.
            let end = text.rfind(" (sqlx_").unwrap_or(text.len());
            format!("it does not answer as a PostgreSQL server does: {}", &text[..end])
        }
        sqlx::Error::PoolTimedOut => "no connection within the time allowed".to_owned(),
        sqlx::Error::PoolClosed => "the connections were closed".to_owned(),
        other => other.to_string(),
    }
}
