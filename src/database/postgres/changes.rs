//! Receives notifications of changes by `LISTEN` on a separate connection.
//!
//! The connection is made again when it is lost, or when its server is no longer suitable.

use super::pool::Pool;
use super::servers::{STATE, state_of};
use super::{meaning, said};
use crate::account::{ClusterId, Owner, Version};
use crate::backoff::Backoff;
use crate::database::sql::ErrorKind;
use crate::database::{Changed, DatabaseError};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use serde::Deserialize;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

const CHANNEL: &str = "opsadmin_accounts";

/// How long no notification may arrive before the connection is tested. A connection whose other end has disappeared
/// receives none either.
const QUIET_FOR: Duration = Duration::from_secs(15);

/// How long a connection may take to open, to close or to answer the test.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The pauses before a lost connection is made again.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// Returns the stream of the server's notifications.
pub(super) fn changes(pool: Pool) -> BoxStream<'static, Changed> {
    let start = Listening { left: pool.left(), pool, state: State::Lost { failures: 0 } };
    stream::unfold(start, Listening::next).boxed()
}

struct Listening {
    pool: Pool,
    /// Notified when the pool drops all its connections: this connection must then be tested too.
    left: watch::Receiver<()>,
    state: State,
}

enum State {
    Lost { failures: u32 },
    Connected(PgListener),
    Refused,
}

/// The JSON of a notification, as the trigger of the migration writes it.
#[derive(Deserialize)]
struct Payload {
    cluster: String,
    namespace: String,
    name: String,
    version: Option<i64>,
}

/// Why `LISTEN` failed.
enum ListenError {
    /// A later try may succeed.
    Temporary,
    /// Every later try would fail too.
    Permanent { reason: String },
}

impl Listening {
    async fn next(mut self) -> Option<(Changed, Self)> {
        loop {
            let (changed, state) = match self.state {
                State::Refused => return None,
                State::Lost { failures } => {
                    if let Some(earlier) = failures.checked_sub(1) {
                        sleep(BACKOFF.pause(earlier)).await;
                    }
                    self.left.mark_unchanged();
                    match listen(&self.pool).await {
                        Ok(listener) => (Some(Changed::Anything), State::Connected(listener)),
                        Err(ListenError::Permanent { reason }) => (Some(Changed::Silence { reason }), State::Refused),
                        Err(ListenError::Temporary) => (None, State::Lost { failures: failures + 1 }),
                    }
                }
                State::Connected(mut listener) => match receive(&mut listener, &self.pool, &mut self.left).await {
                    Some(changed) => (Some(changed), State::Connected(listener)),
                    None => (None, State::Lost { failures: 1 }),
                },
            };
            self.state = state;
            if let Some(changed) = changed {
                return Some((changed, self));
            }
        }
    }
}

async fn listen(pool: &Pool) -> Result<PgListener, ListenError> {
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
    timeout(CALL_TIMEOUT, listener.listen(CHANNEL)).await.map_err(|_| ListenError::Temporary)??;
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
async fn receive(listener: &mut PgListener, pool: &Pool, left: &mut watch::Receiver<()>) -> Option<Changed> {
    loop {
        let needs_test = tokio::select! {
            received = listener.try_recv() => match received {
                Ok(Some(notification)) => return Some(read(notification.payload())),
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

fn read(payload: &str) -> Changed {
    let owner = |payload: &Payload| {
        let cluster = ClusterId::parse(&payload.cluster).ok()?;
        Some(Owner { cluster, namespace: payload.namespace.clone(), name: payload.name.clone() })
    };
    match serde_json::from_str::<Payload>(payload) {
        // An unreadable notification still means that something changed.
        Err(_) => Changed::Anything,
        Ok(payload) => owner(&payload)
            .map_or(Changed::Anything, |owner| Changed::Account { owner, version: payload.version.map(Version) }),
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
