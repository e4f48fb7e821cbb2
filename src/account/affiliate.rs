//! An affiliate: the sales partner whose plans alone an account may see.

use super::text::{InvalidText, check_line};
use std::fmt;
use thiserror::Error;

/// The name of an affiliate, compared to the letter: a near miss must not widen or move access.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AffiliateName(String);

/// What stands for every affiliate where one could be named. No affiliate can have this name.
pub const EVERY_AFFILIATE: &str = "*";

/// The text cannot be an affiliate's name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidAffiliate {
    /// Such a text is no name.
    #[error("an affiliate {0}")]
    Text(InvalidText),
    /// It is [`EVERY_AFFILIATE`].
    #[error("an affiliate must not be called {EVERY_AFFILIATE:?}, which stands for every affiliate")]
    Every,
}

impl InvalidAffiliate {
    /// The same for whoever may also leave the field out.
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

    /// The name as it was written.
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
    fn nobody_is_called_what_stands_for_all() {
        assert_eq!(AffiliateName::parse(EVERY_AFFILIATE), Err(InvalidAffiliate::Every));
        assert!(AffiliateName::parse("**").is_ok() && AffiliateName::parse(" * ").is_err());
    }
}
