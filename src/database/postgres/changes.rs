//! Hearing of changes: `LISTEN` on a connection of its own, made anew whenever it is lost or its server is the wrong one.

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

/// How long it may be quiet before the connection is tried: one whose other end is gone without a word is quiet too.
const QUIET_FOR: Duration = Duration::from_secs(15);

/// How long a connection may take to come about, or to show that it is alive.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The pauses before a lost connection is made again.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// What the server says, for as long as somebody asks.
pub(super) fn changes(pool: Pool) -> BoxStream<'static, Changed> {
    let start = Listening { left: pool.left(), pool, state: State::Lost { failures: 0 } };
    stream::unfold(start, Listening::next).boxed()
}

struct Listening {
    pool: Pool,
    /// Told when all other connections were left: this one may have to be left too.
    left: watch::Receiver<()>,
    state: State,
}

enum State {
    Lost { failures: u32 },
    Listening(PgListener),
    Refused,
}

/// A notification's text, as the migration writes it.
#[derive(Deserialize)]
struct Notification {
    cluster: String,
    namespace: String,
    name: String,
    version: Option<i64>,
}

/// Why nobody can listen.
enum ListenError {
    /// It may be otherwise later.
    Now,
    /// It stays so.
    Always { reason: String },
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
                        Ok(listener) => (Some(Changed::Anything), State::Listening(listener)),
                        Err(ListenError::Always { reason }) => (Some(Changed::Silence { reason }), State::Refused),
                        Err(ListenError::Now) => (None, State::Lost { failures: failures + 1 }),
                    }
                }
                State::Listening(mut listener) => match next_change(&mut listener, &self.pool, &mut self.left).await {
                    Some(changed) => (Some(changed), State::Listening(listener)),
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
    // First without listening: the driver's listener knows one server, and cannot say how it reached it.
    let found = pool.servers().connect().await?;
    let closed = timeout(ANSWER_WITHIN, found.connection.close()).await;
    closed.map_err(|_| ListenError::Now)??;
    if !found.is_direct {
        let reason = "it is reached through a pooler, which may keep what the server tells to itself".to_owned();
        return Err(ListenError::Always { reason });
    }
    let mut listener = listener(pool.servers().options(found.server)?).await?;
    if !will_do(&mut listener, pool).await {
        return Err(ListenError::Now);
    }
    timeout(ANSWER_WITHIN, listener.listen(CHANNEL)).await.map_err(|_| ListenError::Now)??;
    Ok(listener)
}

/// A pool for each connection: a lost one may hold its place in the pool for as long as the network takes to give it up.
async fn listener(options: PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let one = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(ANSWER_WITHIN)
        .connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&one).await?;
    listener.eager_reconnect(false);
    Ok(listener)
}

/// Whether the connection lives, and its server is the one to listen to.
async fn will_do(listener: &mut PgListener, pool: &Pool) -> bool {
    match timeout(ANSWER_WITHIN, sqlx::raw_sql(STATE).fetch_one(listener)).await {
        Ok(Ok(row)) => state_of(&row).is_ok_and(|state| pool.servers().refuses(state).is_none()),
        Ok(Err(_)) | Err(_) => false,
    }
}

/// The next news; `None` once the connection is lost, or is to the wrong server.
async fn next_change(listener: &mut PgListener, pool: &Pool, left: &mut watch::Receiver<()>) -> Option<Changed> {
    loop {
        let quiet = tokio::select! {
            heard = listener.try_recv() => match heard {
                Ok(Some(notification)) => return Some(read(notification.payload())),
                Ok(None) | Err(_) => return None,
            },
            () = sleep(QUIET_FOR) => true,
            told = left.changed() => told.is_ok(),
        };
        if !quiet || !will_do(listener, pool).await {
            return None;
        }
    }
}

fn read(payload: &str) -> Changed {
    let owner = |news: &Notification| {
        let cluster = ClusterId::parse(&news.cluster).ok()?;
        Some(Owner { cluster, namespace: news.namespace.clone(), name: news.name.clone() })
    };
    match serde_json::from_str::<Notification>(payload) {
        // What cannot be read is news all the same.
        Err(_) => Changed::Anything,
        Ok(news) => owner(&news)
            .map_or(Changed::Anything, |owner| Changed::Account { owner, version: news.version.map(Version) }),
    }
}

impl From<sqlx::Error> for ListenError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) if meaning(&**database) == ErrorKind::Refused => {
                Self::Always { reason: said(&error) }
            }
            _ => Self::Now,
        }
    }
}

impl From<DatabaseError> for ListenError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Refused { reason } => Self::Always { reason },
            _ => Self::Now,
        }
    }
}
