//! A login from its first tokens to its last: what is issued, and what a refresh token may still do.
//!
//! Each refresh replaces the refresh token (RFC 9700 section 4.14.2). The next tokens are derived from the presented
//! token and the family's seed, so a client that lost the answer asks again and gets the same tokens. An older refresh
//! token means that two parties have tokens of the family, and ends it.
//!
//! RFC 6749 section 4.4.3 says that client credentials should not come with a refresh token. Here they do: an account
//! with `useRefreshToken` authenticates again every few seconds, and each refresh needs a fresh assertion.

use super::{
    AccessToken, EndReason, Family, FamilySeed, Generation, Generations, IssuedToken, Login, LoginId, RefreshToken,
    TokenBits, TokenHash, Tokens,
};
use crate::account::{AccountId, KeyId};
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// Makes the derived access tokens different from the derived refresh tokens, and names the version of the derivation.
const ACCESS_PURPOSE: &[u8] = b"opsadmin-operator: access token: 1\0";
const REFRESH_PURPOSE: &[u8] = b"opsadmin-operator: refresh token: 1\0";

/// How long tokens work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// The lifetime of an access token without a refresh token.
    pub token: SignedDuration,
    /// The lifetime of an access token that comes with a refresh token.
    pub short_token: SignedDuration,
    /// The time after which a client must log in again, however often it refreshed.
    pub family: SignedDuration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            token: SignedDuration::from_mins(5),
            short_token: SignedDuration::from_secs(10),
            family: SignedDuration::from_hours(24),
        }
    }
}

/// Who logs in, when, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewLogin {
    /// The id of the new login.
    pub id: LoginId,
    /// The account.
    pub account: AccountId,
    /// The key pair that signed the assertion.
    pub key: KeyId,
    /// The client's address.
    pub address: IpAddr,
    /// The time of the login.
    pub now: Timestamp,
}

/// The random bits of a new login.
#[derive(Clone)]
pub struct LoginEntropy {
    /// 256 bits for the access token.
    pub access: TokenBits,
    /// 256 bits for the refresh token.
    pub refresh: TokenBits,
    /// 256 bits for the seed of the family.
    pub seed: FamilySeed,
}

/// Tokens for the answer to the client (RFC 6749 section 5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The access token.
    pub access: AccessToken,
    /// How long the access token works.
    pub expires_in: SignedDuration,
    /// The refresh token, if the account has to use one.
    pub refresh: Option<RefreshToken>,
}

/// What to do about a presented refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refresh {
    /// Write the next generations with [`super::LoginDatabase::refresh`], and then answer with the tokens.
    Issue(Box<NextTokens>),
    /// Record the assertion and end the login with [`EndReason::Reused`]. The audit log must tell it.
    Reused,
    /// Refuse, and change nothing.
    Refused(RefreshRefusal),
}

/// The outcome of a refresh that is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextTokens {
    /// The hash of the refresh token that must still be the current one.
    pub expected: TokenHash,
    /// The generations to write.
    pub generations: Generations,
    /// The answer.
    pub issued: Issued,
}

/// Why a refresh token is refused. The client gets the same answer for each: `invalid_grant` (RFC 6749 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshRefusal {
    /// The login began with another key pair than the one that signed the assertion.
    OtherKey,
    /// The login has no refresh tokens.
    NoFamily,
    /// The login has ended.
    Ended(EndReason),
    /// The absolute end of the family has passed.
    Expired,
}

impl RefreshRefusal {
    /// The reason's name in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherKey => "refresh-token-of-another-key",
            Self::NoFamily => "no-refresh-token-issued",
            Self::Ended(EndReason::Revoked) => "login-revoked",
            Self::Ended(EndReason::LoggedOut) => "login-logged-out",
            Self::Ended(EndReason::Reused) => "login-ended-by-reuse",
            Self::Expired => "refresh-token-expired",
        }
    }
}

