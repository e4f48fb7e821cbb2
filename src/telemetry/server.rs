//! Serves `/metrics`, `/livez` and `/readyz`. The answers come from memory and need no other program.

use super::Telemetry;
use crate::http::{Limits, Listen, ListenError, Purpose, Server};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const PURPOSE: Purpose = Purpose { serves: "metrics and probes", option: "--metrics-address" };

const LIMITS: Limits = Limits {
    connections: 64,
    // Every answer comes from memory, so no request needs to wait for another one.
    requests: 64,
    header_bytes: 64 * 1024,
    // No handler reads a body.
    body_bytes: 0,
    handshake_timeout: Duration::from_secs(5),
    header_timeout: Duration::from_secs(5),
    // More than what a liveness probe waits for the controller.
    request_timeout: Duration::from_secs(30),
    shutdown_timeout: Duration::from_secs(5),
};

const OPENMETRICS: &str = "application/openmetrics-text";
const TEXT: &str = "text/plain; charset=utf-8";

/// Starts to serve, until the program ends. Returns the address; `None` if `listen` is off.
///
/// # Errors
/// The server cannot listen at the address.
pub async fn serve(listen: Listen, telemetry: Arc<Telemetry>) -> Result<Option<SocketAddr>, ListenError> {
    let Some(listener) = listen.bind(PURPOSE).await? else {
        return Ok(None);
    };
    let address = listener.local_addr().map_err(|reason| ListenError { listen, purpose: PURPOSE, reason })?;
    let server = Server { router: router(telemetry), limits: LIMITS, tls: None };
    tokio::spawn(server.serve(listener, pending()));
    Ok(Some(address))
}

fn router(telemetry: Arc<Telemetry>) -> Router {
    Router::new()
        .route("/metrics", any(metrics))
        .route("/livez", any(is_alive))
        .route("/readyz", any(is_ready))
        .fallback(async || answer(StatusCode::NOT_FOUND, "there are /metrics, /livez and /readyz\n"))
        .layer(middleware::from_fn(only_reads))
        .with_state(telemetry)
}

async fn only_reads(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let allow = [(CONTENT_TYPE, TEXT), (ALLOW, "GET, HEAD")];
    (StatusCode::METHOD_NOT_ALLOWED, allow, "only GET and HEAD\n").into_response()
}

/// Returns the metrics as `OpenMetrics` text if the request accepts it, and in Prometheus' older text format otherwise.
async fn metrics(State(telemetry): State<Arc<Telemetry>>, headers: HeaderMap) -> Response {
    let accepted = headers.get_all(ACCEPT);
    let is_open = accepted.iter().any(|value| value.to_str().is_ok_and(|value| value.contains(OPENMETRICS)));
    let (text, content_type) = if is_open {
        (telemetry.metrics.openmetrics(), "application/openmetrics-text; version=1.0.0; charset=utf-8")
    } else {
        (telemetry.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")
    };
    match text {
        Ok(text) => ([(CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => {
            tracing::warn!(%error, "the metrics could not be written");
            answer(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n")
        }
    }
}

async fn is_alive(State(telemetry): State<Arc<Telemetry>>) -> Response {
    if telemetry.probes.is_alive().await {
        answer(StatusCode::OK, "ok\n")
    } else {
        answer(StatusCode::SERVICE_UNAVAILABLE, "the controller does not answer\n")
    }
}

async fn is_ready(State(telemetry): State<Arc<Telemetry>>) -> Response {
    match telemetry.probes.missing_for_readiness() {
        awaited if awaited.is_empty() => answer(StatusCode::OK, "ok\n"),
        awaited => answer(StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", awaited.join(", "))),
    }
}

fn answer(status: StatusCode, text: impl Into<String>) -> Response {
    (status, [(CONTENT_TYPE, TEXT)], text.into()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test_client::{Client, server};
    use crate::telemetry::Telemetry;

    /// Returns the answer's head without its date, and its body.
    async fn wire(address: SocketAddr, request: &str) -> (String, String) {
        let mut client = Client::connect(address).await;
        client.send(&format!("{request}\r\nConnection: close\r\n\r\n")).await;
        let answer = client.closed().await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let head: Vec<_> = head.split("\r\n").filter(|line| !line.starts_with("date: ")).collect();
        (head.join("\n"), body.to_owned())
    }

    #[tokio::test]
    async fn each_path_and_method_has_its_exact_answer() {
        let (telemetry, liveness) = Telemetry::new();
        let controller = tokio::spawn(liveness.run(std::future::pending::<()>()));
        let address = server(router(telemetry), LIMITS).await;
        let text = "content-type: text/plain; charset=utf-8";
        let ok = format!("HTTP/1.1 200 OK\n{text}\ncontent-length: 3\nconnection: close");
        assert_eq!(wire(address, "GET /livez HTTP/1.1").await, (ok.clone(), "ok\n".to_owned()));
        assert_eq!(wire(address, "HEAD /livez HTTP/1.1").await, (ok, String::new()));
        let unready = format!("HTTP/1.1 503 Service Unavailable\n{text}\ncontent-length: 22\nconnection: close");
        let waits = "waiting for the start\n".to_owned();
        assert_eq!(wire(address, "GET /readyz HTTP/1.1").await, (unready, waits));
        let absent = format!("HTTP/1.1 404 Not Found\n{text}\ncontent-length: 39\nconnection: close");
        for path in ["/", "/metrics/", "/%6Detrics", "//livez"] {
            let paths = "there are /metrics, /livez and /readyz\n".to_owned();
            assert_eq!(wire(address, &format!("GET {path} HTTP/1.1")).await, (absent.clone(), paths), "{path}");
        }
        let refused =
            format!("HTTP/1.1 405 Method Not Allowed\n{text}\nallow: GET, HEAD\ncontent-length: 18\nconnection: close");
        let only = "only GET and HEAD\n".to_owned();
        for line in ["POST /metrics", "OPTIONS *", "DELETE /absent", "CONNECT test:80", "ODD /livez"] {
            assert_eq!(wire(address, &format!("{line} HTTP/1.1")).await, (refused.clone(), only.clone()), "{line}");
        }
        controller.abort();
    }

    #[tokio::test]
    async fn clients_that_send_nothing_or_half_a_request_do_not_block_a_probe() {
        let (telemetry, liveness) = Telemetry::new();
        let controller = tokio::spawn(liveness.run(std::future::pending::<()>()));
        // No time may decide this: the connections stay for as long as their clients want.
        let address = server(router(telemetry), Limits { header_timeout: Duration::from_hours(1), ..LIMITS }).await;
        let mut slow = Vec::new();
        for number in 0..65 {
            let mut client = Client::connect(address).await;
            if number % 2 == 0 {
                client.send("GET /metrics HTTP/1.1\r\n").await;
            }
            slow.push(client);
        }
        assert_eq!(Client::connect(address).await.ask("GET /livez").await.body, "ok\n");
        assert_eq!(slow.remove(0).closed().await, "", "the oldest connection had to go");
        controller.abort();
    }
}
