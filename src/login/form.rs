//! Forms that clients post to the token endpoint and the revocation endpoint: RFC 6749 section 3.2, RFC 7009 section
//! 2.1, and the client's assertion of RFC 7521 section 4.2.

use crate::account::ApiKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use std::collections::BTreeMap;
use std::fmt;
use url::form_urlencoded;
use zeroize::Zeroizing;

/// The most bytes of a form.
pub const MAX_FORM_BYTES: usize = 16 * 1024;

/// The only `client_assertion_type`: RFC 7523 section 2.2.
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

const FORM_TYPE: &str = "application/x-www-form-urlencoded";

/// The proof of who the client is.
pub struct ClientAssertion {
    /// The assertion, not verified.
    pub assertion: Zeroizing<String>,
    /// The `client_id`, if the client sent one. It must name the same client as the assertion.
    pub client_id: Option<String>,
}

/// A form for the token endpoint.
#[derive(Debug)]
pub struct TokenRequest {
    /// The proof of who the client is.
    pub client: ClientAssertion,
    /// What the client asks for.
    pub grant: Grant,
}

/// What a client asks the token endpoint for.
pub enum Grant {
    /// A new login (RFC 6749 section 4.4).
    ClientCredentials,
    /// The next tokens of a login, for this refresh token (RFC 6749 section 6).
    RefreshToken(Zeroizing<String>),
}

/// A form for the revocation endpoint.
pub struct RevocationRequest {
    /// The proof of who the client is.
    pub client: ClientAssertion,
    /// The access token or refresh token to revoke.
    pub token: Zeroizing<String>,
}

/// Why a form is refused. It depends on the request alone, never on an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormRefusal {
    /// A secret was sent, in the body, the query or an `Authorization` header. That is an alarm: anybody on the way may
    /// have read the secret key.
    SecretTravelled {
        /// The API key that came with it, if one can be read. Anybody can send any API key.
        claimed: Option<ApiKey>,
    },
    /// The body has more than [`MAX_FORM_BYTES`].
    TooLarge,
    /// The content type is not that of a form.
    ContentType,
    /// The URL has a query (RFC 6749 section 2.3.1).
    Query,
    /// A parameter is there twice (RFC 6749 section 3.2).
    Repeated,
    /// There is no `grant_type`.
    NoGrantType,
    /// The `grant_type` is unknown.
    GrantType,
    /// The `client_assertion_type` is missing or not [`ASSERTION_TYPE`].
    AssertionType,
    /// There is no `client_assertion`.
    NoAssertion,
    /// There is no `refresh_token`.
    NoRefreshToken,
    /// There is no `token` to revoke.
    NoToken,
}

impl FormRefusal {
    /// The reason's name in the audit log.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::SecretTravelled { .. } => "secret-travelled",
            Self::TooLarge => "form-too-large",
            Self::ContentType => "form-content-type",
            Self::Query => "form-in-query",
            Self::Repeated => "parameter-repeated",
            Self::NoGrantType => "no-grant-type",
            Self::GrantType => "grant-type",
            Self::AssertionType => "assertion-type",
            Self::NoAssertion => "no-assertion",
            Self::NoRefreshToken => "no-refresh-token",
            Self::NoToken => "no-token",
        }
    }
}

