//! The server: takes connections from a listener until it is told to end.
//!
//! `axum::serve` has no limits, so this accepts connections itself.

use super::connection::{self, Shared};
use super::connections::{Activity, Connections};
use super::requests::{Origin, Requests};
use super::{Limits, Tls};
use axum::Router;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

/// The pause after a connection could not be accepted, for example because the process has too many open files.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What a listener serves, and how.
pub struct Server {
    /// The routes and their handlers.
    pub router: Router,
    /// The limits.
    pub limits: Limits,
    /// The certificate for TLS; `None` to serve without TLS.
    pub tls: Option<Arc<Tls>>,
}

impl Server {
    /// Serves HTTP/1.1 until `shutdown` completes. Then it closes the listener and idle connections, answers the
    /// requests that are being handled, and returns, after `shutdown_timeout` at the latest.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let Self { router, limits, tls } = self;
        let shared = Arc::new(Shared { requests: Requests::new(router, limits), tls, limits });
        let mut connections = Connections::new(limits.connections);
        let (is_serving, ending) = watch::channel(());
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                () = connections.forget_ended() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, client)) => {
                        let origin = Origin { client: canonical(client), activity: Activity::default() };
                        let activity = origin.activity.clone();
                        let connection = connection::run(stream, origin, Arc::clone(&shared), ending.clone());
                        connections.add(activity, connection);
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection could not be accepted");
                        sleep(PAUSE_AFTER_FAILURE).await;
                    }
                },
            }
        }
        drop(listener);
        drop(is_serving);
        connections.end(limits.shutdown_timeout).await;
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
