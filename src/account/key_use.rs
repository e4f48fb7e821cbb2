//! When a key pair was used to log in.

use super::KeyId;
use jiff::Timestamp;

/// When a key pair was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUse {
    /// The key pair.
    pub key: KeyId,
    /// The first use.
    pub first: Timestamp,
    /// The last use.
    pub last: Timestamp,
}
