//! A small HTTP server for `/metrics`, `/livez` and `/readyz`. It never asks anybody but the program itself.

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

/// How many may be connected at a time; who is one more takes the place of whoever came first, or a few who ask slowly would
/// keep a probe waiting.
const CONNECTIONS: usize = 64;

/// How long somebody may take to ask something, also the next thing.
const ASKED_WITHIN: Duration = Duration::from_secs(5);

/// The system has no room for a connection now, and there is no use in asking again at once.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

const OPENMETRICS: &str = "application/openmetrics-text";
const TEXT: &str = "text/plain; charset=utf-8";

/// Begins to serve, until the program ends, and answers where; `None` if that is nowhere.
///
/// # Errors
/// The address cannot be had.
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
                if connected.len() >= CONNECTIONS
                    && let Some(first) = connected.pop_front()
                {
                    first.abort();
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
    connection.timer(TokioTimer::new()).header_read_timeout(ASKED_WITHIN);
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

/// In the format that is asked for: `OpenMetrics`, or the older text for whoever does not name that.
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
