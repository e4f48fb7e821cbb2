//! The connections to PostgreSQL and the transactions on them. A connection is made when one is needed and kept while it is
//! good. When one shows that its server has been shut down or demoted, all others are left too.

use super::bound;
use super::servers::{Connected, Servers, state_of};
use crate::database::DatabaseError;
use crate::database::sql::{Fault, Row, Session, Value};
use async_trait::async_trait;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

/// How long a connection that was kept may take to begin a transaction, to roll one back or to end.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long a pooler may let a transaction wait for a connection of its own.
const POOLER_WITHIN: Duration = Duration::from_secs(20);

/// How long a connection is kept at all, and how long if nobody uses it.
const LONGEST_LIFE: Duration = Duration::from_mins(30);
const LONGEST_REST: Duration = Duration::from_mins(10);

/// Begins a transaction, limits it, and asks the server what it is, all in one message. The limits are set for each
/// transaction and not for the session, which a pooler may share. Whoever hangs in the middle of a transaction must not hold
/// its locks for ever.
macro_rules! begin {
    ($how:literal) => {
        concat!(
            "BEGIN ISOLATION LEVEL ",
            $how,
            "; SET LOCAL statement_timeout = '10s'; SET LOCAL idle_in_transaction_session_timeout = '30s'; ",
            "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean"
        )
    };
}

/// Begins to read.
pub(super) const READ: &str = begin!("REPEATABLE READ READ ONLY");

/// Begins to write. Not `READ WRITE`: a standby would refuse that as a feature it lacks, and not as what it is.
pub(super) const WRITE: &str = begin!("READ COMMITTED");

/// The connections.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    servers: Servers,
    size: u32,
    /// One for each transaction that may be open.
    places: Arc<Semaphore>,
    resting: Mutex<IdleConnection>,
    /// Told each time that all connections are left.
    left: watch::Sender<()>,
}

/// The connections that nobody uses.
#[derive(Default)]
struct IdleConnection {
    links: Vec<PooledConnection>,
    /// Counted up each time that all connections are left.
    generation: u64,
}

/// A connection, and what is known of it.
struct PooledConnection {
    connection: PgConnection,
    is_direct: bool,
    generation: u64,
    made: Instant,
    used: Instant,
}

impl Pool {
    /// No connection is made yet.
    pub fn new(servers: Servers, size: u32) -> Self {
        let places = Arc::new(Semaphore::new(size as usize));
        Self(Arc::new(Shared { servers, size, places, resting: Mutex::default(), left: watch::Sender::new(()) }))
    }

    /// Where the connections go.
    pub fn servers(&self) -> &Servers {
        &self.0.servers
    }

    /// How many transactions may be open at a time.
    pub fn size(&self) -> u32 {
        self.0.size
    }

    /// Told each time that all connections are left.
    pub fn left(&self) -> watch::Receiver<()> {
        self.0.left.subscribe()
    }

    /// Begins a transaction, with [`READ`] or [`WRITE`], on a connection that was kept or on a new one.
    pub async fn begin(&self, how: &'static str) -> Result<PgSession, Fault> {
        let closed = |_| Fault::Driver(sqlx::Error::PoolClosed);
        let place = Arc::clone(&self.0.places).acquire_owned().await.map_err(closed)?;
        while let Some(link) = self.0.take() {
            match self.0.begin_on(link, how).await {
                Ok(link) => return Ok(PgSession::new(link, place, Arc::clone(&self.0))),
                // Whatever became of it while nobody used it, the next one may be good, and a new one will tell.
                Err(error) => {
                    tracing::debug!(%error, "a connection that was kept is of no use any more");
                    self.0.leave_all();
                }
            }
        }
        let generation = self.0.resting().generation;
        let Connected { connection, is_direct, .. } = self.0.servers.connect().await?;
        let (made, used) = (Instant::now(), Instant::now());
        let link = PooledConnection { connection, is_direct, generation, made, used };
        let link = self.0.begin_on(link, how).await?;
        Ok(PgSession::new(link, place, Arc::clone(&self.0)))
    }

    /// Waits a little for open transactions, and ends every connection in good order.
    pub async fn close(&self) {
        if timeout(ANSWER_WITHIN, self.0.places.acquire_many(self.0.size)).await.is_err() {
            tracing::debug!("closing the connections to the account database while some are in use");
        }
        self.0.places.close();
        let links = std::mem::take(&mut self.0.resting().links);
        futures::future::join_all(links.into_iter().map(PooledConnection::close)).await;
    }
}

impl Shared {
    /// The connection that was used last, which is the likeliest to be good.
    fn take(&self) -> Option<PooledConnection> {
        let mut resting = self.resting();
        let (fresh, old) = std::mem::take(&mut resting.links).into_iter().partition(PooledConnection::is_fresh);
        resting.links = fresh;
        let taken = resting.links.pop();
        drop(resting);
        close_aside(old);
        taken
    }

    fn put_back(&self, mut link: PooledConnection) {
        link.used = Instant::now();
        let mut resting = self.resting();
        if link.generation == resting.generation && link.is_fresh() && !self.places.is_closed() {
            resting.links.push(link);
        } else {
            drop(resting);
            close_aside(vec![link]);
        }
    }