impl TokenRequest {
    /// Reads a form for the token endpoint. Unknown parameters are ignored, and a parameter without a value counts as
    /// omitted (RFC 6749 section 3.2).
    ///
    /// # Errors
    /// The first reason to refuse the form. A secret is looked for first, so that no other mistake hides it.
    pub fn read(headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Result<Self, FormRefusal> {
        let mut form = Form::read(headers, query, body)?;
        let grant_type = form.take("grant_type").ok_or(FormRefusal::NoGrantType)?;
        let is_refresh = match grant_type.as_str() {
            "client_credentials" => false,
            "refresh_token" => true,
            _ => return Err(FormRefusal::GrantType),
        };
        let client = form.client()?;
        let grant = if is_refresh {
            Grant::RefreshToken(form.take("refresh_token").ok_or(FormRefusal::NoRefreshToken)?)
        } else {
            Grant::ClientCredentials
        };
        Ok(Self { client, grant })
    }
}

impl RevocationRequest {
    /// Reads a form for the revocation endpoint. The `token_type_hint` is not needed: the prefix tells the type.
    ///
    /// # Errors
    /// As [`TokenRequest::read`].
    pub fn read(headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Result<Self, FormRefusal> {
        let mut form = Form::read(headers, query, body)?;
        let client = form.client()?;
        let token = form.take("token").ok_or(FormRefusal::NoToken)?;
        Ok(Self { client, token })
    }
}

/// The parameters of a form that have a value.
struct Form(BTreeMap<String, Zeroizing<String>>);

impl Form {
    fn read(headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Result<Self, FormRefusal> {
        if let Some(authorization) = headers.get(AUTHORIZATION) {
            return Err(FormRefusal::SecretTravelled { claimed: basic_user(authorization) });
        }
        let query = query.unwrap_or_default().as_bytes();
        for sent in [query, body] {
            refuse_secret(sent)?;
        }
        if body.len() > MAX_FORM_BYTES {
            return Err(FormRefusal::TooLarge);
        }
        if !query.is_empty() {
            return Err(FormRefusal::Query);
        }
        if !is_form(headers) {
            return Err(FormRefusal::ContentType);
        }
        let mut seen = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(body) {
            let value = Zeroizing::new(value.into_owned());
            if seen.insert(name.into_owned(), value).is_some() {
                return Err(FormRefusal::Repeated);
            }
        }
        seen.retain(|_, value| !value.is_empty());
        Ok(Self(seen))
    }

    fn take(&mut self, name: &str) -> Option<Zeroizing<String>> {
        self.0.remove(name)
    }

    fn client(&mut self) -> Result<ClientAssertion, FormRefusal> {
        let assertion = self.take("client_assertion").ok_or(FormRefusal::NoAssertion)?;
        if self.take("client_assertion_type").is_none_or(|found| *found != ASSERTION_TYPE) {
            return Err(FormRefusal::AssertionType);
        }
        Ok(ClientAssertion { assertion, client_id: self.take("client_id").map(|id| id.as_str().to_owned()) })
    }
}

/// Refuses parameters among which is a `client_secret` with a value.
fn refuse_secret(sent: &[u8]) -> Result<(), FormRefusal> {
    let sent = sent.get(..MAX_FORM_BYTES).unwrap_or(sent);
    let mut parameters = form_urlencoded::parse(sent);
    if !parameters.any(|(name, value)| name == "client_secret" && !value.is_empty()) {
        return Ok(());
    }
    let mut parameters = form_urlencoded::parse(sent);
    let id = parameters.find(|(name, _)| name == "client_id");
    Err(FormRefusal::SecretTravelled { claimed: id.and_then(|(_, id)| ApiKey::stored(&id).ok()) })
}

/// Returns the user of a header `Authorization: Basic ...` if it is the text of an API key (RFC 6749 section 2.3.1).
fn basic_user(authorization: &HeaderValue) -> Option<ApiKey> {
    let (scheme, credentials) = authorization.to_str().ok()?.split_once(' ')?;
    let credentials = Zeroizing::new(STANDARD.decode(credentials.trim()).ok()?);
    let (user, _) = std::str::from_utf8(&credentials).ok()?.split_once(':')?;
    if scheme.eq_ignore_ascii_case("basic") { ApiKey::stored(user).ok() } else { None }
}

/// Returns whether there is one content type, and it is that of a form, with or without parameters such as `charset`.
fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(first), None) = (types.next(), types.next()) else {
        return false;
    };
    let media_type = first.to_str().ok().and_then(|text| text.split(';').next());
    media_type.is_some_and(|found| found.trim().eq_ignore_ascii_case(FORM_TYPE))
}

impl fmt::Debug for ClientAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientAssertion(hidden)")
    }
}

impl fmt::Debug for RevocationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RevocationRequest(hidden)")
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientCredentials => "ClientCredentials",
            Self::RefreshToken(_) => "RefreshToken(hidden)",
        })
    }
}

#[cfg(test)]
mod tests;
