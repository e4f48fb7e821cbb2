//! `/authz/*`: a proxy asks whether a request may pass, in the dialect of its kind.
//!
//! The only answers are 200, 401, 403, and 503 while the state is not known. Proxies turn any other status into an error
//! of their own.

use super::audit;
use super::current_access::Known;
use super::internal::Listed;
use super::service::Service;
use crate::login::{
    Allowed, Circumstances, Decision, Dialect, ProxiedRequest, TokenFault, Unauthorized, client_address, decide,
};
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

/// The challenge of a request without a token (RFC 6750 section 3).
const NO_TOKEN: &str = r#"Bearer realm="OpsAdmin""#;
const WRONG_TOKEN: &str = r#"Bearer realm="OpsAdmin", error="invalid_token""#;
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const WRONG_ROLES: &str = r#"Bearer realm="OpsAdmin", error="insufficient_scope""#;

pub(super) async fn nginx(Listed(service): Listed, request: Request) -> Response {
    service.authorize(Dialect::Nginx, &request.into_parts().0).await
}

pub(super) async fn forward(Listed(service): Listed, request: Request) -> Response {
    service.authorize(Dialect::Forward, &request.into_parts().0).await
}

pub(super) async fn envoy(Listed(service): Listed, request: Request) -> Response {
    service.authorize(Dialect::Envoy, &request.into_parts().0).await
}

impl Service {
    async fn authorize(&self, dialect: Dialect, question: &Parts) -> Response {
        let path = question.uri.path_and_query().map_or("", |path| path.as_str());
        let asked = match dialect.read(&question.method, path, &question.headers) {
            Ok(asked) => asked,
            Err(error) => {
                tracing::warn!(?dialect, "a proxy's question cannot be answered: {error}");
                self.metrics.forbidden.inc();
                self.metrics.authorization_refused("dialect");
                return refusal(StatusCode::FORBIDDEN, WRONG_ROLES);
            }
        };
        match self.decision(&asked).await {
            Some(Decision::Allowed(allowed)) => self.allow(&allowed),
            Some(Decision::Unauthorized(reason)) => {
                self.metrics.unauthorized.inc();
                self.metrics.authorization_refused(reason.as_str());
                let is_without = reason == Unauthorized::Token(TokenFault::Missing);
                refusal(StatusCode::UNAUTHORIZED, if is_without { NO_TOKEN } else { WRONG_TOKEN })
            }
            Some(Decision::Forbidden(reason)) => {
                self.metrics.forbidden.inc();
                self.metrics.authorization_refused(reason.as_str());
                refusal(StatusCode::FORBIDDEN, WRONG_ROLES)
            }
            None => self.unknown(),
        }
    }

    /// Decides about a request; `None` if the state is not known.
    async fn decision(&self, asked: &ProxiedRequest<'_>) -> Option<Decision> {
        let now = self.environment.now();
        let known = match &asked.token {
            Err(_) => Known { login: None, account: None },
            Ok(token) => match self.access.of_token(&token.hash(), now).await {
                Ok(known) => known,
                Err(error) => {
                    tracing::warn!("a request cannot be decided, and is not let in: {error}");
                    return None;
                }
            },
        };
        let address = client_address(Some(asked.forwarded), None, &self.proxies);
        let circumstances = Circumstances {
            login: known.login.as_deref(),
            account: known.account.as_deref(),
            address,
            paths: &self.paths,
            lifetimes: self.lifetimes,
            now,
        };
        let decision = decide(asked, &circumstances);
        if let Some(login) = &known.login {
            let rule = match &decision {
                Decision::Allowed(_) => None,
                Decision::Unauthorized(reason) => Some(reason.as_str()),
                Decision::Forbidden(reason) => Some(reason.as_str()),
            };
            if let Some(rule) = rule {
                audit::not_let_in(rule, login.account, login.key, address.ok());
            }
        }
        Some(decision)
    }

    fn allow(&self, allowed: &Allowed) -> Response {
        let mut headers = HeaderMap::with_capacity(allowed.headers().len() + 1);
        headers.extend(allowed.headers().iter().cloned());
        headers.insert(CACHE_CONTROL, NO_STORE);
        self.metrics.allowed.inc();
        let mut answer = Response::default();
        *answer.headers_mut() = headers;
        answer
    }

    fn unknown(&self) -> Response {
        self.metrics.unknown.inc();
        (StatusCode::SERVICE_UNAVAILABLE, [(CACHE_CONTROL, "no-store")]).into_response()
    }
}

fn refusal(status: StatusCode, challenge: &'static str) -> Response {
    (status, [(CACHE_CONTROL, "no-store"), (WWW_AUTHENTICATE, challenge)]).into_response()
}
