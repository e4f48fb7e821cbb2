//! A client that proves who it is: from a form with an assertion to an account and the assertion to record.

use super::answers::Failure;
use super::audit::Subject;
use super::service::Service;
use crate::account::KeyId;
use crate::login::{
    AssertionRefusal, ClientAssertion, KnownAccount, LoginRefusal, UnverifiedAssertion, UsedAssertion, client_address,
    may_log_in,
};
use http::HeaderMap;
use jiff::Timestamp;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    /// The client's address.
    pub address: IpAddr,
}

/// A client that proved that it has a secret key, and whose assertion is good. It is not recorded yet.
pub(super) struct ProvenClient {
    pub account: Arc<KnownAccount>,
    pub key: KeyId,
    pub assertion: UsedAssertion,
    pub subject: Subject,
}

impl Caller {
    /// Finds the client behind the listed proxies. `peer` is the address of the connection.
    ///
    /// # Errors
    /// A listed proxy sent no address that can be read.
    pub fn of(headers: &HeaderMap, peer: IpAddr, service: &Service) -> Result<Self, Failure> {
        // Several headers are one list (RFC 9110 section 5.3). A text that is not ASCII is no address.
        let hops = headers.get_all("x-forwarded-for").iter().map(|value| value.to_str().unwrap_or("?"));
        let hops: Vec<&str> = hops.collect();
        let forwarded = if hops.is_empty() { None } else { Some(hops.join(",")) };
        match client_address(forwarded.as_deref(), Some(peer), &service.proxies) {
            Ok(address) => Ok(Self { address }),
            Err(unknown) => Err(Failure::refused(LoginRefusal::Address(unknown), Subject::default())),
        }
    }
}

impl Service {
    /// Finds the account of an assertion and verifies the assertion, for a client that may log in or not.
    ///
    /// # Errors
    /// The assertion is refused, it was tried too often, or the database does not answer.
    pub async fn prove(
        &self,
        client: &ClientAssertion,
        caller: Caller,
        now: Timestamp,
    ) -> Result<ProvenClient, Failure> {
        let refused = |refusal: AssertionRefusal, subject: &Subject| {
            Failure::refused(LoginRefusal::Assertion(refusal), subject.clone())
        };
        let parsed = UnverifiedAssertion::parse(&client.assertion, client.client_id.as_deref());
        let unverified = parsed.map_err(|refusal| refused(refusal, &Subject::default()))?;
        let api_key = unverified.api_key().clone();
        let mut subject = Subject::claimed(&api_key);
        self.attempts().check_failures(&api_key, caller.address, Instant::now()).map_err(Failure::Limited)?;

        let account = self.access.of_api_key(&api_key).await?;
        let pair = account.as_ref().and_then(|account| {
            let pair = account.keys.iter().find(|pair| pair.api_key == api_key)?;
            Some((account, pair))
        });
        let secret_key = match pair {
            Some((account, pair)) => {
                subject = subject.found(account, pair.id);
                match self.keyring.get().open(account.id, pair.id, &pair.sealed) {
                    Ok(secret_key) => Some((pair.id, secret_key)),
                    Err(error) => {
                        tracing::debug!(%error, "a secret key does not open");
                        // The same work as for a key that is unknown, so that the time does not tell them apart.
                        drop(unverified.verify(None));
                        return Err(Failure::refused(LoginRefusal::SealedSecret, subject));
                    }
                }
            }
            None => None,
        };
        let verified = unverified.verify(secret_key.as_ref().map(|(key, secret_key)| (*key, secret_key)));
        let verified = verified.map_err(|refusal| refused(refusal, &subject))?;
        let assertion = verified.accept(&self.audience, now).map_err(|refusal| refused(refusal, &subject))?;
        match (account, secret_key) {
            (Some(account), Some((key, _))) => Ok(ProvenClient { account, key, assertion, subject }),
            _ => Err(refused(AssertionRefusal::UnknownKey, &subject)),
        }
    }

    /// As [`Self::prove`], for a client that may log in from where it is.
    ///
    /// # Errors
    /// Also a rule of the account that refuses the login.
    pub async fn log_in(
        &self,
        client: &ClientAssertion,
        caller: Caller,
        now: Timestamp,
    ) -> Result<ProvenClient, Failure> {
        let proven = self.prove(client, caller, now).await?;
        match may_log_in(&proven.account, proven.key, caller.address, now) {
            Ok(()) => Ok(proven),
            Err(rule) => Err(Failure::refused(LoginRefusal::Rule(rule), proven.subject)),
        }
    }
}
