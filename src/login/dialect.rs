//! What proxies ask: each dialect says which request it means in its own way, and only that way is read.
//!
//! - nginx `auth_request` sends the headers that its configuration sets: `X-Original-Method`, `X-Original-URI` and
//!   `X-Real-IP`.
//! - Caddy `forward_auth` and Traefik `ForwardAuth` send `X-Forwarded-Method`, `X-Forwarded-Uri` and `X-Forwarded-For`.
//! - Envoy `ext_authz` with an HTTP service sends the request's own method, its path behind a prefix, and
//!   `X-Forwarded-For`. `X-Envoy-External-Address` is not read: Envoy leaves it out for clients of internal networks.
//!
//! A client can send the headers of the other dialects through any proxy. So a proxy must ask at its own path.

use super::AccessToken;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, Method};
use thiserror::Error;

/// The path at which Envoy asks, which is its `path_prefix`.
pub const ENVOY_PREFIX: &str = "/authz/envoy";

// A text would have to be checked at each look, because not every text is a name.
static ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
static ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
static REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
static FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
static FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How a proxy asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// nginx: `auth_request`.
    Nginx,
    /// Caddy: `forward_auth`. Traefik: `ForwardAuth`.
    Forward,
    /// Envoy: `ext_authz` with an HTTP service.
    Envoy,
}

/// A request that a proxy asks about. Method and target are as the client sent them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxiedRequest<'a> {
    /// The method.
    pub method: Method,
    /// The path with its query.
    pub target: &'a str,
    /// The hops, for [`super::client_address`].
    pub forwarded: &'a str,
    /// The client's access token.
    pub token: Result<AccessToken, TokenFault>,
}

/// Why a proxy's question cannot be answered. The proxy must be configured otherwise: a client cannot cause it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DialectError {
    /// A header is missing.
    #[error("the proxy sent no header {header}: set it as docs/login.md says")]
    Missing {
        /// The header.
        header: &'static HeaderName,
    },
    /// A header is there more than once.
    #[error("the proxy sent the header {header} more than once: have it replace what the client sends")]
    Repeated {
        /// The header.
        header: &'static HeaderName,
    },
    /// A header has a value that cannot be read.
    #[error("the header {header} of the proxy has a value that cannot be read")]
    Unreadable {
        /// The header.
        header: &'static HeaderName,
    },
    /// The path does not begin with Envoy's prefix and a slash.
    #[error("the path does not begin with {ENVOY_PREFIX}/: set it as path_prefix, without a slash at its end")]
    Prefix,
}

/// Why a request has no usable access token (RFC 6750 section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenFault {
    /// There is no header `Authorization`.
    Missing,
    /// There are several of it.
    Repeated,
    /// It is not of the scheme `Bearer`.
    Scheme,
    /// The text is not the text of an access token.
    Malformed,
}

impl TokenFault {
    /// The reason's name in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "no-token",
            Self::Repeated => "token-repeated",
            Self::Scheme => "token-scheme",
            Self::Malformed => "token-malformed",
        }
    }
}

impl Dialect {
    /// Reads the question of a proxy. `method` and `path` are those of the question itself, the path with its query.
    ///
    /// # Errors
    /// What the dialect sends is missing, repeated or unreadable.
    pub fn read<'a>(
        self,
        method: &'a Method,
        path: &'a str,
        headers: &'a HeaderMap,
    ) -> Result<ProxiedRequest<'a>, DialectError> {
        let (method, target, forwarded) = match self {
            Self::Nginx => {
                (method_in(headers, &ORIGINAL_METHOD)?, one(headers, &ORIGINAL_URI)?, single_hop(headers, &REAL_IP)?)
            }
            Self::Forward => {
                (method_in(headers, &FORWARDED_METHOD)?, one(headers, &FORWARDED_URI)?, one(headers, &FORWARDED_FOR)?)
            }
            Self::Envoy => (method.clone(), without_prefix(path)?, one(headers, &FORWARDED_FOR)?),
        };
        Ok(ProxiedRequest { method, target, forwarded, token: bearer(headers) })
    }
}

fn one<'a>(headers: &'a HeaderMap, header: &'static HeaderName) -> Result<&'a str, DialectError> {
    let mut values = headers.get_all(header).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(DialectError::Missing { header }),
        (Some(_), Some(_)) => Err(DialectError::Repeated { header }),
        (Some(value), None) => match value.to_str() {
            Ok("") => Err(DialectError::Missing { header }),
            Ok(text) => Ok(text),
            Err(_) => Err(DialectError::Unreadable { header }),
        },
    }
}

fn method_in(headers: &HeaderMap, header: &'static HeaderName) -> Result<Method, DialectError> {
    Method::from_bytes(one(headers, header)?.as_bytes()).map_err(|_| DialectError::Unreadable { header })
}

/// `X-Real-IP` is one address. A list in it would come from a client, through a proxy that appends.
fn single_hop<'a>(headers: &'a HeaderMap, header: &'static HeaderName) -> Result<&'a str, DialectError> {
    let hop = one(headers, header)?;
    if hop.contains(',') { Err(DialectError::Repeated { header }) } else { Ok(hop) }
}

fn without_prefix(path: &str) -> Result<&str, DialectError> {
    path.strip_prefix(ENVOY_PREFIX).filter(|rest| rest.starts_with('/')).ok_or(DialectError::Prefix)
}

/// Reads the only `Authorization` header. Its scheme is compared without case (RFC 9110 section 11.1).
fn bearer(headers: &HeaderMap) -> Result<AccessToken, TokenFault> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(TokenFault::Missing)?;
    if values.next().is_some() {
        return Err(TokenFault::Repeated);
    }
    let text = value.to_str().map_err(|_| TokenFault::Malformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(TokenFault::Scheme)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(TokenFault::Scheme);
    }
    AccessToken::parse(token.trim_matches(' ')).ok_or(TokenFault::Malformed)
}

#[cfg(test)]
mod tests;
