//! Writes YAML that all parsers read the same way: those of kubectl, Python and others, for YAML 1.1 and 1.2.
//!
//! A text is written without quotes only if every parser reads it as that text. Any other text is written in double
//! quotes on one line, and every character that some parser changes or refuses is escaped.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serialize;
use serde_json::Number;
use std::fmt::{self, Write};
use zeroize::Zeroizing;

/// The indentation of a nested value, in spaces.
const STEP: usize = 2;

/// Words that some parsers do not read as text.
const WORDS: [&str; 13] =
    ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity", "none"];

/// Writes a value as a YAML document that ends with a line break.
///
/// # Errors
/// The value cannot be serialized to JSON.
pub fn to_string(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let json = Zeroizing::new(serde_json::to_string(value)?);
    let tree: Tree = serde_json::from_str(&json)?;
    let mut yaml = String::with_capacity(json.len());
    tree.write(&mut yaml, 0);
    Ok(yaml)
}

/// Returns a text in double quotes, with escapes.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            ' ' => quoted.push(letter),
            _ if is_printable(letter) => quoted.push(letter),
            _ => escape(letter, &mut quoted),
        }
    }
    quoted.push('"');
    quoted
}

/// Writes a YAML escape. JSON's escape does not fit for characters above U+FFFF: JSON writes them as surrogate pairs,
/// which YAML does not have.
fn escape(letter: char, quoted: &mut String) {
    let escaped = match u32::from(letter) {
        code @ ..=0xffff => write!(quoted, "\\u{code:04x}"),
        code => write!(quoted, "\\U{code:08x}"),
    };
    // Writing to a String cannot fail.
    debug_assert!(escaped.is_ok());
}

/// Returns whether a character needs no escape: it is visible, and no parser changes or refuses it.
fn is_printable(letter: char) -> bool {
    let is_noncharacter = u32::from(letter) & 0xfffe == 0xfffe;
    !(letter.is_control() || letter.is_whitespace() || is_invisible(letter) || is_noncharacter)
}

/// Returns whether a character changes the direction of the text, ends a line or has no width.
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Returns whether a character is a letter or a digit.
fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || (!letter.is_ascii() && letter.is_alphanumeric())
}

/// A JSON value that keeps the order of fields.
enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(Zeroizing<String>),
    List(Vec<Tree>),
    Fields(Vec<(String, Tree)>),
}

impl Tree {
    /// Writes the value. Each line is indented by `margin`, except the first, whose indentation the caller has written.
    fn write(&self, yaml: &mut String, margin: usize) {
        let next_line = |yaml: &mut String, is_first: bool| {
            if !is_first {
                yaml.extend(std::iter::repeat_n(' ', margin));
            }
        };
        match self {
            Self::List(items) if !items.is_empty() => {
                for (number, item) in items.iter().enumerate() {
                    next_line(yaml, number == 0);
                    yaml.push_str("- ");
                    item.write(yaml, margin + STEP);
                }
            }
            Self::Fields(fields) if !fields.is_empty() => {
                for (number, (name, value)) in fields.iter().enumerate() {
                    next_line(yaml, number == 0);
                    yaml.push_str(&scalar(name));
                    yaml.push(':');
                    match value {
                        Self::List(items) if !items.is_empty() => {
                            yaml.push('\n');
                            next_line(yaml, false);
                            value.write(yaml, margin);
                        }
                        Self::Fields(fields) if !fields.is_empty() => {
                            yaml.push('\n');
                            yaml.extend(std::iter::repeat_n(' ', margin + STEP));
                            value.write(yaml, margin + STEP);
                        }
                        _ => {
                            yaml.push(' ');
                            value.write(yaml, margin);
                        }
                    }
                }
            }
            Self::List(_) => yaml.push_str("[]\n"),
            Self::Fields(_) => yaml.push_str("{}\n"),
            Self::Null => yaml.push_str("null\n"),
            Self::Bool(value) => yaml.push_str(if *value { "true\n" } else { "false\n" }),
            Self::Number(number) => {
                yaml.push_str(&number.to_string());
                yaml.push('\n');
            }
            Self::Text(text) => {
                yaml.push_str(&Zeroizing::new(scalar(text)));
                yaml.push('\n');
            }
        }
    }
}

/// Returns a text as a YAML scalar, with quotes if it needs them.
fn scalar(text: &str) -> String {
    if is_safe_unquoted(text) { text.to_owned() } else { quoted(text) }
}

