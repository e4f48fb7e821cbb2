//! One connection, from its TLS handshake to its last answer.

use super::requests::{Origin, Requests};
use super::{Limits, Tls};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

/// What all connections of one server share.
pub(super) struct Shared {
    pub requests: Requests,
    pub tls: Option<Arc<Tls>>,
    pub limits: Limits,
}

/// Tells connections that the server ends: its sender has been dropped.
pub(super) type Ending = watch::Receiver<()>;

/// Answers all requests of a connection, until the client or the server ends it. When the server ends, the request that
/// is being handled is still answered.
pub(super) async fn run(stream: TcpStream, origin: Origin, shared: Arc<Shared>, mut ending: Ending) {
    // An answer that needs several packets must not wait for the client's delayed acknowledgement of the first one.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the system delays packets of a connection");
    }
    let ended = match &shared.tls {
        None => answer_all(stream, &origin, &shared, ending).await,
        Some(tls) => {
            let handshake = timeout(shared.limits.handshake_timeout, tls.acceptor().accept(stream));
            let secured = tokio::select! {
                secured = handshake => secured,
                () = end(&mut ending) => return,
            };
            match secured {
                Ok(Ok(stream)) => answer_all(stream, &origin, &shared, ending).await,
                Ok(Err(error)) => return report(&origin, "its TLS handshake failed", &error),
                Err(error) => return report(&origin, "its TLS handshake took too long", &io::Error::from(error)),
            }
        }
    };
    if let Err(error) = ended {
        report(&origin, "it did not end well", &error);
    }
}

async fn answer_all(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    origin: &Origin,
    shared: &Shared,
    mut ending: Ending,
) -> hyper::Result<()> {
    let service = service_fn(async |request| Ok::<_, Infallible>(shared.requests.answer(request, origin).await));
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.header_timeout)
        .max_header_size(shared.limits.header_bytes);
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = end(&mut ending) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Waits until the server ends.
async fn end(ending: &mut Ending) {
    while ending.changed().await.is_ok() {}
}

/// Logs what a client can cause at any time.
fn report(origin: &Origin, what: &str, error: &dyn std::error::Error) {
    tracing::debug!(client = %origin.client, %error, "a connection is closed: {what}");
}
