//! The validation of texts that names, descriptions, reasons and triggers share.

use super::invisible::is_invisible;
use thiserror::Error;

/// Why a text is invalid. Lengths are in Unicode code points, as the API server counts them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidText {
    /// The text has only white space.
    #[error("must not be blank")]
    Blank,
    /// White space before or after the text, which is not visible in a list.
    #[error("must not begin or end with a space")]
    OuterSpace,
    /// A control character, which a terminal or a database would not show.
    #[error("must not contain control characters, such as a tab or a line break; this has U+{:04X}", u32::from(*character))]
    Control {
        /// The character.
        character: char,
    },
    /// An invisible character, which makes the text look like another one.
    #[error(
        "must not contain invisible characters, such as a zero-width space or a mark of writing direction; this has U+{:04X}",
        u32::from(*character)
    )]
    Invisible {
        /// The character.
        character: char,
    },
    /// A control character other than a tab or a line break, in a text that may have several lines.
    #[error("must not contain control characters other than tabs and line breaks")]
    ControlInProse,
    /// More code points than the field allows.
    #[error("must have at most {most} characters, and this has {length}")]
    TooLong {
        /// The length of the text.
        length: usize,
        /// The greatest length allowed.
        most: usize,
    },
}

/// Checks a single-line name of at most `most` code points.
pub(super) fn check_line(text: &str, most: usize) -> Result<(), InvalidText> {
    if text.trim().is_empty() {
        return Err(InvalidText::Blank);
    }
    if text.trim() != text {
        return Err(InvalidText::OuterSpace);
    }
    if let Some(character) = text.chars().find(|character| character.is_control()) {
        return Err(InvalidText::Control { character });
    }
    check_length(text, most)
}

/// Checks that a text has no invisible characters.
pub(super) fn check_visible(text: &str) -> Result<(), InvalidText> {
    match text.chars().find(|character| is_invisible(*character)) {
        Some(character) => Err(InvalidText::Invisible { character }),
        None => Ok(()),
    }
}

/// Checks a text of at most `most` code points that may have several lines: of the control characters, only tabs and
/// line breaks are allowed.
pub(super) fn check_prose(text: &str, most: usize) -> Result<(), InvalidText> {
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(InvalidText::ControlInProse);
    }
    check_length(text, most)
}

fn check_length(text: &str, most: usize) -> Result<(), InvalidText> {
    let length = text.chars().count();
    if length > most {
        return Err(InvalidText::TooLong { length, most });
    }
    Ok(())
}
