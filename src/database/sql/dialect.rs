//! What differs between the databases: how a transaction begins, some SQL, and the meaning of error codes.
//!
//! A statement that both databases understand belongs to the other files of this folder.

use super::commit::ChangeGroup;
use super::fault::Fault;
use super::logins::{Acceptance, Accepted};
use super::read::{self, Which};
use crate::account::Account;
use crate::database::{Change, Changed};
use crate::login::AccessChange;
use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use sqlx::FromRow;
use sqlx::error::DatabaseError as ServerError;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use std::fmt;

/// One kind of database.
#[async_trait]
pub(crate) trait Dialect: fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// An open transaction.
    type Session: Session;

    /// Whether the triggers increase an account's version for each row, and not once for a transaction.
    const COUNTS_EACH_ROW: bool;

    /// Statement that waits until no other transaction writes key pairs, and then blocks such writes; `None`: only one
    /// transaction writes at a time anyway.
    const LOCK_KEYS: Option<&'static str>;

    /// Query for the privileges that a controller needs and the database's user lacks; `None`: there are no users.
    const MISSING_PRIVILEGES: Option<&'static str>;

    /// A query for what is wrong with the role of an auth server, and the statement that corrects it. `None` for a
    /// database without roles.
    const AUTH_SERVER_ROLE: Option<&'static str>;

    /// Query for the history that the data continue; `None`: the database has one history.
    const HISTORY: Option<&'static str>;

    /// Query for the present mark of a sweep, with the accounts that changed since the last one; `$1`: the cluster, `$2`
    /// and `$3`: moment and owners of the last mark, or null. Without accounts, there is one row that has only the mark.
    /// `None`: [`Self::data_version`] tells whether anything changed.
    const CHANGES: Option<&'static str>;

    /// The accounts of many owners; `$1`: a JSON list of lists of cluster, namespace and name. Each database has its
    /// own functions to read JSON.
    const BY_OWNERS: Which;

    /// The accounts that hold names or API keys; `$1`: a JSON list of comparable names, `$2`: a JSON list of API keys.
    const HOLDERS: Which;

    /// Returns how many calls can run at a time. Further calls wait without a time limit.
    fn at_a_time(&self) -> usize;

    /// Query for the accounts that hold one of these names, with the columns of [`super::rows::HolderRow`]; `$1`: a
    /// JSON list of comparable names.
    const NAMES: &'static str;

    /// Query for the affiliates with one of these names; `$1`: a JSON list of names.
    const AFFILIATES: &'static str;

    /// Query for the hashes that are in `revoked_keys`; `$1`: a JSON list of hashes.
    const REVOKED: &'static str;

    /// Statement that records uses of key pairs that exist; `$1`: a JSON list of lists of the key pair's id, its first
    /// and its last use.
    const RECORD_USES: &'static str;

    /// Statements that remove rows and return their ids: logins that expired by `$1`, and assertions that need not be
    /// remembered after `$1`; `$2`: the limit.
    const PURGE_BY_TIME: [&'static str; 2];

    /// Statement that removes the uses of key pairs that no longer exist, and returns the key pairs' ids; `$1`: the
    /// limit.
    const PURGE_USES: &'static str;

    /// Begins a transaction that reads. All its statements see the same state, so that each account is consistent.
    async fn read(&self) -> Result<Self::Session, Fault>;

    /// Begins a transaction that writes.
    async fn write(&self) -> Result<Self::Session, Fault>;

    /// Reads the account of a selection of at most one account.
    async fn find(&self, which: &Which, values: &[Value<'_>]) -> Result<Option<Account>, Fault> {
        let mut session = self.read().await?;
        let account = read::first(&mut session, which, values).await?;
        session.finish().await?;
        Ok(account)
    }

    /// Makes the changes of a group in one transaction, and gives each caller its answer. A change that cannot be
    /// committed does not affect the others.
    async fn commit_together(&self, changes: &ChangeGroup);

    /// Makes a change in a transaction of its own, and returns the account as read back.
    async fn commit_alone(&self, change: &Change) -> Result<Account, Fault>;

    /// Begins a session for one statement that writes. The statement may be committed before [`Session::finish`].
    async fn single(&self) -> Result<Self::Session, Fault> {
        self.write().await
    }

    /// Records an assertion, and what it is accepted for, completely or not at all. Concurrent calls share commits.
    async fn accept(&self, acceptance: Acceptance) -> Result<Accepted, Fault>;

    /// Returns this program's migrations.
    fn migrations(&self) -> &'static Migrator;

    /// Applies the missing migrations in one transaction that other programs wait for.
    async fn migrate(&self) -> Result<(), Fault>;

    /// Returns the meaning of the database's error code.
    fn error_kind(&self, error: &dyn ServerError) -> ErrorKind;

    /// Returns the database's notifications of changes. The stream is empty for a database without notifications.
    fn changes(&self) -> BoxStream<'static, Changed> {
        Box::pin(stream::empty())
    }

    /// Returns the database's notifications of what changed about access. The stream is empty for a database without
    /// notifications.
    fn access_changes(&self) -> BoxStream<'static, AccessChange> {
        Box::pin(stream::empty())
    }

    /// Sends a heartbeat to the listeners of [`Self::access_changes`].
    async fn heartbeat(&self, _number: u64) -> Result<(), Fault> {
        Ok(())
    }

    /// Returns a number that differs after each commit in the database; `None` for a database with notifications.
    async fn data_version(&self) -> Result<Option<i64>, Fault> {
        Ok(None)
    }

    /// Returns the last number if it is seen without waiting that nothing was committed since; otherwise `None`.
    fn data_version_at_once(&self) -> Option<i64> {
        None
    }

    /// Closes every connection cleanly.
    async fn close(&self);
}

