//! The type of a plain scalar in YAML: `5` is a number, `true` a boolean, `acme` text.
//!
//! The rules are the core schema of YAML 1.2. kubectl follows YAML 1.1, where `no` is false and `1_000` a number. A
//! scalar that the two versions read differently is [`Kind::Contested`], so that no manifest means one thing here and
//! another for kubectl.

/// A scalar with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    /// The text, without quotes.
    pub text: String,
    /// The type.
    pub kind: Kind,
}

/// The type of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text.
    Text,
    /// An empty scalar, `~` or `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Integer,
    /// A number that is not whole, infinity or not-a-number.
    Float,
    /// Text in YAML 1.2, and the meaning that this variant names in YAML 1.1.
    Contested(&'static str),
    /// The merge key `<<`: the entries of its value are merged into the mapping.
    Merge,
}

impl Kind {
    /// Returns the type of a scalar without quotes and tags.
    pub(super) fn of_plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            "true" | "True" | "TRUE" => Self::Bool(true),
            "false" | "False" | "FALSE" => Self::Bool(false),
            "<<" => Self::Merge,
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Self::Contested("true"),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Self::Contested("false"),
            _ if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) => Self::Text,
            _ if is_integer(text) => Self::Integer,
            _ if is_float(text) => Self::Float,
            _ if is_number_in_yaml_1_1(text) => Self::Contested("a number"),
            _ => Self::Text,
        }
    }
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['+', '-']).unwrap_or(text)
}

fn all(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(allowed)
}

fn is_integer(text: &str) -> bool {
    all(unsigned(text), |b| b.is_ascii_digit())
        || text.strip_prefix("0o").is_some_and(|digits| all(digits, |b| matches!(b, b'0'..=b'7')))
        || text.strip_prefix("0x").is_some_and(|digits| all(digits, |b| b.is_ascii_hexdigit()))
}

/// Matches `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`, infinity and `.nan`.
fn is_float(text: &str) -> bool {
    if matches!(text, ".nan" | ".NaN" | ".NAN") || matches!(unsigned(text), ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let digit = |b: u8| b.is_ascii_digit();
    let (mantissa, exponent) = match unsigned(text).split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned(text), None),
    };
    let mantissa = match mantissa.split_once('.') {
        Some(("", fraction)) => all(fraction, digit),
        Some((whole, fraction)) => all(whole, digit) && (fraction.is_empty() || all(fraction, digit)),
        None => all(mantissa, digit),
    };
    mantissa && exponent.is_none_or(|exponent| all(unsigned(exponent), digit))
}

/// Matches numbers with underscores, binary numbers and signed hexadecimal ones.
fn is_number_in_yaml_1_1(text: &str) -> bool {
    let joined = text.replace('_', "");
    let digits = unsigned(&joined).to_ascii_lowercase();
    digits.strip_prefix("0b").is_some_and(|digits| all(digits, |b| matches!(b, b'0' | b'1')))
        || is_integer(&digits)
        || is_float(&joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_have_their_yaml_1_2_types() {
        let meaning = [
            (Kind::Null, &["", "~", "null", "NULL"][..]),
            (Kind::Bool(true), &["true", "True", "TRUE"]),
            (Kind::Bool(false), &["false"]),
            (Kind::Integer, &["0", "-5", "+5", "007", "0x1F", "0o17"]),
            (Kind::Float, &["1.5", "10.0", ".5", "1.", "1e3", "-1.5E-3", ".inf", "-.INF", ".nan"]),
            (Kind::Merge, &["<<"]),
            (Kind::Contested("true"), &["yes", "on", "Y"]),
            (Kind::Contested("false"), &["NO", "off", "n"]),
            (Kind::Contested("a number"), &["1_000", "0b101", "-0x1F", "0X1F", "1_0.5"]),
            (
                Kind::Text,
                &["acme", "1.2.3.4", "10.0.0.0/8", "2001:db8::1", "1e", "-", "+", ".", "0x", "e3", "1:20", "tRue"],
            ),
        ];
        for (kind, texts) in meaning {
            for text in texts {
                assert_eq!(Kind::of_plain(text), kind, "{text:?}");
            }
        }
    }
}
