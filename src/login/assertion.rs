//! The assertion with which a client proves that it has a secret key: `client_secret_jwt` of `OpenID` Connect Core
//! 1.0 section 9, a JWT of RFC 7523 section 3 with the audience of draft-ietf-oauth-rfc7523bis.
//!
//! The types keep the order of the checks. An [`UnverifiedAssertion`] tells only which API key it claims. Its claims can
//! be read once the signature was verified, and its `jti` once all claims were accepted.

mod json;

use super::{AssertionHash, UsedAssertion};
use crate::account::{ApiKey, KeyId, MIN_SECRET_OCTETS, SecretKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use sha2::Sha256;
use std::fmt;

/// How long an assertion is good after its `iat`. Clients that reuse an assertion, or give it an hour, are common.
const MAX_AGE: SignedDuration = SignedDuration::from_secs(60);

/// How far the clocks of a client and of this server may be apart.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(10);

/// How long a used assertion is remembered after it is no longer good: another server's clock may be behind.
const REMEMBERED: SignedDuration = SignedDuration::from_secs(60);

const MAX_ID_BYTES: usize = 255;

/// The key of the MAC that is computed for an unknown API key, so that the answer takes as long as for a known one.
const DUMMY_KEY: &str = "opsa_sk_0000000000000000000000000000000000000000000000000";

/// What an assertion must be meant for. Never taken from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    /// The issuer: the only audience that is accepted.
    pub issuer: String,
    /// The URL of the token endpoint. Older clients send it. It is refused with a reason of its own.
    pub token_endpoint: String,
}

/// Why an assertion is refused. The client gets the same answer for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AssertionRefusal {
    /// Not three parts in base64url without padding, or a part is not JSON without repeated keys.
    Malformed,
    /// The header has `crit`: extensions that must be understood (RFC 7515 section 4.1.11).
    Critical,
    /// The `alg` is not `HS256`.
    Algorithm,
    /// The `typ` is not one of an assertion.
    Type,
    /// `iss`, `sub` and `client_id` do not name the same API key.
    Names,
    /// No account has the API key.
    UnknownKey,
    /// The secret key has fewer than [`MIN_SECRET_OCTETS`].
    ShortSecret,
    /// The signature is wrong.
    Signature,
    /// The `aud` is not the issuer.
    Audience,
    /// The `aud` is the token endpoint and not the issuer. The partner must configure its client otherwise.
    AudienceTokenEndpoint,
    /// A time is missing or not a number: `exp` is required.
    Times,
    /// The assertion is too old.
    Expired,
    /// The `iat` or `nbf` is in the future.
    Early,
    /// There is no `iat`, and `exp` is too far ahead.
    LongLived,
    /// There is no `jti`, or it is empty or longer than 255 bytes.
    Id,
}

impl AssertionRefusal {
    /// The reason's name in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "assertion-malformed",
            Self::Critical => "assertion-crit",
            Self::Algorithm => "assertion-alg",
            Self::Type => "assertion-typ",
            Self::Names => "assertion-names",
            Self::UnknownKey => "unknown-api-key",
            Self::ShortSecret => "secret-key-too-short",
            Self::Signature => "signature",
            Self::Audience => "assertion-aud",
            Self::AudienceTokenEndpoint => "assertion-aud-token-endpoint",
            Self::Times => "assertion-times",
            Self::Expired => "assertion-expired",
            Self::Early => "assertion-early",
            Self::LongLived => "assertion-long-lived",
            Self::Id => "assertion-jti",
        }
    }
}

/// An assertion of the right form whose signature was not verified.
pub struct UnverifiedAssertion {
    api_key: ApiKey,
    signed: String,
    signature: Vec<u8>,
    claims: Map<String, Value>,
}

/// An assertion that a key pair signed.
pub struct VerifiedAssertion {
    key: KeyId,
    claims: Map<String, Value>,
}

impl UnverifiedAssertion {
    /// Reads an assertion in compact form (RFC 7515 section 7.1). It must name the same API key as `client_id`, if the
    /// client sent one.
    ///
    /// # Errors
    /// The form, the header or the names are wrong.
    pub fn parse(text: &str, client_id: Option<&str>) -> Result<Self, AssertionRefusal> {
        let (signed, signature) = text.rsplit_once('.').ok_or(AssertionRefusal::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(AssertionRefusal::Malformed)?;
        let [header, claims, signature] = [header, claims, signature].map(decoded);
        let (header, claims) = (object(header)?, object(claims)?);
        check_header(&header)?;
        let api_key = common_name(&claims, client_id).ok_or(AssertionRefusal::Names)?;
        Ok(Self { api_key, signed: signed.to_owned(), signature: signature?, claims })
    }

    /// The API key that the assertion claims. Nothing proves it yet.
    pub fn api_key(&self) -> &ApiKey {
        &self.api_key
    }

    /// Verifies the signature with the key pair of the claimed API key; `None` if no account has it. Computes one MAC
    /// in each case and compares in constant time.
    ///
    /// # Errors
    /// The API key is unknown, its secret key is too short, or the signature is wrong.
    pub fn verify(self, pair: Option<(KeyId, &SecretKey)>) -> Result<VerifiedAssertion, AssertionRefusal> {
        let secret = pair.map_or(DUMMY_KEY, |(_, secret_key)| secret_key.expose());
        let is_signed = mac(secret, &self.signed).verify_slice(&self.signature).is_ok();
        let (key, _) = pair.ok_or(AssertionRefusal::UnknownKey)?;
        if secret.len() < MIN_SECRET_OCTETS {
            return Err(AssertionRefusal::ShortSecret);
        }
        if !is_signed {
            return Err(AssertionRefusal::Signature);
        }
        Ok(VerifiedAssertion { key, claims: self.claims })
    }
}

impl VerifiedAssertion {
    /// Checks that the assertion is meant for this server and is good at the time `now`. Returns what must be recorded,
    /// so that it is accepted once.
    ///
    /// # Errors
    /// The audience, a time or the id is wrong.
    pub fn accept(self, audience: &Audience, now: Timestamp) -> Result<UsedAssertion, AssertionRefusal> {
        check_audience(self.claims.get("aud"), audience)?;
        let good_until = good_until(&self.claims, now)?;
        let id = self.claims.get("jti").and_then(Value::as_str);
        let id = id.filter(|id| (1..=MAX_ID_BYTES).contains(&id.len())).ok_or(AssertionRefusal::Id)?;
        Ok(UsedAssertion { key: self.key, hash: AssertionHash::of(id), until: plus(good_until, REMEMBERED) })
    }
}

/// Decodes base64url without padding. Refuses trailing bits, so that no part has a second text.
fn decoded(part: &str) -> Result<Vec<u8>, AssertionRefusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| AssertionRefusal::Malformed)
}

