//! The internal listener: what proxies ask, `/introspect`, `/metrics` and the probes, for listed networks only.

use super::authz;
use super::introspect::introspect;
use super::service::Service;
use crate::http::Limits;
use crate::login::MAX_FORM_BYTES;
use axum::Router;
use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const OPENMETRICS: &str = "application/openmetrics-text";

/// The limits of the internal listener.
pub(super) const LIMITS: Limits = Limits {
    connections: 4096,
    requests: 2048,
    header_bytes: 64 * 1024,
    body_bytes: MAX_FORM_BYTES,
    handshake_timeout: Duration::from_secs(5),
    // Proxies keep their connections.
    header_timeout: Duration::from_secs(90),
    request_timeout: Duration::from_secs(10),
    shutdown_timeout: Duration::from_secs(10),
};

/// Returns the routes. The probes are for everybody: they tell nothing, and the kubelet asks from the node's address.
pub(super) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/authz/nginx", any(authz::nginx))
        .route("/authz/forward", any(authz::forward))
        .route("/authz/envoy/{*target}", any(authz::envoy))
        .route("/authz/envoy/", any(authz::envoy))
        .route("/introspect", post(introspect))
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(is_ready))
        .with_state(service)
}

/// The service, for a request from a listed network. A handler that takes this answers nobody else.
pub(super) struct Listed(pub Arc<Service>);

impl FromRequestParts<Arc<Service>> for Listed {
    type Rejection = StatusCode;

    async fn from_request_parts(request: &mut Parts, service: &Arc<Service>) -> Result<Self, StatusCode> {
        let peer = request.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        if peer.is_some_and(|peer| service.internal.include(peer)) {
            return Ok(Self(Arc::clone(service)));
        }
        tracing::warn!(
            peer = peer.map(tracing::field::display),
            "a request at the internal listener came from a network that is not listed in --internal-networks"
        );
        Err(StatusCode::FORBIDDEN)
    }
}

async fn metrics(Listed(service): Listed, headers: HeaderMap) -> Response {
    let accepted = headers.get_all(ACCEPT);
    let is_open = accepted.iter().any(|value| value.to_str().is_ok_and(|value| value.contains(OPENMETRICS)));
    let content_type = if is_open {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    match service.exposition.text(is_open) {
        Ok(text) => ([(CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => {
            tracing::warn!(%error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn is_ready(State(service): State<Arc<Service>>) -> Response {
    if service.readiness.is_ready() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for the account database\n").into_response()
    }
}
