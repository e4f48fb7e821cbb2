//! What a database does in its own way: how a transaction begins, and what its error codes mean.

use super::fault::Fault;
use super::read::Which;
use crate::database::Changed;
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

    /// Whether the triggers that count an account's version up do so for each row, and not once for a transaction.
    const COUNTS_EACH_ROW: bool;

    /// Waits until nobody else is writing pairs of keys, and lets nobody begin; `None`: whoever writes is alone anyway.
    const LOCK_KEYS: Option<&'static str>;

    /// What the database's user may not do of what a controller needs; `None`: there are no users.
    const MISSING_PRIVILEGES: Option<&'static str>;

    /// The accounts of many owners; `$1`: a JSON list of lists of cluster, namespace and name. Each database has a way of
    /// its own to take one apart.
    const BY_OWNERS: Which;

    /// The accounts that hold names or API keys; `$1`: a JSON list of comparable names, `$2`: one of API keys.
    const HOLDERS: Which;

    /// How many calls can be answered at a time. More wait, for as long as it takes.
    fn at_a_time(&self) -> usize;

    /// The names of those accounts that have one of these, with whatever [`super::rows::HolderRow`] takes; `$1`: a JSON list of
    /// comparable names.
    const NAMES: &'static str;

    /// Those of these affiliates that there are; `$1`: a JSON list of names.
    const AFFILIATES: &'static str;

    /// Those of many hashes that are in `revoked_keys`; `$1`: a JSON list of them.
    const REVOKED: &'static str;

    /// Begins to read. Every statement sees the same state, so that an account is read whole.
    async fn read(&self) -> Result<Self::Session, Fault>;

    /// Begins to write.
    async fn write(&self) -> Result<Self::Session, Fault>;

    /// This program's migrations.
    fn migrations(&self) -> &'static Migrator;

    /// Makes those migrations that are missing, in one transaction that other programs wait for.
    async fn migrate(&self) -> Result<(), Fault>;

    /// What the database's error code says.
    fn error_kind(&self, error: &dyn ServerError) -> ErrorKind;

    /// What it tells of changes; nothing, if it has no way to.
    fn changes(&self) -> BoxStream<'static, Changed> {
        Box::pin(stream::empty())
    }

    /// Ends every connection in good order.
    async fn close(&self);
}

/// What an error says to whoever called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// A later try may succeed.
    Later,
    /// A table or a column is missing.
    Schema,
    /// It will be the same the next time.
    Refused,
}

/// An open transaction. Dropped unfinished, it is rolled back.
#[async_trait]
pub(crate) trait Session: Send {
    /// Runs a statement.
    async fn run(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<(), sqlx::Error>;

    /// Runs a statement that was put together here, of placeholders and never of values.
    async fn run_built(&mut self, sql: String, values: &[Value<'_>]) -> Result<(), sqlx::Error>;

    /// Runs a query.
    async fn rows<R: Row>(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<R>, sqlx::Error>;

    /// Commits.
    async fn finish(self) -> Result<(), sqlx::Error>;
}

/// Anything that a row of either database can be read into.
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

value_from!(Text(&'a str), MaybeText(Option<&'a str>), Int(i64), MaybeInt(Option<i64>), Bool(bool), Bytes(&'a [u8]));

/// Makes a driver's `bound`, which gives a query its parameters. A macro, because the traits of the drivers name every type
/// that a statement binds, and a generic function would be nothing but those bounds.
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
            })
        }
    };
}
pub(crate) use binding;

/// Makes a driver's transaction a [`Session`]. A macro for the same reason.
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
                    // One of many shapes: not worth a place among the prepared statements.
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
