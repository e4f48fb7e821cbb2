//! Messages about an import file, without the secret keys that it has, in whichever field or column they stand.

/// What every secret key of this program begins with.
const PREFIX: &str = "opsa_sk_";

/// What stands in the place of a key.
const HIDDEN: &str = "(hidden)";

/// A text that is shorter is no key, and may be a part of any word.
const LEAST: usize = 8;

/// The message with every secret key in it hidden: the line's `own`, and whatever looks like one.
pub fn without_keys(message: &str, own: Option<&str>) -> String {
    let Some(own) = own.filter(|own| !own.is_empty()) else {
        return without_ours(message);
    };
    // Messages quote what they repeat of a line.
    let quoted = format!("{own:?}");
    let wanted = if own.len() < LEAST { &*quoted } else { &quoted[1..quoted.len() - 1] };
    let hidden = if own.len() < LEAST { format!("{HIDDEN:?}") } else { HIDDEN.to_owned() };
    without_ours(&message.replace(wanted, &hidden))
}

/// Hides each prefix with what follows of a key. The bare prefix is a word of our own sentences.
fn without_ours(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(PREFIX) {
        let (key, others) = after.split_at(length_of_key(after));
        shown.push_str(before);
        if key.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
            shown.push_str(HIDDEN);
            rest = others;
        } else {
            shown.push_str(PREFIX);
            rest = after;
        }
    }
    shown.push_str(rest);
    shown
}

/// How much of this a key can have: visible ASCII, up to the quote that ends the text as we quote it.
fn length_of_key(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = !byte.is_ascii_graphic() || (byte == b'"' && !is_escaped);
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_is_hidden_to_its_end_and_no_further() {
        for (message, shown) in [
            (r#"unknown field "opsa_sk_A1"; the fields"#, r#"unknown field "(hidden)"; the fields"#),
            (r#""opsa_sk_A\"B1" and "x""#, r#""(hidden)" and "x""#),
            ("one is written opsa_sk_ and 49 letters", "one is written opsa_sk_ and 49 letters"),
            ("begins with opsa_sk_, as", "begins with opsa_sk_, as"),
            ("opsa_sk_a opsa_sk_b", "(hidden) (hidden)"),
        ] {
            assert_eq!(without_keys(message, None), shown);
        }
        let twice = r#"roles: "legacy-\"secret" is no role; "legacy-\"secrets" is none"#;
        assert_eq!(
            without_keys(twice, Some("legacy-\"secret")),
            r#"roles: "(hidden)" is no role; "(hidden)s" is none"#
        );
        assert_eq!(without_keys(r#"enabled: "e" must"#, Some("e")), r#"enabled: "(hidden)" must"#);
    }

    proptest! {
        #[test]
        fn no_key_is_left_wherever_it_stands(key in "[!-~]{16,40}", before in "\\PC*", after in "\\PC*") {
            let text = format!("{before}{key}{after}");
            let shown = without_keys(&format!("unknown field {text:?}; the fields"), Some(&key));
            prop_assume!(!before.contains(&key) && !after.contains(&key));
            let escaped = format!("{key:?}");
            prop_assert!(!shown.contains(&escaped[1..escaped.len() - 1]), "{shown}");
            let ours = format!("{before} opsa_sk_A{key} {after}");
            let shown = without_keys(&format!("unknown field {ours:?}; the fields"), None);
            prop_assert!(!shown.contains(&escaped[1..escaped.len() - 1]), "{shown}");
            prop_assert!(shown.ends_with("; the fields"), "{shown}");
        }
    }
}
