//! YAML that every reader understands alike: kubectl, Python's and others, of YAML 1.1 and 1.2.
//!
//! A text stands plainly only where no reader can take it for anything else. Otherwise it stands in double quotes on one
//! line, with every character escaped that some reader changes or refuses.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serialize;
use serde_json::Number;
use std::fmt::{self, Write};
use zeroize::Zeroizing;

/// How much further in what is part of something stands.
const STEP: usize = 2;

/// Words that some reader takes for something else than a text.
const WORDS: [&str; 13] =
    ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity", "none"];

/// A value as a YAML document, which ends with a line break.
///
/// # Errors
/// The value has no form in JSON, and so none here.
pub fn to_string(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let json = Zeroizing::new(serde_json::to_string(value)?);
    let tree: Tree = serde_json::from_str(&json)?;
    let mut yaml = String::with_capacity(json.len());
    tree.write(&mut yaml, 0);
    Ok(yaml)
}

/// A text in double quotes.
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
            _ if is_seen(letter) => quoted.push(letter),
            _ => escape(letter, &mut quoted),
        }
    }
    quoted.push('"');
    quoted
}

/// Not as JSON does it for all: that writes two halves of a character beyond the first 65,536, which YAML does not have.
fn escape(letter: char, quoted: &mut String) {
    let escaped = match u32::from(letter) {
        code @ ..=0xffff => write!(quoted, "\\u{code:04x}"),
        code => write!(quoted, "\\U{code:08x}"),
    };
    // A String takes whatever is written to it.
    debug_assert!(escaped.is_ok());
}

/// Whether a character may stand as it is: it is seen, and no reader changes or refuses it.
fn is_seen(letter: char) -> bool {
    let is_no_character = u32::from(letter) & 0xfffe == 0xfffe;
    !(letter.is_control() || letter.is_whitespace() || is_invisible(letter) || is_no_character)
}

/// Whether a character turns the direction of a text, ends a line or takes no room.
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Whether a character is one of a word or a number.
fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || (!letter.is_ascii() && letter.is_alphanumeric())
}

/// A value, with its fields in their order.
enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(Zeroizing<String>),
    List(Vec<Tree>),
    Fields(Vec<(String, Tree)>),
}

impl Tree {
    /// Writes the value on lines of its own, each with this margin but the first, which has one already.
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

/// A text as it stands in a document.
fn scalar(text: &str) -> String {
    if is_certain(text) { text.to_owned() } else { quoted(text) }
}

/// Whether a text can stand plainly, and every reader takes it for what it is.
fn is_certain(text: &str) -> bool {
    let first = text.chars().next().unwrap_or(' ');
    // Numbers, dates and times begin with a digit. An address or a time with one unit is none of them.
    let begins_well = match first {
        '0'..='9' => is_address(text) || is_time(text),
        '/' | '_' => true,
        _ => first.is_alphabetic(),
    };
    let are_signs_certain =
        text.chars().zip(text.chars().skip(1).map(Some).chain([None])).all(|(letter, next)| match letter {
            ' ' => next.is_some_and(|next| next != ' '),
            ':' => next.is_some_and(|next| next == '/' || is_plain(next)),
            '_' | '.' | '/' | '-' | '+' | '@' | '(' | ')' | ',' | ';' | '=' | '\'' | '!' | '?' | '$' | '%' => true,
            _ => is_plain(letter),
        });
    begins_well && are_signs_certain && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

/// An IPv4 address or network, which no reader takes for a number.
fn is_address(text: &str) -> bool {
    let dots = text.matches('.').count();
    dots == 3 && text.chars().all(|letter| letter.is_ascii_digit() || matches!(letter, '.' | '/'))
}

/// A number of hours, say. `1e5` is a number, and `1d` and `1f` are some elsewhere.
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
    fn it_looks_as_people_write_it() {
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
    fn what_a_reader_may_take_for_something_else_is_quoted() {
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
        fn any_text_is_read_as_it_was(text: String, more in "[\\t\\r\\n \u{7f}-\u{a0}\u{200b}-\u{202e}\u{feff}\u{1f600}:#'\"-]{0,6}") {
            for text in [format!("{text}{more}"), format!("{more}{text}")] {
                let value = json!({ "a": [&text], &text: { "b": &text } });
                let yaml = to_string(&value).unwrap();
                prop_assert!(!yaml.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{feff}')), "{yaml:?}");
                prop_assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), value);
            }
        }
    }
}