fn object(part: Result<Vec<u8>, AssertionRefusal>) -> Result<Map<String, Value>, AssertionRefusal> {
    json::object(&part?).ok_or(AssertionRefusal::Malformed)
}

/// Media types are compared without case (RFC 7515 section 4.1.9), because some clients write `jwt`. The prefix
/// `application/`, which may be left out, is not read: no client writes it.
fn check_header(header: &Map<String, Value>) -> Result<(), AssertionRefusal> {
    if header.contains_key("crit") {
        return Err(AssertionRefusal::Critical);
    }
    if header.get("alg").and_then(Value::as_str) != Some("HS256") {
        return Err(AssertionRefusal::Algorithm);
    }
    let is_known = |text: &str| ["JWT", "client-authentication+jwt"].iter().any(|typ| text.eq_ignore_ascii_case(typ));
    match header.get("typ") {
        None => Ok(()),
        Some(Value::String(typ)) if is_known(typ) => Ok(()),
        Some(_) => Err(AssertionRefusal::Type),
    }
}

/// Returns the API key that `iss`, `sub` and the `client_id` name.
fn common_name(claims: &Map<String, Value>, client_id: Option<&str>) -> Option<ApiKey> {
    let name = claims.get("iss").and_then(Value::as_str)?;
    let is_common =
        claims.get("sub").and_then(Value::as_str) == Some(name) && client_id.is_none_or(|client_id| client_id == name);
    if is_common { ApiKey::stored(name).ok() } else { None }
}

fn mac(secret: &str, signed: &str) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mac: Hmac<Sha256> = Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.chain_update(signed)
}

/// The issuer must be the only audience, as a text or as a list of one (draft-ietf-oauth-rfc7523bis). An assertion with
/// another audience could have been made for another server (CVE-2025-27370).
fn check_audience(found: Option<&Value>, audience: &Audience) -> Result<(), AssertionRefusal> {
    let found = match found {
        Some(Value::Array(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    match found {
        [Value::String(only)] if *only == audience.issuer => Ok(()),
        list if list.iter().any(|one| one.as_str() == Some(&audience.token_endpoint)) => {
            Err(AssertionRefusal::AudienceTokenEndpoint)
        }
        _ => Err(AssertionRefusal::Audience),
    }
}

/// Returns the time from which the assertion is not accepted: min(`exp`, `iat` + 60 s) + 10 s.
fn good_until(claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, AssertionRefusal> {
    let expires = numeric_date(claims, "exp")?.ok_or(AssertionRefusal::Times)?;
    let (issued, not_before) = (numeric_date(claims, "iat")?, numeric_date(claims, "nbf")?);
    let last_start = plus(now, CLOCK_SKEW);
    if [issued, not_before].into_iter().flatten().any(|start| start > last_start) {
        return Err(AssertionRefusal::Early);
    }
    let limit = match issued {
        Some(issued) => expires.min(plus(issued, MAX_AGE)),
        None if expires > plus(last_start, MAX_AGE) => return Err(AssertionRefusal::LongLived),
        None => expires,
    };
    let until = plus(limit, CLOCK_SKEW);
    if now < until { Ok(until) } else { Err(AssertionRefusal::Expired) }
}

/// Reads a `NumericDate` (RFC 7519 section 2): seconds since 1970, maybe with a fraction. A date out of the range of
/// times becomes the first or the last time.
fn numeric_date(claims: &Map<String, Value>, claim: &str) -> Result<Option<Timestamp>, AssertionRefusal> {
    let Some(value) = claims.get(claim) else {
        return Ok(None);
    };
    let seconds = value.as_f64().ok_or(AssertionRefusal::Times)?;
    let date = SignedDuration::try_from_secs_f64(seconds).ok().and_then(|since| Timestamp::from_duration(since).ok());
    Ok(Some(date.unwrap_or(if seconds < 0.0 { Timestamp::MIN } else { Timestamp::MAX })))
}

fn plus(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

impl fmt::Debug for UnverifiedAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedAssertion").field("api_key", &self.api_key).finish_non_exhaustive()
    }
}

impl fmt::Debug for VerifiedAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedAssertion").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
