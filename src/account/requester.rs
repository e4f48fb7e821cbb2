//! Who requested a change of an account, in the text that the journal records.

use super::is_invisible;
use super::keys::{HIDDEN_KEY, SecretKey};
use jiff::Timestamp;
use std::sync::Arc;

/// The most characters (Unicode code points) that are taken from a name.
const MAX_CHARS: usize = 128;

/// Who requested a change, as text: `manager=NAME wrote=TIME claim=NAME`. A part that is unknown is left out.
///
/// `manager` is the program that last wrote the resource, and `wrote` is when, both as the API server recorded them.
/// `claim` is a name that a user wrote into the resource. Nobody checks it.
///
/// No name can look like another part: a name with anything but ASCII letters, digits and `-._@+/:` is quoted and
/// escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester(Arc<str>);

impl Requester {
    /// Creates the text from any names, which other programs and users choose. Names are cut after 128 characters. A
    /// name with a secret key is hidden. A claim of only white space is left out.
    pub fn new(manager: &str, wrote: Option<Timestamp>, claim: Option<&str>) -> Self {
        let claim = claim.filter(|claim| !claim.trim().is_empty());
        let manager = Some(format!("manager={}", displayed(manager)));
        let wrote = wrote.map(|wrote| format!("wrote={wrote:.0}"));
        let claim = claim.map(|claim| format!("claim={}", displayed(claim)));
        let parts: Vec<String> = [manager, wrote, claim].into_iter().flatten().collect();
        Self(parts.join(" ").into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the name unchanged if it is plain, and otherwise quoted and escaped.
fn displayed(name: &str) -> String {
    if name.contains(SecretKey::PREFIX) {
        return HIDDEN_KEY.to_owned();
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._@+/:".contains(c);
    if !name.is_empty() && name.chars().count() <= MAX_CHARS && name.chars().all(is_plain) {
        return name.to_owned();
    }
    let mut quoted = String::from('"');
    for character in name.chars().take(MAX_CHARS) {
        if character.is_control() || is_invisible(character) {
            quoted.extend(character.escape_unicode());
        } else if matches!(character, '"' | '\\') {
            quoted.extend(['\\', character]);
        } else {
            quoted.push(character);
        }
    }
    quoted.push('"');
    if name.chars().count() > MAX_CHARS {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::INVISIBLE;
    use proptest::prelude::*;

    fn text(manager: &str, claim: Option<&str>) -> String {
        Requester::new(manager, Some(Timestamp::UNIX_EPOCH), claim).as_str().to_owned()
    }

    #[test]
    fn the_parts_have_names_and_an_unknown_part_is_left_out() {
        assert_eq!(
            text("argocd-controller", Some("alice@example.com")),
            "manager=argocd-controller wrote=1970-01-01T00:00:00Z claim=alice@example.com"
        );
        assert_eq!(text("kubectl-edit", None), "manager=kubectl-edit wrote=1970-01-01T00:00:00Z");
        assert_eq!(text("kubectl-edit", Some(" \n")), "manager=kubectl-edit wrote=1970-01-01T00:00:00Z");
        assert_eq!(Requester::new("", None, Some("a b")).as_str(), r#"manager="" claim="a b""#);
    }

    #[test]
    fn a_hostile_name_stays_within_its_part() {
        for (name, shown) in [
            ("x claim=alice", r#""x claim=alice""#),
            (r#"x" claim="alice"#, r#""x\" claim=\"alice""#),
            (r"x\", r#""x\\""#),
            ("a\nb\u{1b}[31m", r#""a\u{a}b\u{1b}[31m""#),
            ("ali\u{200b}ce", r#""ali\u{200b}ce""#),
            ("Zoë", "\"Zoë\""),
            ("opsa_sk_0123456789", HIDDEN_KEY),
        ] {
            assert_eq!(text("m", Some(name)), format!("manager=m wrote=1970-01-01T00:00:00Z claim={shown}"));
            assert_eq!(text(name, None), format!("manager={shown} wrote=1970-01-01T00:00:00Z"));
        }
        assert_eq!(Requester::new(&"é".repeat(129), None, None).as_str(), format!("manager=\"{}\"…", "é".repeat(128)));
    }

    /// Splits a text at the spaces that are outside quotes.
    fn parts(text: &str) -> Vec<String> {
        let (mut parts, mut is_quoted, mut is_escaped) = (vec![String::new()], false, false);
        for character in text.chars() {
            if character == ' ' && !is_quoted {
                parts.push(String::new());
                continue;
            }
            is_quoted ^= character == '"' && !is_escaped;
            is_escaped = character == '\\' && !is_escaped;
            parts.last_mut().unwrap().push(character);
        }
        parts
    }

    fn hostile() -> impl Strategy<Value = String> {
        let invisible = prop::sample::select(INVISIBLE.to_vec()).prop_map(|(first, _)| first.to_string());
        let pieces = prop_oneof![
            any::<String>(),
            "[ -~]{0,12}",
            invisible,
            prop::sample::select(vec![" claim=", "\"", "\\", "\\\"", " ", "manager="]).prop_map(str::to_owned),
        ];
        prop::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_name_forges_a_part_or_hides_a_character(manager in hostile(), claim in hostile()) {
            let requester = Requester::new(&manager, Some(Timestamp::UNIX_EPOCH), Some(&claim));
            let text = requester.as_str();
            prop_assert!(!text.contains(|c: char| c.is_control() || is_invisible(c)), "{}", text);
            let longest = 2 * (MAX_CHARS * "\\u{10ffff}".len() + 30);
            prop_assert!(text.chars().count() < longest);
            let parts = parts(text);
            prop_assert_eq!(parts.len(), if claim.trim().is_empty() { 2 } else { 3 }, "{}", text);
            prop_assert!(parts[0].starts_with("manager=") && parts[1].starts_with("wrote="), "{}", text);
            prop_assert!(parts.get(2).is_none_or(|part| part.starts_with("claim=")), "{}", text);
        }

        #[test]
        fn different_names_have_different_texts(one in hostile(), other in hostile()) {
            prop_assume!(one != other && one.chars().count() <= MAX_CHARS && other.chars().count() <= MAX_CHARS);
            prop_assume!(!one.contains(SecretKey::PREFIX) && !other.contains(SecretKey::PREFIX));
            prop_assert_ne!(Requester::new(&one, None, None), Requester::new(&other, None, None));
        }
    }
}
