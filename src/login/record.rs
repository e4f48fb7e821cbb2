//! A login as its tables hold it. They hold no token, only hashes of tokens.

use crate::account::{AccountId, KeyId};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::IpAddr;
use zeroize::Zeroizing;

crate::account::id! {
    /// The id of a login. A refresh token carries it, so that an old refresh token still names its login.
    LoginId
}

/// One login of an account with one of its key pairs.
///
/// A login gives no access by itself: the account and the key pair must still let the client in at each use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The login's id.
    pub id: LoginId,
    /// The account that logged in.
    pub account: AccountId,
    /// The key pair that it logged in with.
    pub key: KeyId,
    /// The time of the login.
    pub began: Timestamp,
    /// The client's address at the login.
    pub address: IpAddr,
    /// The tokens that work.
    pub tokens: Tokens,
    /// When and why the login ended before its tokens expired; `None` for a login that did not.
    pub end: Option<End>,
}

impl Login {
    /// Returns the time from which no token of the login works any more. Its row may be removed then.
    pub fn expires(&self) -> Timestamp {
        match &self.tokens {
            Tokens::Access(token) => token.expires,
            Tokens::Family(family) => family.expires,
        }
    }

    /// Returns the login's access token with this hash, which may have expired; `None` if the login has no such token.
    pub fn access_token(&self, hash: &TokenHash) -> Option<&IssuedToken> {
        let tokens = match &self.tokens {
            Tokens::Access(token) => [Some(token), None],
            Tokens::Family(family) => [Some(&family.current.access), family.previous.as_ref().map(|old| &old.access)],
        };
        tokens.into_iter().flatten().find(|token| token.hash == *hash)
    }
}

/// The tokens of a login that work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokens {
    /// One access token and no refresh token.
    Access(IssuedToken),
    /// Short-lived access tokens and refresh tokens that follow each other.
    Family(Family),
}

/// The hash of an access token, with its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// The hash of the token.
    pub hash: TokenHash,
    /// The time from which the token does not work. A refresh that is repeated moves it to a later time, so read an
    /// expired token again before you refuse it.
    pub expires: Timestamp,
}

/// The refresh tokens of one login and the access tokens issued with them (RFC 9700 section 4.14.2: rotation).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// The secret from which the tokens of the next generation are derived.
    pub seed: FamilySeed,
    /// The generation that was issued last.
    pub current: Generation,
    /// The generation before it. Its refresh token may be presented again, because the answer to it may have been lost.
    pub previous: Option<Generation>,
    /// The time from which no token of the family works, however often it was refreshed.
    pub expires: Timestamp,
}

/// A refresh token and the access token issued with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// The hash of the refresh token.
    pub refresh: TokenHash,
    /// The access token.
    pub access: IssuedToken,
}

/// When and why a login ended before its tokens expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The time of the end.
    pub at: Timestamp,
    /// The reason.
    pub reason: EndReason,
}

/// Why a login ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The client revoked a token of the login (RFC 7009).
    Revoked,
    /// OpsAdmin staff logged the account out.
    LoggedOut,
    /// An old refresh token was presented: somebody else has a token of this login.
    Reused,
}

impl EndReason {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::Revoked, Self::LoggedOut, Self::Reused];

    /// The reason's name, as the database and the audit log have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::LoggedOut => "logged-out",
            Self::Reused => "reused",
        }
    }

    /// Reads the text that [`Self::as_str`] returns; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// An assertion that was accepted. It must not be accepted again (RFC 7523 section 3, number 7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedAssertion {
    /// The key pair that signed the assertion. Two pairs may use the same `jti`.
    pub key: KeyId,
    /// The hash of the assertion's `jti`.
    pub hash: AssertionHash,
    /// The time until which the assertion must be remembered. No server accepts it after that, not even one whose clock
    /// is behind.
    pub until: Timestamp,
}

macro_rules! hash {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Returns the hash of this text.
            pub fn of(text: &str) -> Self {
                Self(Sha256::digest(text.as_bytes()).into())
            }

            /// Takes the bytes of a stored hash.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The bytes, to store them.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(hidden)"))
            }
        }
    };
}

hash! {
    /// The SHA-256 of the whole text of an access or refresh token. Tokens have 256 random bits, so they need no salt.
    TokenHash
}

hash! {
    /// The SHA-256 of the `jti` of an assertion.
    AssertionHash
}

/// The 256 random bits of one family of refresh tokens. They give no access without a refresh token of the family.
#[derive(Clone, PartialEq, Eq)]
pub struct FamilySeed(Zeroizing<[u8; 32]>);

impl FamilySeed {
    /// Takes random bytes, or those of a stored seed.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Returns the bytes, to store them and to derive tokens from them.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for FamilySeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FamilySeed(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_parsed_as_they_are_stored() {
        for reason in EndReason::ALL {
            assert_eq!(EndReason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(EndReason::parse("Revoked"), None);
    }

    #[test]
    fn hashes_and_seeds_are_not_printed() {
        let hash = TokenHash::from_bytes([7; 32]);
        let shown = format!("{hash:?} {:?} {:?}", AssertionHash::of("jti"), FamilySeed::from_bytes([7; 32]));
        assert_eq!(shown, "TokenHash(hidden) AssertionHash(hidden) FamilySeed(hidden)");
    }
}
