//! The pool of connections to PostgreSQL, and the transactions on them.
//!
//! The pool makes a connection when a transaction needs one, and keeps it afterwards. When one connection shows that
//! its server was shut down or demoted, the pool drops all connections.

use super::bound;
use super::servers::{Connected, Servers, state_of};
use crate::database::DatabaseError;
use crate::database::server_url::ServerState;
use crate::database::sql::{Fault, Row, Session, Value};
use async_trait::async_trait;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

/// How long a direct connection may take to begin a transaction, and any connection to roll one back or to close.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a pooler may take to begin a transaction. The pooler may have to wait for a connection to the server.
const POOLER_WITHIN: Duration = Duration::from_secs(20);

/// How long a connection is kept.
const MAX_LIFETIME: Duration = Duration::from_mins(30);

/// How long an unused connection is kept.
const MAX_IDLE: Duration = Duration::from_mins(10);

/// How long ago a connection may have been used so that a single statement is sent without a look at the server first.
const RECENT: Duration = Duration::from_secs(30);

/// Limits the statements that have no transaction around them. Only for a session that no pooler shares.
const LIMIT_SESSION: &str = "SET statement_timeout = '10s'";

/// Begins a transaction, asks for the server's state, and sets the time limits, all in one message. The limits are set
/// for the transaction and not for the session, because a pooler may share the session. They end a transaction that
/// hangs, so that it does not hold its locks for ever. A call gives up after 30 s and says so. The server waits longer for
/// an idle transaction, because otherwise its message would sometimes take the place of the call's own.
macro_rules! begin {
    ($how:literal $(, $also:literal)?) => {
        concat!(
            "BEGIN ISOLATION LEVEL ",
            $how,
            "; SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean, ",
            "set_config('statement_timeout', '10s', true), ",
            "set_config('idle_in_transaction_session_timeout', '40s', true)"
            $(, $also)?
        )
    };
}

/// Begins a transaction that reads.
pub(super) const READ: &str = begin!("REPEATABLE READ READ ONLY");

/// Begins a transaction that writes. It does not say `READ WRITE`: a standby would then fail with an error about an
/// unsupported feature, instead of showing that it is a standby.
///
/// A transaction that writes finds each row by a key. The server keeps the plan of a statement that was sent before, and a
/// plan from the time when a table was small would still scan all of it when it has grown. So no plan scans a table that
/// has an index for the statement.
pub(super) const WRITE: &str = begin!("READ COMMITTED", ", set_config('enable_seqscan', 'off', true)");

/// Begins a transaction like [`WRITE`] for several callers. It waits only briefly for a lock, so that the callers who need
/// no lock that another transaction holds do not wait for it. It also ends each deadlock before the server looks for one.
pub(super) const WRITE_TOGETHER: &str =
    begin!("READ COMMITTED", ", set_config('enable_seqscan', 'off', true), set_config('lock_timeout', '300ms', true)");

/// A pool of connections. Clones share the connections.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    servers: Servers,
    size: u32,
    /// One permit for each transaction that may be open.
    permits: Arc<Semaphore>,
    idle: Mutex<Idle>,
    /// Notified each time that the pool drops all connections.
    left: watch::Sender<()>,
}

/// The connections that no transaction uses.
#[derive(Default)]
struct Idle {
    connections: Vec<PooledConnection>,
    /// Increased each time that the pool drops all connections. A connection of an older generation is not used again.
    generation: u64,
}

/// A connection of the pool.
struct PooledConnection {
    connection: PgConnection,
    is_direct: bool,
    /// Whether [`LIMIT_SESSION`] was sent.
    is_limited: bool,
    generation: u64,
    created: Instant,
    last_used: Instant,
}

impl Pool {
    /// Creates a pool without connections.
    pub fn new(servers: Servers, size: u32) -> Self {
        let permits = Arc::new(Semaphore::new(size as usize));
        Self(Arc::new(Shared { servers, size, permits, idle: Mutex::default(), left: watch::Sender::new(()) }))
    }

    /// Returns the servers that the pool connects to.
    pub fn servers(&self) -> &Servers {
        &self.0.servers
    }

    /// Returns how many transactions may be open at a time.
    pub fn size(&self) -> u32 {
        self.0.size
    }

    /// Returns a receiver that is notified each time that the pool drops all connections.
    pub fn left(&self) -> watch::Receiver<()> {
        self.0.left.subscribe()
    }

    /// Begins a transaction with one of the texts above, on an idle connection or on a new one.
    pub async fn begin(&self, how: &'static str) -> Result<PgSession, Fault> {
        let permit = self.permit().await?;
        self.begin_with(permit, how).await
    }

