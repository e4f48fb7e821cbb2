//! Hearing of changes: `LISTEN` on a connection of its own, made anew whenever it is lost.

use super::meaning;
use crate::account::{ClusterId, Owner, Version};
use crate::database::Changed;
use crate::database::sql::Meaning;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use serde::Deserialize;
use sqlx::Executor;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const CHANNEL: &str = "opsadmin_accounts";

/// How long it may be quiet before the connection is tried: one whose other end is gone without a word is quiet too.
const QUIET_FOR: Duration = Duration::from_secs(15);

/// How long a connection may take to come about, or to show that it is alive.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What the server says, for as long as somebody asks.
pub(super) fn changes(options: PgConnectOptions) -> BoxStream<'static, Changed> {
    let start = Listening { options, state: State::Lost { pause: Duration::ZERO } };
    stream::unfold(start, Listening::next).boxed()
}

struct Listening {
    options: PgConnectOptions,
    state: State,
}

enum State {
    Lost { pause: Duration },
    Heard(PgListener),
    Refused,
}

/// A notification's text, as the migration writes it.
#[derive(Deserialize)]
struct News {
    cluster: String,
    namespace: String,
    name: String,
    version: Option<i64>,
}

impl Listening {
    async fn next(mut self) -> Option<(Changed, Self)> {
        loop {
            let (changed, state) = match self.state {
                State::Refused => return None,
                State::Lost { pause } => {
                    sleep(pause).await;
                    match listen(self.options.clone()).await {
                        Ok(listener) => (Some(Changed::Anything), State::Heard(listener)),
                        Err(sqlx::Error::Database(error)) if meaning(&*error) == Meaning::Refused => {
                            (Some(Changed::Silence { reason: error.message().to_owned() }), State::Refused)
                        }
                        Err(_) => (None, State::Lost { pause: (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE) }),
                    }
                }
                State::Heard(mut listener) => match hear(&mut listener).await {
                    Some(changed) => (Some(changed), State::Heard(listener)),
                    None => (None, State::Lost { pause: FIRST_PAUSE }),
                },
            };
            self.state = state;
            if let Some(changed) = changed {
                return Some((changed, self));
            }
        }
    }
}

/// A pool for each connection: a lost one may hold its place in the pool for as long as the network takes to give it up.
async fn listen(options: PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let one = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(ANSWER_WITHIN)
        .connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&one).await?;
    listener.eager_reconnect(false);
    timeout(ANSWER_WITHIN, listener.listen(CHANNEL)).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
    Ok(listener)
}

/// The next news; `None` once the connection is lost.
async fn hear(listener: &mut PgListener) -> Option<Changed> {
    loop {
        match timeout(QUIET_FOR, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => return Some(read(notification.payload())),
            Ok(Ok(None) | Err(_)) => return None,
            Err(_) => match timeout(ANSWER_WITHIN, listener.execute("SELECT 1")).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return None,
            },
        }
    }
}

fn read(payload: &str) -> Changed {
    let owner = |news: &News| {
        let cluster = ClusterId::parse(&news.cluster).ok()?;
        Some(Owner { cluster, namespace: news.namespace.clone(), name: news.name.clone() })
    };
    match serde_json::from_str::<News>(payload) {
        // What cannot be read is news all the same.
        Err(_) => Changed::Anything,
        Ok(news) => owner(&news)
            .map_or(Changed::Anything, |owner| Changed::Account { owner, version: news.version.map(Version) }),
    }
}
