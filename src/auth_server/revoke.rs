//! `/revoke`: a client ends a login of its account (RFC 7009).

use super::answers::{Failure, no_store};
use super::audit;
use super::client::Caller;
use super::service::Service;
use crate::database::DatabaseError;
use crate::login::{AccessToken, AssertionUse, EndReason, Login, LoginRefusal, RefreshToken, RevocationRequest};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use jiff::Timestamp;

impl Service {
    /// Answers a request to revoke a token. An account that may not log in may still revoke its tokens.
    ///
    /// # Errors
    /// The client is not who it claims to be. A token that does not work is no error (RFC 7009 section 2.2).
    pub(super) async fn revoke(&self, request: &Parts, body: &Bytes, caller: Caller) -> Result<Response, Failure> {
        let form = RevocationRequest::read(&request.headers, request.uri.query(), body);
        let form = form.map_err(Failure::from)?;
        let now = self.environment.now();
        let client = self.prove(&form.client, caller, now).await?;
        if self.database.logins.use_assertion(&client.assertion).await? == AssertionUse::Replay {
            return Err(Failure::refused(LoginRefusal::Replay, client.subject));
        }
        let login = self.login_of(&form.token).await?;
        if let Some(login) = login.filter(|login| login.account == client.account.id) {
            self.end(&login, EndReason::Revoked, caller, now).await?;
        }
        Ok(no_store(StatusCode::OK.into_response()))
    }

    /// Returns the login that a token of any generation names.
    async fn login_of(&self, token: &str) -> Result<Option<Login>, DatabaseError> {
        if let Some(refresh) = RefreshToken::parse(token) {
            return self.database.logins.find(refresh.login()).await;
        }
        match AccessToken::parse(token) {
            Some(access) => self.database.logins.find_by_access_token(&access.hash()).await,
            None => Ok(None),
        }
    }

    /// Ends a login, and tells it if it had not ended before.
    pub(super) async fn end(
        &self,
        login: &Login,
        reason: EndReason,
        caller: Caller,
        now: Timestamp,
    ) -> Result<(), DatabaseError> {
        let was_live = self.database.logins.end(login.id, now, reason).await?;
        self.access.login_ended(login.id);
        if was_live {
            audit::ended(reason, login.account, login.key, login.id, caller.address);
            self.metrics.login_ended(reason);
        }
        Ok(())
    }
}
