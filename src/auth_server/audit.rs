//! The audit log: one line for each login, each refusal and each login that is ended. The field `audit` names the kind.
//!
//! A line never has a token, an assertion or a secret key. API keys are public.

use crate::account::{Account, AccountId, ApiKey, KeyId};
use crate::login::{EndReason, FormRefusal, LoginId, LoginRefusal};
use std::net::IpAddr;
use tracing::field::{debug, display};

/// Whom a line is about, as far as it is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    /// The API key that the client claims to have.
    pub api_key: Option<ApiKey>,
    /// The account that has the API key, and its name.
    pub account: Option<(AccountId, String)>,
    /// The key pair.
    pub key: Option<KeyId>,
}

impl Subject {
    pub fn claimed(api_key: &ApiKey) -> Self {
        Self { api_key: Some(api_key.clone()), ..Self::default() }
    }

    /// Adds the account that has the API key.
    pub fn found(self, account: &Account, key: KeyId) -> Self {
        Self { account: Some((account.id, account.settings.name.clone())), key: Some(key), ..self }
    }
}

/// A client got tokens: for a new login or by a refresh.
pub(super) fn accepted(what: &'static str, account: &Account, key: KeyId, login: LoginId, address: IpAddr) {
    tracing::info!(
        audit = what, account = %account.id, name = ?account.settings.name, pair = %key, %login, %address,
        "an account got a token"
    );
}

/// A request for a token or a revocation was refused.
pub(super) fn refused(refusal: &LoginRefusal, subject: &Subject, address: IpAddr) {
    let rule = refusal.as_str();
    let account = subject.account.as_ref().map(|(id, _)| display(id));
    let name = subject.account.as_ref().map(|(_, name)| debug(name));
    let (pair, api_key) = (subject.key.map(display), subject.api_key.as_ref().map(|key| display(key.as_str())));
    match refusal {
        LoginRefusal::Form(FormRefusal::SecretTravelled { .. }) => tracing::warn!(
            audit = "alarm", rule, account, name, pair, api_key, %address,
            "a secret or an Authorization header was sent, so others may know a secret key: find out what the client sends, and rotate the account's keys if it is the secret key"
        ),
        LoginRefusal::Assertion(crate::login::AssertionRefusal::AudienceTokenEndpoint) => tracing::warn!(
            audit = "refusal", rule, account, name, pair, api_key, %address,
            "a login was refused, because its assertion is for the URL of the token endpoint: the partner must set the issuer as the audience"
        ),
        LoginRefusal::SealedSecret => tracing::error!(
            audit = "refusal", rule, account, name, pair, api_key, %address,
            "a login was refused, because the secret key in the database cannot be opened: check the keyring, or restore the row from a backup"
        ),
        _ => tracing::info!(audit = "refusal", rule, account, name, pair, api_key, %address, "a login was refused"),
    }
}

/// A request that a proxy asked about was refused although its token is one of this account's.
pub(super) fn not_let_in(rule: &'static str, account: AccountId, pair: KeyId, address: Option<IpAddr>) {
    let address = address.map(display);
    tracing::info!(audit = "refusal", rule, %account, %pair, address, "a request was refused");
}

/// A login was ended before it expired.
pub(super) fn ended(reason: EndReason, account: AccountId, pair: KeyId, login: LoginId, address: IpAddr) {
    let rule = reason.as_str();
    if reason == EndReason::Reused {
        tracing::warn!(
            audit = "end", rule, %account, %pair, %login, %address,
            "a login was ended, because an old refresh token was presented: somebody else may have a token of it"
        );
    } else {
        tracing::info!(audit = "end", rule, %account, %pair, %login, %address, "a login was ended");
    }
}
