//! The ids of accounts and of key pairs: UUIDs as separate types, so that they cannot be mixed up.

/// Declares a type of ids of its own.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// Creates an id from 128 random bits, as a version 4 UUID (RFC 9562).
            pub fn from_random(bits: [u8; 16]) -> Self {
                Self(uuid::Builder::from_random_bytes(bits).into_uuid())
            }

            /// Reads the text that [`Display`](std::fmt::Display) writes; `None` if the text is not a UUID.
            pub fn parse(text: &str) -> Option<Self> {
                uuid::Uuid::try_parse(text).map(Self).ok()
            }

            /// Returns the 16 bytes of the UUID, for example to bind sealed data to the id.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }
    };
}

pub(crate) use id;

id! {
    /// The id of an account. It never changes: not when the account is renamed, restored or moved.
    AccountId
}

id! {
    /// The id of a key pair. Statuses and the journal name a key pair by its id, never by its keys.
    KeyId
}
