//! The account's name: OpsAdmin staff recognise the API user by it. It is unique among accounts that are not deleted.

use super::invisible::is_invisible;
use super::text::{InvalidText, check_line, check_visible};
use std::fmt;
use thiserror::Error;
use unicode_normalization::UnicodeNormalization as _;

/// A name of 1 to 100 characters without invisible ones. OpsAdmin treats names that look the same as one name: see
/// [`comparable_name`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountName(String);

/// The error for a text that cannot be an account's name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("an account name {0}")]
pub struct InvalidName(InvalidText);

impl AccountName {
    /// The most characters (Unicode code points) in a name.
    pub const MAX_CHARS: usize = 100;

    /// Takes the text as a name, unchanged.
    ///
    /// # Errors
    /// The text is blank, longer than [`Self::MAX_CHARS`], has outer white space, control characters or invisible ones.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        // `check_visible` runs first, since some invisible characters are also white space.
        check_visible(text).and_then(|()| check_line(text, Self::MAX_CHARS)).map_err(InvalidName)?;
        Ok(Self(text.to_owned()))
    }

    /// Returns the text by which names are compared: see [`comparable_name`].
    pub fn comparable(&self) -> String {
        comparable_name(&self.0)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the comparable form of a name: NFKC, case-folded, without invisible characters, and trimmed. Names that look
/// the same to a person have the same form. Two accounts that are not deleted may not have the same form.
///
/// Case folding goes to upper case and then to lower case, since several small forms can share one capital form: `ß`
/// and `ss` share `SS`, and both forms of the small sigma share `Σ`. NFKC is applied again at the end, since a change
/// of case can undo it.
pub fn comparable_name(name: &str) -> String {
    let seen: String = name.chars().filter(|character| !is_invisible(*character)).nfkc().collect();
    let folded = seen.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    let folded: String = folded.nfkc().filter(|character| !is_invisible(*character)).collect();
    folded.trim().to_owned()
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::INVISIBLE;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_compared_without_case() {
        let a = AccountName::parse("ACME Énergie").unwrap();
        let b = AccountName::parse("acme énergie").unwrap();
        assert_eq!(a.comparable(), b.comparable());
    }

    #[test]
    fn names_that_look_the_same_are_one_name() {
        for (one, other) in [
            ("Caf\u{e9}", "Cafe\u{301}"),
            ("ACME 2", "\u{ff21}\u{ff23}\u{ff2d}\u{ff25}\u{a0}\u{b2}"),
            ("\u{fb01}ne", "FINE"),
            ("Stra\u{df}e", "STRASSE"),
            ("\u{39f}\u{394}\u{39f}\u{3a3}", "\u{3bf}\u{3b4}\u{3bf}\u{3c2}"),
            ("\u{212a}elvin", "kelvin"),
            ("Acme", "Ac\u{200b}me\u{feff}"),
        ] {
            assert_eq!(comparable_name(one), comparable_name(other), "{one:?} {other:?}");
        }
        assert_ne!(comparable_name("Acme"), comparable_name("Acm\u{e9}"));
    }

    proptest! {
        #[test]
        fn a_comparable_name_has_itself_as_comparable_name(name in any::<String>()) {
            let comparable = comparable_name(&name);
            prop_assert_eq!(comparable_name(&comparable), comparable);
        }

        #[test]
        fn a_name_with_an_invisible_character_is_refused_and_compared_without_it(
            name in "[a-z]{1,4}", at in 0usize..4, which in prop::sample::select(INVISIBLE.to_vec()),
        ) {
            let mut spoilt = name.clone();
            spoilt.insert(at.min(name.len()), which.1);
            let error = AccountName::parse(&spoilt).unwrap_err().to_string();
            let code = format!("this has U+{:04X}", u32::from(which.1));
            prop_assert!(error.ends_with(&code), "{}", error);
            prop_assert_eq!(comparable_name(&spoilt), name);
        }
    }

    #[test]
    fn an_invalid_name_is_refused_with_the_reason() {
        let of = |text: &str| AccountName::parse(text).unwrap_err().to_string();
        assert_eq!(of("  "), "an account name must not be blank");
        assert_eq!(of(" x"), "an account name must not begin or end with a space");
        assert_eq!(
            of("a\u{0}b"),
            "an account name must not contain control characters, such as a tab or a line break; this has U+0000"
        );
        assert_eq!(of(&"é".repeat(101)), "an account name must have at most 100 characters, and this has 101");
        assert!(AccountName::parse(&"é".repeat(100)).is_ok());
    }
}