    async fn begin_with(&self, permit: OwnedSemaphorePermit, how: &'static str) -> Result<PgSession, Fault> {
        while let Some(pooled) = self.0.take() {
            match self.0.begin_on(pooled, how).await {
                Ok(pooled) => return Ok(PgSession::new(pooled, permit, Arc::clone(&self.0), true)),
                // The connection failed while it was idle. Another idle connection may work. If none does, the error of
                // a new connection says what is wrong.
                Err(error) => {
                    tracing::debug!(%error, "a connection that was kept is of no use any more");
                    self.0.drop_all();
                }
            }
        }
        let generation = self.0.idle().generation;
        let Connected { connection, is_direct, .. } = self.0.servers.connect().await?;
        let (created, last_used) = (Instant::now(), Instant::now());
        let pooled = PooledConnection { connection, is_direct, is_limited: false, generation, created, last_used };
        let pooled = self.0.begin_on(pooled, how).await?;
        Ok(PgSession::new(pooled, permit, Arc::clone(&self.0), true))
    }

    /// Begins a session for one statement. If a direct connection was in use recently, the statement is sent alone. A
    /// server that takes no writes any more refuses one that writes, and one that reads has to ask for the server's
    /// state itself. Otherwise a transaction begins with `otherwise`.
    pub async fn single(&self, otherwise: &'static str) -> Result<PgSession, Fault> {
        let permit = self.permit().await?;
        match self.0.take() {
            Some(mut pooled) if pooled.is_direct && pooled.last_used.elapsed() < RECENT => match pooled.limit().await {
                Ok(()) => Ok(PgSession::new(pooled, permit, Arc::clone(&self.0), false)),
                Err(error) => {
                    tracing::debug!(%error, "a connection that was kept is of no use any more");
                    self.0.drop_all();
                    self.begin_with(permit, otherwise).await
                }
            },
            Some(pooled) => {
                self.0.put_back_unused(pooled);
                self.begin_with(permit, otherwise).await
            }
            None => self.begin_with(permit, otherwise).await,
        }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Fault> {
        let closed = |_| Fault::from(sqlx::Error::PoolClosed);
        Arc::clone(&self.0.permits).acquire_owned().await.map_err(closed)
    }

    /// Waits up to [`CALL_TIMEOUT`] for open transactions, and closes every connection cleanly.
    pub async fn close(&self) {
        if timeout(CALL_TIMEOUT, self.0.permits.acquire_many(self.0.size)).await.is_err() {
            tracing::debug!("closing the connections to the account database while some are in use");
        }
        self.0.permits.close();
        let connections = std::mem::take(&mut self.0.idle().connections);
        futures::future::join_all(connections.into_iter().map(PooledConnection::close)).await;
    }
}

impl Shared {
    /// Takes the idle connection that was used last, because it is the most likely to work.
    fn take(&self) -> Option<PooledConnection> {
        let mut idle = self.idle();
        let (fresh, old) = std::mem::take(&mut idle.connections).into_iter().partition(PooledConnection::is_fresh);
        idle.connections = fresh;
        let taken = idle.connections.pop();
        drop(idle);
        close_in_background(old);
        taken
    }

    fn put_back(&self, mut pooled: PooledConnection) {
        pooled.last_used = Instant::now();
        self.put_back_unused(pooled);
    }

    fn put_back_unused(&self, pooled: PooledConnection) {
        let mut idle = self.idle();
        if pooled.generation == idle.generation && pooled.is_fresh() && !self.permits.is_closed() {
            idle.connections.push(pooled);
        } else {
            drop(idle);
            close_in_background(vec![pooled]);
        }
    }

    /// Drops all connections: the idle ones now, and the ones in use when their transaction ends.
    fn drop_all(&self) {
        let mut idle = self.idle();
        idle.generation += 1;
        let connections = std::mem::take(&mut idle.connections);
        drop(idle);
        close_in_background(connections);
        self.left.send_replace(());
    }

    async fn begin_on(&self, mut pooled: PooledConnection, how: &'static str) -> Result<PooledConnection, Fault> {
        let within = if pooled.is_direct { CALL_TIMEOUT } else { POOLER_WITHIN };
        let begun = timeout(within, sqlx::raw_sql(how).fetch_all(&mut pooled.connection)).await;
        let rows = begun.map_err(|_| sqlx::Error::PoolTimedOut)??;
        let state = state_of(rows.last().ok_or(sqlx::Error::BeginFailed)?)?;
        match self.servers.refuses(state) {
            Some(reason) => {
                close_in_background(vec![pooled]);
                Err(DatabaseError::Unavailable { reason: format!("{}: {reason}", self.servers) }.into())
            }
            None => Ok(pooled),
        }
    }

