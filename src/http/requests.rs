//! What happens to each request before and after its handler: the client's address, the limits of body and time, and
//! its turn.

use super::Limits;
use super::connections::Activity;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit};
use axum::response::{IntoResponse as _, Response};
use http::{Request, StatusCode};
use http_body_util::Limited;
use hyper::body::Incoming;
use std::net::SocketAddr;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::ServiceExt as _;

/// Answers requests by a router, within limits.
pub(super) struct Requests {
    router: Router,
    limits: Limits,
    turns: Semaphore,
}

/// Where requests come from.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The client's address. An IPv4 address that came mapped into IPv6 (RFC 4291, section 2.5.5.2) is IPv4 here.
    pub client: SocketAddr,
    /// The activity of the connection.
    pub activity: Activity,
}

impl Requests {
    /// Answers by this router. Its extractors accept bodies up to this server's limit, in place of axum's own one.
    pub fn new(router: Router, limits: Limits) -> Self {
        Self { router: router.layer(DefaultBodyLimit::disable()), limits, turns: Semaphore::new(limits.requests) }
    }

    /// Answers a request. Each request gets an answer in time.
    pub async fn answer(&self, request: Request<Incoming>, origin: &Origin) -> Response {
        let _handling = origin.activity.begin();
        let mut request = request.map(|body| Body::new(Limited::new(body, self.limits.body_bytes)));
        request.extensions_mut().insert(ConnectInfo(origin.client));
        let answer = timeout(self.limits.request_timeout, self.in_turn(request)).await;
        answer.unwrap_or_else(|_| {
            tracing::debug!(client = %origin.client, "a request took too long");
            unavailable()
        })
    }

    async fn in_turn(&self, request: Request<Body>) -> Response {
        let Ok(_turn) = self.turns.acquire().await else { return unavailable() };
        match self.router.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}

fn unavailable() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the request took too long; try again\n").into_response()
}
