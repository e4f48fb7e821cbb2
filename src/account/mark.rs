//! Marks: a mark on a Secret proves that this program issued the key pair in the Secret.

use std::fmt;

/// A mark as text: the id of a key of the keyring, a dot, and a code that only the holder of that key can compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// Creates a mark from the id of the keyring's key and the code that was computed with that key.
    pub fn new(key: &str, code: &str) -> Self {
        Self(format!("{key}.{code}"))
    }

    /// Returns the placeholder for any mark, for programs without a keyring, which cannot check marks.
    pub fn unknown() -> Self {
        Self("unknown".to_owned())
    }

    /// Returns whether this is the placeholder for any mark.
    pub fn is_unknown(&self) -> bool {
        *self == Self::unknown()
    }

    /// Splits a text into the key's id and the code. If the text has no dot, the id is the whole text and the code is
    /// empty.
    pub fn parts(text: &str) -> (&str, &str) {
        text.split_once('.').unwrap_or((text, ""))
    }

    /// The mark as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
