//! The HTTP server for `/metrics`, `/livez` and `/readyz`. It answers from memory and calls no other program.

use super::{Listen, Telemetry};
use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// The most connections at a time. One more connection closes the oldest one, so that slow clients cannot block a
/// probe.
const MAX_CONNECTIONS: usize = 64;

/// How long the server waits for the header of each request on a connection.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after a connection could not be accepted, for example because the process has too many open files.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

const OPENMETRICS: &str = "application/openmetrics-text";
const TEXT: &str = "text/plain; charset=utf-8";

/// Starts to serve, until the program ends. Returns the address; `None` if `listen` is off.
///
/// # Errors
/// The server cannot listen at the address.
pub async fn serve(listen: Listen, telemetry: Arc<Telemetry>) -> io::Result<Option<SocketAddr>> {
    let Some(listener) = listen.bind().await? else {
        return Ok(None);
    };
    let address = listener.local_addr()?;
    tokio::spawn(accept(listener, telemetry));
    Ok(Some(address))
}

async fn accept(listener: TcpListener, telemetry: Arc<Telemetry>) {
    let mut connected: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connected.retain(|connection| !connection.is_finished());
                if connected.len() >= MAX_CONNECTIONS
                    && let Some(oldest) = connected.pop_front()
                {
                    oldest.abort();
                }
                connected.push_back(tokio::spawn(answer_all(stream, Arc::clone(&telemetry))).abort_handle());
            }
            Err(error) => {
                tracing::debug!(%error, "a connection for metrics or probes could not be taken");
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

async fn answer_all(stream: TcpStream, telemetry: Arc<Telemetry>) {
    let service = service_fn(move |request| {
        let telemetry = Arc::clone(&telemetry);
        async move { Ok::<_, Infallible>(answer(&request, &telemetry).await) }
    });
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection for metrics or probes did not end well");
    }
}

async fn answer(request: &Request<Incoming>, telemetry: &Telemetry) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => metrics(request, telemetry),
        "/livez" if telemetry.probes.is_alive().await => response(StatusCode::OK, TEXT, "ok\n"),
        "/livez" => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the controller does not answer\n"),
        "/readyz" => match telemetry.probes.missing_for_readiness() {
            awaited if awaited.is_empty() => response(StatusCode::OK, TEXT, "ok\n"),
            awaited => {
                let waiting = format!("waiting for {}\n", awaited.join(", "));
                response(StatusCode::SERVICE_UNAVAILABLE, TEXT, waiting)
            }
        },
        _ => response(StatusCode::NOT_FOUND, TEXT, "there are /metrics, /livez and /readyz\n"),
    }
}

/// Returns the metrics as `OpenMetrics` text if the request accepts it, and in Prometheus' older text format otherwise.
fn metrics(request: &Request<Incoming>, telemetry: &Telemetry) -> Response<Full<Bytes>> {
    let accepted = request.headers().get_all(ACCEPT);
    let is_open = accepted.iter().any(|value| value.to_str().is_ok_and(|value| value.contains(OPENMETRICS)));
    let (text, content_type) = if is_open {
        (telemetry.metrics.openmetrics(), "application/openmetrics-text; version=1.0.0; charset=utf-8")
    } else {
        (telemetry.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")
    };
    match text {
        Ok(text) => response(StatusCode::OK, content_type, text),
        Err(error) => {
            tracing::warn!(%error, "the metrics could not be written");
            response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the metrics could not be written\n")
        }
    }
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
