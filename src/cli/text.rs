//! Texts from a database or a cluster on a terminal: whoever wrote them, they make neither lines nor colours.

/// A name: the text as it is if it can be seen as it is, and otherwise quoted and escaped.
pub fn plain(text: &str) -> String {
    let hides_nothing = !text.is_empty() && text.trim() == text && !text.contains("  ");
    if hides_nothing { visible(text) } else { format!("{text:?}") }
}

/// A sentence: quoted and escaped only if it would do something to the terminal.
pub fn visible(text: &str) -> String {
    // What needs nothing but the escapes of quotes and backslashes is harmless without them.
    let is_quote = |c: char| matches!(c, '\\' | '"' | '\'');
    let escapes = text.escape_debug().count() - text.chars().count();
    if escapes == text.chars().filter(|c| is_quote(*c)).count() { text.to_owned() } else { format!("{text:?}") }
}

/// The words for all that there is, and for nothing.
const WORDS: [&str; 3] = ["any", "every", "none"];

/// What an account has, each by its name, in one line. What is called like a word for all or for nothing is not to be taken
/// for it, and is quoted.
pub fn named<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let shown = |name: T| match name.as_ref() {
        name if WORDS.iter().any(|word| name.eq_ignore_ascii_case(word)) => format!("{name:?}"),
        name => plain(name),
    };
    names.into_iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_called_like_a_word_for_all_is_told_from_it() {
        assert_eq!(named(["any", "Every", "NONE", "anyone", " "]), r#""any", "Every", "NONE", anyone, " ""#);
    }

    #[test]
    fn what_can_be_seen_stays_and_what_hides_is_escaped() {
        for text in ["acme", "Énergie du Nord", r#"a "b" \c"#, "e\u{301}", "日本", "a\u{a9}b", "-", "'x'"] {
            assert_eq!(plain(text), text);
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
            assert_eq!(plain(text), shown);
        }
    }

    proptest! {
        #[test]
        fn nothing_controls_a_terminal(text: String) {
            prop_assert!(!plain(&text).contains(char::is_control));
            prop_assert!(!visible(&text).contains(char::is_control));
        }
    }
}
