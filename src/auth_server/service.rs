//! What all handlers of one auth server share.

use super::attempts::Attempts;
use super::current_access::CurrentAccess;
use super::issuer::Issuer;
use super::metrics::{Exposition, Metrics};
use super::uses::Uses;
use crate::account::AllowedIp;
use crate::database::{CurrentKeyring, WithLogins};
use crate::login::{Audience, Lifetimes, PathTable, TrustedProxies};
use crate::reconcile::Environment;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What all handlers share.
pub(super) struct Service {
    pub database: WithLogins,
    pub access: Arc<CurrentAccess>,
    pub keyring: CurrentKeyring,
    pub environment: Arc<dyn Environment>,
    pub issuer: Issuer,
    pub audience: Audience,
    pub paths: PathTable,
    pub proxies: TrustedProxies,
    pub internal: Networks,
    pub introspection: Option<CallerToken>,
    pub lifetimes: Lifetimes,
    pub attempts: Mutex<Attempts>,
    pub uses: Uses,
    pub metrics: Arc<Metrics>,
    pub exposition: Exposition,
    pub readiness: Readiness,
}

impl Service {
    pub fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The networks from which the internal listener takes requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks(pub Vec<AllowedIp>);

impl Networks {
    pub(super) fn include(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

/// The hash of the token with which programs call `/introspect`.
#[derive(Clone)]
pub struct CallerToken([u8; 32]);

impl CallerToken {
    /// Takes the token in the contents of its file. White space around it does not count.
    ///
    /// # Errors
    /// It is too short to be a secret, or a header cannot carry it.
    pub fn parse(contents: &str) -> Result<Self, &'static str> {
        let token = contents.trim();
        if token.len() < 32 || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                "it must be one line of at least 32 letters, digits and signs; `openssl rand -hex 32` makes one",
            );
        }
        Ok(Self(Sha256::digest(token).into()))
    }

    /// Returns whether this is the token. The comparison of hashes tells nothing about the token.
    pub(super) fn is(&self, token: &str) -> bool {
        self.0[..] == Sha256::digest(token)[..]
    }
}

impl fmt::Debug for CallerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerToken(hidden)")
    }
}

/// Whether the database answered last.
#[derive(Debug, Default)]
pub(super) struct Readiness(AtomicBool);

impl Readiness {
    pub fn set(&self, is_ready: bool) {
        self.0.store(is_ready, Ordering::Relaxed);
    }

    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_callers_is_compared_whole_and_not_printed() {
        let text = "0123456789abcdef0123456789abcdef";
        let token = CallerToken::parse(&format!("{text}\n")).unwrap();
        assert!(token.is(text) && !token.is(&text[1..]) && !token.is(""));
        assert!(!format!("{token:?}").contains("0123"));
        for wrong in ["", "short", "0123456789abcdef 0123456789abcdef"] {
            assert!(CallerToken::parse(wrong).is_err(), "{wrong}");
        }
    }
}
