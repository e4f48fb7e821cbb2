//! Prepares texts from a database or a cluster for a terminal, so that no text can add lines or colours.

/// Returns a name unchanged if all of it is visible, and otherwise quoted and escaped.
pub fn display_name(text: &str) -> String {
    let hides_nothing = !text.is_empty() && text.trim() == text && !text.contains("  ");
    if hides_nothing { display_sentence(text) } else { format!("{text:?}") }
}

/// Returns a sentence unchanged, or quoted and escaped if it would control the terminal.
pub fn display_sentence(text: &str) -> String {
    // A text in which only quotes and backslashes need escapes is harmless without them.
    let is_quote = |c: char| matches!(c, '\\' | '"' | '\'');
    let escapes = text.escape_debug().count() - text.chars().count();
    if escapes == text.chars().filter(|c| is_quote(*c)).count() { text.to_owned() } else { format!("{text:?}") }
}

/// The words that the output uses for everything and for nothing.
const WORDS: [&str; 3] = ["any", "every", "none"];

/// Returns names in one line, separated by commas. A name that is one of `WORDS` is quoted, so that it is not
/// mistaken for the word.
pub fn named<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let shown = |name: T| match name.as_ref() {
        name if WORDS.iter().any(|word| name.eq_ignore_ascii_case(word)) => format!("{name:?}"),
        name => display_name(name),
    };
    names.into_iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_is_a_word_for_all_is_quoted() {
        assert_eq!(named(["any", "Every", "NONE", "anyone", " "]), r#""any", "Every", "NONE", anyone, " ""#);
    }

    #[test]
    fn visible_texts_stay_and_others_are_escaped() {
        for text in ["acme", "Énergie du Nord", r#"a "b" \c"#, "e\u{301}", "日本", "a\u{a9}b", "-", "'x'"] {
            assert_eq!(display_name(text), text);
        }
        for (text, shown) in [
            ("", r#""""#),
            (" acme", r#"" acme""#),
            ("a  b", r#""a  b""#),
            ("a\nb\t", r#""a\nb\t""#),
            ("\u{1b}[31mred", r#""\u{1b}[31mred""#),
            ("\u{9b}31mred", r#""\u{9b}31mred""#),
            ("a\u{202e}b", r#""a\u{202e}b""#),
            ("a\u{200b}b", r#""a\u{200b}b""#),
            ("a\u{2028}b", r#""a\u{2028}b""#),
        ] {
            assert_eq!(display_name(text), shown);
        }
    }

    proptest! {
        #[test]
        fn nothing_controls_a_terminal(text: String) {
            prop_assert!(!display_name(&text).contains(char::is_control));
            prop_assert!(!display_sentence(&text).contains(char::is_control));
        }
    }
}
