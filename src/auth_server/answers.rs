//! What clients get at `/token` and `/revoke`: JSON that no cache keeps (RFC 6749 section 5).

use super::audit::Subject;
use crate::database::DatabaseError;
use crate::login::{ErrorAnswer, Issued, LoginRefusal};
use crate::reconcile::RandomnessError;
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

/// Why a request at the public listener fails.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client is refused.
    Refused(Box<Refused>),
    /// The client came too often, and has to wait.
    Limited(Duration),
    /// It cannot be decided now. The text is for the log.
    Unavailable(String),
}

/// A refusal, and whom it is about.
#[derive(Debug)]
pub(super) struct Refused {
    pub refusal: LoginRefusal,
    pub subject: Subject,
}

impl Failure {
    pub fn refused(refusal: LoginRefusal, subject: Subject) -> Self {
        Self::Refused(Box::new(Refused { refusal, subject }))
    }

    /// Returns the answer to the client.
    pub fn answer(&self) -> Response {
        match self {
            Self::Refused(refused) => error(refused.refusal.answer()),
            Self::Limited(wait) => {
                let limited = ErrorAnswer {
                    status: StatusCode::TOO_MANY_REQUESTS,
                    error: "temporarily_unavailable",
                    description: "Too many requests. Wait as long as Retry-After says.",
                };
                later(error(limited), *wait)
            }
            Self::Unavailable(_) => {
                let unavailable = ErrorAnswer {
                    status: StatusCode::SERVICE_UNAVAILABLE,
                    error: "temporarily_unavailable",
                    description: "Logins are not possible now. Try again.",
                };
                later(error(unavailable), Duration::from_secs(1))
            }
        }
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<RandomnessError> for Failure {
    fn from(error: RandomnessError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Returns the answer with new tokens (RFC 6749 section 5.1).
pub(super) fn issued(issued: &Issued) -> Response {
    let mut body = json!({
        "access_token": issued.access.expose(),
        "token_type": "Bearer",
        "expires_in": issued.expires_in.as_secs(),
    });
    if let Some(refresh) = &issued.refresh {
        body["refresh_token"] = refresh.expose().into();
    }
    no_store(json_answer(StatusCode::OK, &body))
}

/// Returns a JSON answer.
pub(super) fn json_answer(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// Makes sure that no cache keeps an answer.
pub(super) fn no_store(mut answer: Response) -> Response {
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    answer
}

fn error(error: ErrorAnswer) -> Response {
    let body = json!({ "error": error.error, "error_description": error.description });
    let mut answer = no_store(json_answer(error.status, &body));
    if error.status == StatusCode::UNAUTHORIZED {
        // A 401 must have a challenge (RFC 9110 section 11.6.1). There is no scheme for assertions.
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Assertion"));
    }
    answer
}

fn later(mut answer: Response, wait: Duration) -> Response {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    answer
}