    /// Locks the idle connections. A poisoned lock is used too, because no code that holds it leaves a partial change.
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PooledConnection {
    fn is_fresh(&self) -> bool {
        self.created.elapsed() < MAX_LIFETIME && self.last_used.elapsed() < MAX_IDLE
    }

    /// Sets the time limit of statements without a transaction, unless it is set.
    async fn limit(&mut self) -> Result<(), sqlx::Error> {
        if self.is_limited {
            return Ok(());
        }
        let limited = timeout(CALL_TIMEOUT, sqlx::raw_sql(LIMIT_SESSION).execute(&mut self.connection)).await;
        limited.map_err(|_| sqlx::Error::PoolTimedOut)??;
        self.is_limited = true;
        Ok(())
    }

    async fn close(self) {
        match timeout(CALL_TIMEOUT, self.connection.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a connection to the account database did not end in good order"),
            Err(_) => tracing::debug!("a connection to the account database did not end in time"),
        }
    }
}

/// Closes the connections cleanly in the background. Outside of a Tokio runtime it drops them without a clean close.
fn close_in_background(connections: Vec<PooledConnection>) {
    if let Ok(runtime) = Handle::try_current()
        && !connections.is_empty()
    {
        runtime.spawn(futures::future::join_all(connections.into_iter().map(PooledConnection::close)));
    }
}

/// Returns whether the error means that the connection is lost, or that its server shuts down or no longer takes
/// writes.
pub(super) fn is_end_of_connection(error: &sqlx::Error) -> bool {
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

/// An open transaction, which is rolled back if it is dropped before [`Session::finish`]; or a connection for one
/// statement, which is a transaction by itself.
pub(crate) struct PgSession {
    /// `None` once the transaction has ended.
    pooled: Option<PooledConnection>,
    permit: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
    is_transaction: bool,
}

impl PgSession {
    fn new(pooled: PooledConnection, permit: OwnedSemaphorePermit, shared: Arc<Shared>, is_transaction: bool) -> Self {
        Self { pooled: Some(pooled), permit: Some(permit), shared, is_transaction }
    }

    /// Returns the connection, and whether prepared statements may stay on it.
    pub fn connection(&mut self) -> Result<(&mut PgConnection, bool), sqlx::Error> {
        let pooled = self.pooled.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        Ok((&mut pooled.connection, pooled.is_direct))
    }

    /// Returns whether a transaction has begun, so that the connection worked when the session began.
    pub fn is_transaction(&self) -> bool {
        self.is_transaction
    }

    /// Returns whether the connection ended before the session did.
    pub fn is_lost(&self) -> bool {
        self.pooled.is_none()
    }

    /// Returns whether a server in this state is suitable. If it is not, the pool drops this connection and all others.
    pub fn suits(&mut self, state: ServerState) -> bool {
        let suits = self.shared.servers.refuses(state).is_none();
        if !suits {
            self.shared.drop_all();
            close_in_background(self.pooled.take().into_iter().collect());
        }
        suits
    }

    /// Passes the server's answer on. If it shows the end of the connection, the pool drops this connection and all
    /// others.
    pub fn noted<T>(&mut self, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if let Err(error) = &answer
            && is_end_of_connection(error)
        {
            self.shared.drop_all();
            close_in_background(self.pooled.take().into_iter().collect());
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
        // The statement's text depends on the number of rows, so a prepared statement would rarely be used again.
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
        if self.is_transaction {
            let (connection, _) = self.connection()?;
            let ended = sqlx::raw_sql("COMMIT").execute(connection).await;
            self.noted(ended)?;
        }
        if let Some(pooled) = self.pooled.take() {
            self.shared.put_back(pooled);
        }
        Ok(())
    }
}

impl Drop for PgSession {
    fn drop(&mut self) {
        let (Some(mut pooled), Ok(runtime)) = (self.pooled.take(), Handle::try_current()) else { return };
        let (permit, shared) = (self.permit.take(), Arc::clone(&self.shared));
        // Outside of a transaction the server would log a warning about a rollback.
        let end = if self.is_transaction { "ROLLBACK" } else { "SELECT 1" };
        runtime.spawn(async move {
            match timeout(CALL_TIMEOUT, sqlx::raw_sql(end).execute(&mut pooled.connection)).await {
                Ok(Ok(_)) => shared.put_back(pooled),
                // The connection is dropped here, so the server rolls back.
                Ok(Err(error)) => tracing::debug!(%error, "a transaction was not rolled back in good order"),
                Err(_) => tracing::debug!("a transaction was not rolled back in time"),
            }
            drop(permit);
        });
    }
}
