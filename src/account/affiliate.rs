//! The affiliate's name. An affiliate is a sales partner; an account can be limited to the plans of one affiliate.

use super::text::{InvalidText, check_line};
use std::fmt;
use thiserror::Error;

/// The name of an affiliate. Names are compared exactly, so that a similar name cannot widen or change access.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AffiliateName(String);

/// The text that means every affiliate where a name is expected. No affiliate can have this name.
pub const EVERY_AFFILIATE: &str = "*";

/// Why a text cannot be an affiliate's name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidAffiliate {
    /// The text is not a valid single-line name.
    #[error("an affiliate {0}")]
    Text(InvalidText),
    /// The text is [`EVERY_AFFILIATE`].
    #[error("an affiliate must not be called {EVERY_AFFILIATE:?}, which stands for every affiliate")]
    Every,
}

impl InvalidAffiliate {
    /// Returns the message with the advice that an optional field may be left out.
    pub fn of_field(&self) -> String {
        format!("{self}; leave the field out for an account that sees every affiliate's plans")
    }
}

impl AffiliateName {
    /// The most characters (Unicode code points) in a name.
    pub const MAX_CHARS: usize = 100;

    /// Takes the text as an affiliate's name, unchanged.
    ///
    /// # Errors
    /// The text is blank, longer than [`Self::MAX_CHARS`], has outer white space or control characters, or is
    /// [`EVERY_AFFILIATE`].
    pub fn parse(text: &str) -> Result<Self, InvalidAffiliate> {
        check_line(text, Self::MAX_CHARS).map_err(InvalidAffiliate::Text)?;
        if text == EVERY_AFFILIATE {
            return Err(InvalidAffiliate::Every);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AffiliateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_affiliate_has_the_name_that_means_every_affiliate() {
        assert_eq!(AffiliateName::parse(EVERY_AFFILIATE), Err(InvalidAffiliate::Every));
        assert!(AffiliateName::parse("**").is_ok() && AffiliateName::parse(" * ").is_err());
    }
}
