//! `/introspect`: a program asks about a token (RFC 7662). It authenticates with a token of its own.

use super::answers::{json_answer, no_store};
use super::internal::Listed;
use super::service::Service;
use crate::login::{AccessToken, ActiveToken, Circumstances, MAX_FORM_BYTES, active_token};
use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use std::net::IpAddr;
use url::form_urlencoded;
use zeroize::Zeroizing;

/// What a program asks.
struct Question {
    token: Zeroizing<String>,
    /// The address of the client, if the program wants it to be checked.
    address: Option<IpAddr>,
}

pub(super) async fn introspect(Listed(service): Listed, request: Request) -> Response {
    if !service.knows_caller(request.headers()) {
        let challenge = [(WWW_AUTHENTICATE, r#"Bearer realm="OpsAdmin introspection""#)];
        return no_store((StatusCode::UNAUTHORIZED, challenge).into_response());
    }
    let body = to_bytes(request.into_body(), MAX_FORM_BYTES).await;
    let Some(question) = body.ok().and_then(|body| Question::read(&body)) else {
        let body = json!({
            "error": "invalid_request",
            "error_description": "Send a form with one token, and with one IP address if there is an address.",
        });
        return no_store(json_answer(StatusCode::BAD_REQUEST, &body));
    };
    no_store(service.describe(&question).await)
}

impl Service {
    /// Returns whether the caller sent the token of the file, in the one `Authorization` header.
    fn knows_caller(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let token = value.to_str().ok().and_then(|text| text.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        match (&self.introspection, token) {
            (Some(expected), Some(token)) => expected.is(token),
            _ => false,
        }
    }

    async fn describe(&self, question: &Question) -> Response {
        let inactive = || json_answer(StatusCode::OK, &json!({ "active": false }));
        let Some(token) = AccessToken::parse(&question.token) else { return inactive() };
        let now = self.environment.now();
        let known = match self.access.of_token(&token.hash(), now).await {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!("a token cannot be described: {error}");
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
        };
        let circumstances = Circumstances {
            login: known.login.as_deref(),
            account: known.account.as_deref(),
            address: question.address.ok_or(crate::login::UnknownAddress::Missing),
            paths: &self.paths,
            lifetimes: self.lifetimes,
            now,
        };
        match active_token(&token, &circumstances) {
            Ok(active) => json_answer(StatusCode::OK, &description(&active)),
            Err(_) => inactive(),
        }
    }
}

/// Returns the answer of RFC 7662 section 2.2. `roles` and `plans` are ours, in the form of the headers for the API.
fn description(active: &ActiveToken) -> serde_json::Value {
    let allowed = &active.allowed;
    json!({
        "active": true,
        "client_id": active.api_key.as_str(),
        "sub": allowed.account().to_string(),
        "token_type": "Bearer",
        "iat": active.issued.as_second(),
        "exp": active.expires.as_second(),
        "roles": allowed.roles(),
        "plans": allowed.plans(),
    })
}

impl Question {
    /// Reads a form; `None` if a parameter is repeated, the token is missing or the address is not one.
    fn read(body: &[u8]) -> Option<Self> {
        let mut token = None;
        let mut address = None;
        for (name, value) in form_urlencoded::parse(body) {
            let place = match &*name {
                "token" => &mut token,
                "address" => &mut address,
                _ => continue,
            };
            if place.replace(Zeroizing::new(value.into_owned())).is_some() {
                return None;
            }
        }
        let address = match address {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        };
        Some(Self { token: token?, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_one_token_and_maybe_one_address() {
        let read =
            |body: &str| Question::read(body.as_bytes()).map(|question| (question.token.to_string(), question.address));
        assert_eq!(read("token=a&token_type_hint=access_token"), Some(("a".to_owned(), None)));
        assert_eq!(read("address=192.0.2.1&token=a"), Some(("a".to_owned(), Some("192.0.2.1".parse().unwrap()))));
        for wrong in ["", "address=192.0.2.1", "token=a&token=b", "token=a&address=", "token=a&address=here"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