    /// Leaves every connection that there is: those in use once their transaction has ended.
    fn leave_all(&self) {
        let mut resting = self.resting();
        resting.generation += 1;
        let links = std::mem::take(&mut resting.links);
        drop(resting);
        close_aside(links);
        self.left.send_replace(());
    }

    async fn begin_on(&self, mut link: PooledConnection, how: &'static str) -> Result<PooledConnection, Fault> {
        let within = if link.is_direct { ANSWER_WITHIN } else { POOLER_WITHIN };
        let begun = timeout(within, sqlx::raw_sql(how).fetch_all(&mut link.connection)).await;
        let rows = begun.map_err(|_| sqlx::Error::PoolTimedOut)??;
        let state = state_of(rows.last().ok_or(sqlx::Error::BeginFailed)?)?;
        match self.servers.refuses(state) {
            Some(reason) => {
                close_aside(vec![link]);
                Err(DatabaseError::Unavailable { reason: format!("{}: {reason}", self.servers) }.into())
            }
            None => Ok(link),
        }
    }

    /// A panic elsewhere cannot leave it half changed.
    fn resting(&self) -> MutexGuard<'_, IdleConnection> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PooledConnection {
    fn is_fresh(&self) -> bool {
        self.made.elapsed() < LONGEST_LIFE && self.used.elapsed() < LONGEST_REST
    }

    async fn close(self) {
        match timeout(ANSWER_WITHIN, self.connection.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a connection to the account database did not end in good order"),
            Err(_) => tracing::debug!("a connection to the account database did not end in time"),
        }
    }
}

/// Says goodbye to the server without making anybody wait. Outside of a runtime the connections just end.
fn close_aside(links: Vec<PooledConnection>) {
    if let Ok(runtime) = Handle::try_current()
        && !links.is_empty()
    {
        runtime.spawn(futures::future::join_all(links.into_iter().map(PooledConnection::close)));
    }
}

/// Whether the error says that the server is going, has gone or is not what it was.
fn is_end(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            matches!(
                error.code().as_deref(),
                // read_only_sql_transaction, idle_in_transaction_session_timeout, admin_shutdown, crash_shutdown,
                // cannot_connect_now, idle_session_timeout
                Some("25006" | "25P03" | "57P01" | "57P02" | "57P03" | "57P05")
            ) || error.code().is_some_and(|code| code.starts_with("08"))
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        _ => false,
    }
}

/// An open transaction. Dropped unfinished, it is rolled back.
pub(crate) struct PgSession {
    /// Gone once the transaction has ended.
    link: Option<PooledConnection>,
    place: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
}

impl PgSession {
    fn new(link: PooledConnection, place: OwnedSemaphorePermit, shared: Arc<Shared>) -> Self {
        Self { link: Some(link), place: Some(place), shared }
    }

    /// The connection, and whether statements may be kept prepared on it.
    pub fn connection(&mut self) -> Result<(&mut PgConnection, bool), sqlx::Error> {
        let link = self.link.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        Ok((&mut link.connection, link.is_direct))
    }

    /// Takes in how the server answered. A connection that has ended is not used again, nor are the others.
    pub fn noted<T>(&mut self, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if let Err(error) = &answer
            && is_end(error)
        {
            self.shared.leave_all();
            close_aside(self.link.take().into_iter().collect());
        }
        answer
    }
}

#[async_trait]
impl Session for PgSession {
    async fn run(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<(), sqlx::Error> {
        let (connection, is_direct) = self.connection()?;
        let ran = bound(sqlx::query(sql), values).persistent(is_direct).execute(connection).await;
        self.noted(ran).map(|_| ())
    }

    async fn run_built(&mut self, sql: String, values: &[Value<'_>]) -> Result<(), sqlx::Error> {
        let (connection, _) = self.connection()?;
        // One of many shapes: not worth a place among the prepared statements.
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).persistent(false);
        let ran = bound(query, values).execute(connection).await;
        self.noted(ran).map(|_| ())
    }

    async fn rows<R: Row>(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<R>, sqlx::Error> {
        let (connection, is_direct) = self.connection()?;
        let rows = bound(sqlx::query(sql), values).persistent(is_direct).fetch_all(connection).await;
        self.noted(rows)?.iter().map(R::from_row).collect()
    }

    async fn finish(mut self) -> Result<(), sqlx::Error> {
        let (connection, _) = self.connection()?;
        let ended = sqlx::raw_sql("COMMIT").execute(connection).await;
        self.noted(ended)?;
        if let Some(link) = self.link.take() {
            self.shared.put_back(link);
        }
        Ok(())
    }
}

impl Drop for PgSession {
    fn drop(&mut self) {
        let (Some(mut link), Ok(runtime)) = (self.link.take(), Handle::try_current()) else { return };
        let (place, shared) = (self.place.take(), Arc::clone(&self.shared));
        runtime.spawn(async move {
            match timeout(ANSWER_WITHIN, sqlx::raw_sql("ROLLBACK").execute(&mut link.connection)).await {
                Ok(Ok(_)) => shared.put_back(link),
                // The connection ends here, and the server rolls back.
                Ok(Err(error)) => tracing::debug!(%error, "a transaction was not rolled back in good order"),
                Err(_) => tracing::debug!("a transaction was not rolled back in time"),
            }
            drop(place);
        });
    }
}
