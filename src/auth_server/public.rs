//! The public listener: `/token`, `/revoke` and the metadata.

use super::answers::{Failure, json_answer, no_store};
use super::audit::{self, Subject};
use super::client::Caller;
use super::service::Service;
use crate::http::Limits;
use crate::login::{FormRefusal, LoginRefusal, MAX_FORM_BYTES};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much of a body is read. It is more than a form may have, so that a secret in a longer form is noticed.
const READ_BYTES: usize = 4 * MAX_FORM_BYTES;

/// The limits of the public listener.
pub(super) const LIMITS: Limits = Limits {
    connections: 4096,
    requests: 512,
    header_bytes: 32 * 1024,
    body_bytes: READ_BYTES,
    handshake_timeout: Duration::from_secs(5),
    header_timeout: Duration::from_secs(30),
    request_timeout: Duration::from_secs(20),
    shutdown_timeout: Duration::from_secs(10),
};

/// Which endpoint is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Token,
    Revoke,
}

/// Returns the routes.
pub(super) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/token", post(token))
        .route("/revoke", post(revoke))
        .route(&service.issuer.metadata_path(), get(metadata))
        .with_state(service)
}

async fn token(state: State<Arc<Service>>, peer: ConnectInfo<SocketAddr>, request: Request) -> Response {
    answer(&state, peer.0.ip(), request, Endpoint::Token).await
}

async fn revoke(state: State<Arc<Service>>, peer: ConnectInfo<SocketAddr>, request: Request) -> Response {
    answer(&state, peer.0.ip(), request, Endpoint::Revoke).await
}

async fn answer(service: &Service, peer: IpAddr, request: Request, endpoint: Endpoint) -> Response {
    let (request, body) = request.into_parts();
    let caller = Caller::of(&request.headers, peer, service);
    // Without the client's address, the proxy's own one is limited and logged.
    let address = caller.as_ref().map_or(peer, |caller| caller.address);
    let answered = match caller {
        Ok(caller) => service.limited(&request, body, caller, endpoint).await,
        Err(failure) => Err(failure),
    };
    answered.unwrap_or_else(|failure| {
        service.report(&failure, address);
        failure.answer()
    })
}

impl Service {
    async fn limited(
        &self,
        request: &Parts,
        body: Body,
        caller: Caller,
        endpoint: Endpoint,
    ) -> Result<Response, Failure> {
        self.attempts().count_try(caller.address, Instant::now()).map_err(Failure::Limited)?;
        let Ok(body) = to_bytes(body, READ_BYTES).await else {
            return Err(FormRefusal::TooLarge.into());
        };
        self.handle(request, &body, caller, endpoint).await
    }

    async fn handle(
        &self,
        request: &Parts,
        body: &Bytes,
        caller: Caller,
        endpoint: Endpoint,
    ) -> Result<Response, Failure> {
        match endpoint {
            Endpoint::Token => self.token(request, body, caller).await,
            Endpoint::Revoke => self.revoke(request, body, caller).await,
        }
    }

    /// Logs and counts a failure.
    fn report(&self, failure: &Failure, address: IpAddr) {
        match failure {
            Failure::Refused(refused) => {
                audit::refused(&refused.refusal, &refused.subject, address);
                self.metrics.login_refused(refused.refusal.as_str());
                if matches!(refused.refusal, LoginRefusal::Form(FormRefusal::SecretTravelled { .. })) {
                    self.metrics.secrets_travelled.inc();
                }
                if let Some(api_key) = &refused.subject.api_key {
                    self.attempts().count_failure(api_key, address, Instant::now());
                }
            }
            Failure::Limited(_) => {
                self.metrics.limited.inc();
                tracing::debug!(%address, "too many requests");
            }
            Failure::Unavailable(reason) => {
                self.metrics.unavailable.inc();
                tracing::warn!(%address, "a login was not possible: {reason}");
            }
        }
    }
}

impl From<FormRefusal> for Failure {
    fn from(refusal: FormRefusal) -> Self {
        let claimed = match &refusal {
            FormRefusal::SecretTravelled { claimed } => claimed.clone(),
            _ => None,
        };
        Self::refused(LoginRefusal::Form(refusal), Subject { api_key: claimed, ..Subject::default() })
    }
}

/// Returns the metadata of RFC 8414 section 2.
async fn metadata(State(service): State<Arc<Service>>) -> Response {
    let methods = json!(["client_secret_jwt"]);
    let algorithms = json!(["HS256"]);
    let body = json!({
        "issuer": service.issuer.to_string(),
        "token_endpoint": service.issuer.endpoint("/token"),
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint": service.issuer.endpoint("/revoke"),
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "grant_types_supported": ["client_credentials", "refresh_token"],
        "response_types_supported": [],
    });
    no_store(json_answer(StatusCode::OK, &body))
}