/// What an error means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// A later try may succeed.
    Later,
    /// A table or a column is missing.
    Schema,
    /// A later try would fail in the same way.
    Refused,
}

/// An open transaction. It is rolled back if it is dropped before [`Session::finish`].
#[async_trait]
pub(crate) trait Session: Send {
    /// Runs a statement.
    async fn run(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<(), sqlx::Error>;

    /// Runs a statement whose text this program built. The text must contain placeholders and never values.
    async fn run_built(&mut self, sql: String, values: &[Value<'_>]) -> Result<(), sqlx::Error>;

    /// Runs a query.
    async fn rows<R: Row>(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<R>, sqlx::Error>;

    /// Commits.
    async fn finish(self) -> Result<(), sqlx::Error>;
}

/// A type that a row of either database can be read into.
pub(crate) trait Row: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin {}

impl<R> Row for R where R: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin {}

/// A parameter of a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    MaybeText(Option<&'a str>),
    Int(i64),
    MaybeInt(Option<i64>),
    Bool(bool),
    Bytes(&'a [u8]),
    MaybeBytes(Option<&'a [u8]>),
}

macro_rules! value_from {
    ($($variant:ident($from:ty)),*) => {
        $(impl<'a> From<$from> for Value<'a> {
            fn from(value: $from) -> Self {
                Self::$variant(value)
            }
        })*
    };
}

value_from!(
    Text(&'a str),
    MaybeText(Option<&'a str>),
    Int(i64),
    MaybeInt(Option<i64>),
    Bool(bool),
    Bytes(&'a [u8]),
    MaybeBytes(Option<&'a [u8]>)
);

/// Defines a driver's function `bound`, which binds the parameters of a query. This is a macro because a generic
/// function would need a trait bound for every type that a statement binds.
macro_rules! binding {
    ($driver:ident) => {
        type Query<'q> = sqlx::query::Query<'q, sqlx::$driver, <sqlx::$driver as sqlx::Database>::Arguments>;

        fn bound<'q>(query: Query<'q>, values: &[$crate::database::sql::Value<'_>]) -> Query<'q> {
            use $crate::database::sql::Value;
            values.iter().fold(query, |query, value| match *value {
                Value::Text(text) => query.bind(text),
                Value::MaybeText(text) => query.bind(text),
                Value::Int(number) => query.bind(number),
                Value::MaybeInt(number) => query.bind(number),
                Value::Bool(truth) => query.bind(truth),
                Value::Bytes(bytes) => query.bind(bytes),
                Value::MaybeBytes(bytes) => query.bind(bytes),
            })
        }
    };
}
pub(crate) use binding;

/// Implements [`Session`] for a driver's transaction. This is a macro for the same reason as `binding`.
macro_rules! session {
    ($driver:ident) => {
        const _: () = {
            use $crate::database::sql::{Row, Session, Value};
            $crate::database::sql::binding!($driver);

            #[async_trait::async_trait]
            impl Session for sqlx::Transaction<'static, sqlx::$driver> {
                async fn run(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<(), sqlx::Error> {
                    bound(sqlx::query(sql), values).execute(&mut **self).await.map(|_| ())
                }

                async fn run_built(&mut self, sql: String, values: &[Value<'_>]) -> Result<(), sqlx::Error> {
                    // The statement's text depends on the number of rows, so a prepared statement would rarely be used
                    // again.
                    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).persistent(false);
                    bound(query, values).execute(&mut **self).await.map(|_| ())
                }

                async fn rows<R: Row>(
                    &mut self,
                    sql: &'static str,
                    values: &[Value<'_>],
                ) -> Result<Vec<R>, sqlx::Error> {
                    let rows = bound(sqlx::query(sql), values).fetch_all(&mut **self).await?;
                    rows.iter().map(R::from_row).collect()
                }

                async fn finish(self) -> Result<(), sqlx::Error> {
                    self.commit().await
                }
            }
        };
    };
}
pub(crate) use session;
