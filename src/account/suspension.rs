//! The reason that OpsAdmin staff give for a suspension.

use super::text::{InvalidText, check_line};
use std::fmt;
use thiserror::Error;

/// The reason of a suspension: one line of up to 500 characters. Conditions and commands show it to users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuspensionReason(String);

/// The error for a text that cannot be a reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a reason {0}; say in a line why the account is stopped, since its resource shows it")]
pub struct InvalidReason(InvalidText);

impl SuspensionReason {
    /// The most characters (Unicode code points) in a reason.
    pub const MAX_CHARS: usize = 500;

    /// Takes the text as a reason, unchanged.
    ///
    /// # Errors
    /// The text is blank, longer than [`Self::MAX_CHARS`], has outer white space or control characters.
    pub fn parse(text: &str) -> Result<Self, InvalidReason> {
        check_line(text, Self::MAX_CHARS).map_err(InvalidReason)?;
        Ok(Self(text.to_owned()))
    }

    /// The reason as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SuspensionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_and_not_blank() {
        assert_eq!(SuspensionReason::parse("unpaid since May").unwrap().as_str(), "unpaid since May");
        for text in ["", " ", " unpaid", "a\nb", "\u{1b}[31m", &"x".repeat(501)] {
            assert!(SuspensionReason::parse(text).unwrap_err().to_string().starts_with("a reason must"), "{text:?}");
        }
    }
}
