//! An account's name: how OpsAdmin's staff recognise the API user, unique among live accounts.

use super::text::{InvalidText, check_line};
use std::fmt;
use thiserror::Error;

/// A name of 1 to 100 characters. Two names that differ only in case or outer white space are one name to OpsAdmin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountName(String);

/// The text cannot be an account's name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("an account name {0}")]
pub struct InvalidName(InvalidText);

impl AccountName {
    /// The most characters (Unicode code points) in a name.
    pub const MAX_CHARS: usize = 100;

    /// Takes the text as a name, unchanged.
    ///
    /// # Errors
    /// The text is blank, longer than [`Self::MAX_CHARS`], has outer white space or control characters.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        check_line(text, Self::MAX_CHARS).map_err(InvalidName)?;
        Ok(Self(text.to_owned()))
    }

    /// The text by which names are compared: see [`comparable_name`].
    pub fn comparable(&self) -> String {
        comparable_name(&self.0)
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name trimmed and in lower case: two accounts may not have the same.
pub fn comparable_name(name: &str) -> String {
    name.trim().to_lowercase()
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case() {
        let a = AccountName::parse("ACME Énergie").unwrap();
        let b = AccountName::parse("acme énergie").unwrap();
        assert_eq!(a.comparable(), b.comparable());
    }

    #[test]
    fn what_cannot_be_a_name_says_why() {
        let of = |text: &str| AccountName::parse(text).unwrap_err().to_string();
        assert_eq!(of("  "), "an account name must not be blank");
        assert_eq!(of(" x"), "an account name must not begin or end with a space");
        assert_eq!(of("a\u{0}b"), "an account name must not contain control characters, such as a tab or a line break");
        assert_eq!(of(&"é".repeat(101)), "an account name must have at most 100 characters, and this has 101");
        assert!(AccountName::parse(&"é".repeat(100)).is_ok());
    }
}