/// Creates a login and its first tokens: with a refresh token if the account has to use one.
pub fn begin(new: NewLogin, use_refresh_token: bool, lifetimes: Lifetimes, entropy: LoginEntropy) -> (Login, Issued) {
    let access = AccessToken::from_bits(&entropy.access);
    let (tokens, expires_in, refresh) = if use_refresh_token {
        let refresh = RefreshToken::from_bits(new.id, &entropy.refresh);
        let expires = after(new.now, lifetimes.family);
        let issued = IssuedToken { hash: access.hash(), expires: after(new.now, lifetimes.short_token).min(expires) };
        let expires_in = issued.expires.duration_since(new.now);
        let current = Generation { refresh: refresh.hash(), access: issued };
        (Tokens::Family(Family { seed: entropy.seed, current, previous: None, expires }), expires_in, Some(refresh))
    } else {
        let expires = after(new.now, lifetimes.token);
        (Tokens::Access(IssuedToken { hash: access.hash(), expires }), expires.duration_since(new.now), None)
    };
    let NewLogin { id, account, key, address, now } = new;
    let login = Login { id, account, key, began: now, address, tokens, end: None };
    (login, Issued { access, expires_in, refresh })
}

/// Decides about a refresh token of this login that came with an assertion signed by the key pair `key`.
///
/// The current refresh token gives the next tokens. The previous one gives the same tokens again, with a new lifetime of
/// the access token, because the answer to it may have been lost. Any other one ends the login.
pub fn refresh(login: &Login, presented: &RefreshToken, key: KeyId, lifetimes: Lifetimes, now: Timestamp) -> Refresh {
    let family = match usable_family(login, key, now) {
        Ok(family) => family,
        Err(refusal) => return Refresh::Refused(refusal),
    };
    let hash = presented.hash();
    let access = AccessToken::from_bits(&derived(&family.seed, ACCESS_PURPOSE, presented));
    let refresh = RefreshToken::from_bits(login.id, &derived(&family.seed, REFRESH_PURPOSE, presented));
    let previous = match &family.previous {
        _ if hash == family.current.refresh => family.current.clone(),
        Some(previous) if hash == previous.refresh && refresh.hash() == family.current.refresh => previous.clone(),
        _ => return Refresh::Reused,
    };
    let expires = after(now, lifetimes.short_token).min(family.expires);
    let current = Generation { refresh: refresh.hash(), access: IssuedToken { hash: access.hash(), expires } };
    Refresh::Issue(Box::new(NextTokens {
        expected: family.current.refresh,
        generations: Generations { current, previous },
        issued: Issued { access, expires_in: expires.duration_since(now), refresh: Some(refresh) },
    }))
}

fn usable_family(login: &Login, key: KeyId, now: Timestamp) -> Result<&Family, RefreshRefusal> {
    if login.key != key {
        return Err(RefreshRefusal::OtherKey);
    }
    if let Some(end) = login.end {
        return Err(RefreshRefusal::Ended(end.reason));
    }
    match &login.tokens {
        Tokens::Access(_) => Err(RefreshRefusal::NoFamily),
        Tokens::Family(family) if family.expires <= now => Err(RefreshRefusal::Expired),
        Tokens::Family(family) => Ok(family),
    }
}

/// Returns the bits of a token of the next generation: an HMAC-SHA256 with the seed as its key. Neither the seed nor
/// the presented token alone gives them.
fn derived(seed: &FamilySeed, purpose: &[u8], presented: &RefreshToken) -> TokenBits {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mac: Hmac<Sha256> = Hmac::new_from_slice(seed.expose()).expect("HMAC takes keys of any length");
    let bits = mac.chain_update(purpose).chain_update(presented.expose()).finalize().into_bytes();
    Zeroizing::new(bits.into())
}

fn after(now: Timestamp, lifetime: SignedDuration) -> Timestamp {
    now.checked_add(lifetime).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
