//! Identities: UUIDs of accounts and of key pairs, as types that cannot be mixed up.

use std::fmt;
use uuid::{Builder, Uuid};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// An id from 128 random bits, as a version 4 UUID (RFC 9562).
            pub fn from_random(bits: [u8; 16]) -> Self {
                Self(Builder::from_random_bytes(bits).into_uuid())
            }

            /// Reads the text that [`fmt::Display`] writes; `None` for anything that is no UUID.
            pub fn parse(text: &str) -> Option<Self> {
                Uuid::try_parse(text).map(Self).ok()
            }

            /// The 16 bytes of the UUID, to bind what is sealed to what it belongs to.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

id! {
    /// An account's identity in OpsAdmin, chosen once and kept through renames, restores and moves.
    AccountId
}

id! {
    /// A key pair's identity: status, journal and people speak of a pair by it, never by the keys.
    KeyId
}
