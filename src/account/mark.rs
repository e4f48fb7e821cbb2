//! Marks: what a Secret carries to show that this program handed out the pair of keys that it holds.

use std::fmt;

/// A mark as text: the id of the keyring's key that made it, a dot, and a code that nobody can make without that key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// The mark of this code, made with the keyring's key of this id.
    pub fn new(key: &str, code: &str) -> Self {
        Self(format!("{key}.{code}"))
    }

    /// What a mark is to somebody without a keyring, who cannot tell one from another.
    pub fn unknown() -> Self {
        Self("unknown".to_owned())
    }

    /// Whether it stands for any mark at all.
    pub fn is_unknown(&self) -> bool {
        *self == Self::unknown()
    }

    /// The id of the key and the code in a text that may be a mark; of one that is none, the whole text is the id.
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