/// Returns whether every parser reads the text without quotes as the same text.
fn is_safe_unquoted(text: &str) -> bool {
    let first = text.chars().next().unwrap_or(' ');
    // Numbers, dates and times begin with a digit. IPv4 addresses and lengths of time are safe.
    let begins_safely = match first {
        '0'..='9' => is_address(text) || is_time(text),
        '/' | '_' => true,
        _ => first.is_alphabetic(),
    };
    let are_characters_safe =
        text.chars().zip(text.chars().skip(1).map(Some).chain([None])).all(|(letter, next)| match letter {
            ' ' => next.is_some_and(|next| next != ' '),
            ':' => next.is_some_and(|next| next == '/' || is_plain(next)),
            '_' | '.' | '/' | '-' | '+' | '@' | '(' | ')' | ',' | ';' | '=' | '\'' | '!' | '?' | '$' | '%' => true,
            _ => is_plain(letter),
        });
    begins_safely && are_characters_safe && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

/// Returns whether the text looks like an IPv4 address or network, which no parser reads as a number.
fn is_address(text: &str) -> bool {
    let dots = text.matches('.').count();
    dots == 3 && text.chars().all(|letter| letter.is_ascii_digit() || matches!(letter, '.' | '/'))
}

/// Returns whether the text is a number of seconds, minutes or hours, such as `24h`. Other units are not safe: some
/// parsers read `1d` and `1f` as numbers.
fn is_time(text: &str) -> bool {
    text.strip_suffix(['s', 'm', 'h']).is_some_and(|number| number.chars().all(|letter| letter.is_ascii_digit()))
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Number::from_f64(value).map_or(Tree::Null, Tree::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(Zeroizing::new(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = entries.next_entry()? {
            fields.push(field);
        }
        Ok(Tree::Fields(fields))
    }
}

/// Whether a character may be printed on a terminal: it is visible, and controls nothing.
pub(crate) fn is_harmless(c: char) -> bool {
    c == '\n' || !(c.is_control() || is_invisible(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn the_output_has_the_usual_yaml_style() {
        let value = json!({
            "a": { "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "list": ["Customer", { "b": [[1, 2], []], "c": {} }] },
            "d": "For the portal, see https://example.com/x", "e": true, "f": null, "g": -1.5, "h": "10.0.0.0/8", "i": "24h",
        });
        let yaml = "a:\n  apiVersion: ops-admin.com/v1\n  kind: ApiAccount\n  list:\n  - Customer\n  - b:\n    - - 1\n      - 2\n    - []\n    c: {}\n\
                    d: For the portal, see https://example.com/x\ne: true\nf: null\ng: -1.5\nh: 10.0.0.0/8\ni: 24h\n";
        assert_eq!(to_string(&value).unwrap(), yaml);
        assert_eq!(serde_saphyr::from_str::<Value>(yaml).unwrap(), value);
    }

    #[test]
    fn fields_keep_their_order() {
        #[derive(serde::Serialize)]
        struct Ordered {
            z: u8,
            a: u8,
        }
        assert_eq!(to_string(&Ordered { z: 1, a: 2 }).unwrap(), "z: 1\na: 2\n");
    }

    #[test]
    fn a_text_that_a_parser_may_misread_is_quoted() {
        for text in [
            "",
            " ",
            "a ",
            " a",
            "a  b",
            "yes",
            "No",
            "ON",
            "y",
            "null",
            "~",
            "1",
            "1.5",
            "1e3",
            "0x1f",
            "0o7",
            "1_000",
            "1:30",
            "2026-11-28",
            "2026-11-28T09:00:00Z",
            "-1",
            "+1",
            ".5",
            ".inf",
            "- a",
            "? a",
            "a: b",
            "a:",
            "a #b",
            "#a",
            "<<",
            "=",
            "!a",
            "&a",
            "*a",
            "%a",
            "@a",
            "`a",
            "|",
            ">",
            "[a",
            "{a",
            "'a",
            "---",
            "...",
            "::1",
            "2001:db8::1",
            "1.2.3",
            "5d",
        ] {
            let yaml = to_string(&[text]).unwrap();
            assert_eq!(yaml, format!("- \"{text}\"\n"), "{text:?}");
        }
        assert_eq!(
            to_string(&["\ta\nb\u{85}\u{2028}\u{feff}\u{7f}\u{0}\"\\"]).unwrap(),
            "- \"\\ta\\nb\\u0085\\u2028\\ufeff\\u007f\\u0000\\\"\\\\\"\n"
        );
        assert_eq!(to_string(&["B\u{fc}cher"]).unwrap(), "- B\u{fc}cher\n");
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_unchanged(text: String, more in "[\\t\\r\\n \u{7f}-\u{a0}\u{200b}-\u{202e}\u{feff}\u{1f600}:#'\"-]{0,6}") {
            for text in [format!("{text}{more}"), format!("{more}{text}")] {
                let value = json!({ "a": [&text], &text: { "b": &text } });
                let yaml = to_string(&value).unwrap();
                prop_assert!(!yaml.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{feff}')), "{yaml:?}");
                prop_assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), value);
            }
        }
    }
}
