//! Receives notifications of changes by `LISTEN` on a separate connection.
//!
//! The connection is made again when it is lost, or when its server is no longer suitable.

use super::pool::Pool;
use super::servers::{STATE, state_of};
use super::{meaning, said};
use crate::backoff::Backoff;
use crate::database::DatabaseError;
use crate::database::sql::ErrorKind;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use std::marker::PhantomData;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long no notification may arrive before the connection is tested. A connection whose other end has disappeared
/// receives none either.
const QUIET_FOR: Duration = Duration::from_secs(15);

/// How long a connection may take to open, to close or to answer the test.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The pauses before a lost connection is made again.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// The notifications of one channel.
pub(super) trait News: Sized + Send + 'static {
    /// The channel.
    const CHANNEL: &'static str;

    /// Returns the news that anything may have changed.
    fn anything() -> Self;

    /// Reads the text of a notification. An unreadable one still means that something changed.
    fn read(payload: &str) -> Self;

    /// Returns the last news of the stream, if it has one: the server allows no notifications, for this reason.
    fn silence(reason: String) -> Option<Self>;
}

/// Returns the stream of the server's notifications. It begins with [`News::anything`], and has it again after each
/// interruption.
pub(super) fn listen<N: News>(pool: Pool) -> BoxStream<'static, N> {
    let start = Listening { left: pool.left(), pool, state: State::Lost { failures: 0 }, news: PhantomData };
    stream::unfold(start, Listening::next).boxed()
}

struct Listening<N> {
    pool: Pool,
    /// Notified when the pool drops all its connections: this connection must then be tested too.
    left: watch::Receiver<()>,
    state: State,
    news: PhantomData<fn() -> N>,
}

enum State {
    Lost { failures: u32 },
    Connected(PgListener),
    Refused,
}

/// Why `LISTEN` failed.
enum ListenError {
    /// A later try may succeed.
    Temporary,
    /// Every later try would fail too.
    Permanent { reason: String },
}

impl<N: News> Listening<N> {
    async fn next(mut self) -> Option<(N, Self)> {
        loop {
            let (news, state) = match self.state {
                State::Refused => return None,
                State::Lost { failures } => {
                    if let Some(earlier) = failures.checked_sub(1) {
                        sleep(BACKOFF.pause(earlier)).await;
                    }
                    self.left.mark_unchanged();
                    match connect(&self.pool, N::CHANNEL).await {
                        Ok(listener) => (Some(N::anything()), State::Connected(listener)),
                        Err(ListenError::Permanent { reason }) => (N::silence(reason), State::Refused),
                        Err(ListenError::Temporary) => (None, State::Lost { failures: failures + 1 }),
                    }
                }
                State::Connected(mut listener) => match receive(&mut listener, &self.pool, &mut self.left).await {
                    Some(news) => (Some(news), State::Connected(listener)),
                    None => (None, State::Lost { failures: 1 }),
                },
            };
            self.state = state;
            if let Some(news) = news {
                return Some((news, self));
            }
        }
    }
}

async fn connect(pool: &Pool, channel: &str) -> Result<PgListener, ListenError> {
    // The driver's listener takes one server, and cannot tell whether a pooler is in between. So an ordinary connection
    // finds the suitable server first.
    let found = pool.servers().connect().await?;
    let closed = timeout(CALL_TIMEOUT, found.connection.close()).await;
    closed.map_err(|_| ListenError::Temporary)??;
    if !found.is_direct {
        let reason = "it is reached through a pooler, which may keep what the server tells to itself".to_owned();
        return Err(ListenError::Permanent { reason });
    }
    let mut listener = listener(pool.servers().options(found.server)?).await?;
    if !is_usable(&mut listener, pool).await {
        return Err(ListenError::Temporary);
    }
    timeout(CALL_TIMEOUT, listener.listen(channel)).await.map_err(|_| ListenError::Temporary)??;
    Ok(listener)
}

/// Opens a listener with a pool of its own. In a shared pool a lost connection would occupy its slot until the network
/// gives the connection up.
async fn listener(options: PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let one = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(CALL_TIMEOUT)
        .connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&one).await?;
    listener.eager_reconnect(false);
    Ok(listener)
}

/// Returns whether the connection works and its server is still suitable.
async fn is_usable(listener: &mut PgListener, pool: &Pool) -> bool {
    match timeout(CALL_TIMEOUT, sqlx::raw_sql(STATE).fetch_one(listener)).await {
        Ok(Ok(row)) => state_of(&row).is_ok_and(|state| pool.servers().refuses(state).is_none()),
        Ok(Err(_)) | Err(_) => false,
    }
}

/// Waits for the next notification. Returns `None` once the connection is lost or its server is no longer suitable.
async fn receive<N: News>(listener: &mut PgListener, pool: &Pool, left: &mut watch::Receiver<()>) -> Option<N> {
    loop {
        let needs_test = tokio::select! {
            received = listener.try_recv() => match received {
                Ok(Some(notification)) => return Some(N::read(notification.payload())),
                Ok(None) | Err(_) => return None,
            },
            () = sleep(QUIET_FOR) => true,
            notified = left.changed() => notified.is_ok(),
        };
        if !needs_test || !is_usable(listener, pool).await {
            return None;
        }
    }
}

impl From<sqlx::Error> for ListenError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) if meaning(&**database) == ErrorKind::Refused => {
                Self::Permanent { reason: said(&error) }
            }
            _ => Self::Temporary,
        }
    }
}

impl From<DatabaseError> for ListenError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Refused { reason } => Self::Permanent { reason },
            _ => Self::Temporary,
        }
    }
}
