//! `/token`: a client logs in, or gets the next tokens of a login.

use super::answers::{Failure, issued};
use super::audit;
use super::client::{Caller, ProvenClient};
use super::service::Service;
use crate::login::{
    AssertionUse, EndReason, FamilySeed, Grant, Issued, LoginEntropy, LoginId, LoginRefusal, NewLogin, Refresh,
    RefreshToken, RefreshWrite, TokenRequest, begin, refresh,
};
use crate::reconcile::{random, random_secret};
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use jiff::Timestamp;

/// How often a refresh is decided again because others refreshed the same login in the meantime.
const ROUNDS: usize = 5;

impl Service {
    /// Answers a request for tokens.
    ///
    /// # Errors
    /// The client gets no tokens.
    pub(super) async fn token(&self, request: &Parts, body: &Bytes, caller: Caller) -> Result<Response, Failure> {
        let form = TokenRequest::read(&request.headers, request.uri.query(), body);
        let form = form.map_err(Failure::from)?;
        let now = self.environment.now();
        let client = self.log_in(&form.client, caller, now).await?;
        let tokens = match form.grant {
            Grant::ClientCredentials => self.begin(client, caller, now).await?,
            Grant::RefreshToken(presented) => self.refresh(client, &presented, caller, now).await?,
        };
        Ok(issued(&tokens))
    }

    async fn begin(&self, client: ProvenClient, caller: Caller, now: Timestamp) -> Result<Issued, Failure> {
        let ProvenClient { account, key, assertion, subject } = client;
        let environment = &*self.environment;
        let entropy = LoginEntropy {
            access: random_secret(environment)?,
            refresh: random_secret(environment)?,
            seed: FamilySeed::from_bytes(random(environment)?),
        };
        let id = LoginId::from_random(random(environment)?);
        let new = NewLogin { id, account: account.id, key, address: caller.address, now };
        let (login, tokens) = begin(new, account.settings.use_refresh_token, self.lifetimes, entropy);
        let ticket = self.access.ticket();
        match self.database.logins.begin(&login, &assertion).await? {
            AssertionUse::First => {
                audit::accepted("login", &account, key, id, caller.address);
                self.metrics.logins.inc();
                self.uses.note(key, now);
                self.access.began(tokens.access.hash(), login, ticket);
                Ok(tokens)
            }
            AssertionUse::Replay => Err(Failure::refused(LoginRefusal::Replay, subject)),
        }
    }

    async fn refresh(
        &self,
        client: ProvenClient,
        presented: &str,
        caller: Caller,
        now: Timestamp,
    ) -> Result<Issued, Failure> {
        let ProvenClient { account, key, assertion, subject } = client;
        let refused = |refusal| Failure::refused(refusal, subject.clone());
        let unknown = || refused(LoginRefusal::UnknownRefreshToken);
        let presented = RefreshToken::parse(presented).ok_or_else(unknown)?;
        for _ in 0..ROUNDS {
            let login = self.database.logins.find(presented.login()).await?.ok_or_else(unknown)?;
            match refresh(&login, &presented, key, self.lifetimes, now) {
                Refresh::Issue(next) => {
                    let written =
                        self.database.logins.refresh(login.id, &next.expected, &next.generations, &assertion).await?;
                    match written {
                        RefreshWrite::Done => {
                            audit::accepted("refresh", &account, key, login.id, caller.address);
                            self.metrics.refreshes.inc();
                            self.uses.note(key, now);
                            return Ok(next.issued);
                        }
                        RefreshWrite::Replay => return Err(refused(LoginRefusal::Replay)),
                        RefreshWrite::Overtaken => {}
                    }
                }
                Refresh::Reused => {
                    // A replayed assertion proves nothing, so it must not end a login.
                    if self.database.logins.use_assertion(&assertion).await? == AssertionUse::Replay {
                        return Err(refused(LoginRefusal::Replay));
                    }
                    self.end(&login, EndReason::Reused, caller, now).await?;
                    return Err(refused(LoginRefusal::RefreshTokenReused));
                }
                Refresh::Refused(refusal) => return Err(refused(LoginRefusal::Refresh(refusal))),
            }
        }
        Err(Failure::Unavailable("other requests refreshed the same login again and again".to_owned()))
    }
}
