//! Keys: the pair that an API user logs in with, and the text form of each half.
//!
//! `opsa_pk_` or `opsa_sk_`, random bits in base62, then the CRC-32 of everything before it in base62. The prefix lets
//! secret scanners recognise a leaked key; the checksum tells a mistyped key from an unknown one without a look-up.

use super::KeyId;
use jiff::Timestamp;
use std::fmt;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const CHECKSUM_CHARS: usize = 6;

/// What stands in the place of a key that nobody may see.
pub const HIDDEN_KEY: &str = "(hidden)";

/// The public half: it identifies the account and travels with each request.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKey(String);

/// The private half: it proves and never travels. It shows itself to nobody; [`SecretKey::expose`] is the one way out.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(Zeroizing<String>);

/// Why a text is no key. The text itself is never part of the message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidKey {
    /// Another prefix or alphabet.
    #[error("this is no {kind}: one is written {prefix} and {chars} letters and digits")]
    Form {
        /// `API key` or `secret key`.
        kind: &'static str,
        /// What every such key begins with.
        prefix: &'static str,
        /// How many characters follow.
        chars: usize,
    },
    /// The prefix is right and the length is not.
    #[error(
        "this is no {kind}, since it is {length} characters long: what begins with {prefix} must be one that OpsAdmin made, and such a one is {expected} long"
    )]
    Length {
        /// `API key` or `secret key`.
        kind: &'static str,
        /// What every such key begins with.
        prefix: &'static str,
        /// How many characters there are.
        length: usize,
        /// How many there must be.
        expected: usize,
    },
    /// It begins as the other half of a pair does.
    #[error("this is no {kind}: it begins with {prefix}, as {other} does; are the two keys swapped?")]
    Swapped {
        /// `API key` or `secret key`.
        kind: &'static str,
        /// `an API key` or `a secret key`, the other of the two.
        other: &'static str,
        /// What the other begins with.
        prefix: &'static str,
    },
    /// The form is right and the checksum is not: a character was lost or changed.
    #[error("this {kind} was mistyped or cut: its checksum is wrong")]
    Checksum {
        /// `API key` or `secret key`.
        kind: &'static str,
    },
    /// No key that another program can have made.
    #[error("{kind}s that were made elsewhere have {least} to {MAX_IMPORTED} letters, digits and signs, and no spaces")]
    Imported {
        /// `API key` or `secret key`.
        kind: &'static str,
        /// The fewest characters.
        least: usize,
    },
}

struct KeyForm {
    kind: &'static str,
    /// The same with its article.
    a_kind: &'static str,
    prefix: &'static str,
    body_chars: usize,
    /// The fewest characters of one that was made elsewhere.
    least_imported: usize,
}

/// The most characters of a key that was made elsewhere.
const MAX_IMPORTED: usize = 128;

const API_KEY: KeyForm =
    KeyForm { kind: "API key", a_kind: "an API key", prefix: "opsa_pk_", body_chars: 22, least_imported: 8 };
const SECRET_KEY: KeyForm = KeyForm {
    kind: "secret key",
    a_kind: "a secret key",
    prefix: SecretKey::PREFIX,
    body_chars: 43,
    least_imported: 16,
};

impl ApiKey {
    /// Reads an API key.
    ///
    /// # Errors
    /// The text has another form, or its checksum is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        API_KEY.check(text)?;
        Ok(Self(text.to_owned()))
    }

    /// Reads an API key that may have been made elsewhere, in whatever form.
    ///
    /// # Errors
    /// No key can look like that; or it looks like one of this program's, and is none, or is the other half of a pair.
    pub fn imported(text: &str) -> Result<Self, InvalidKey> {
        API_KEY.check_imported(text, &SECRET_KEY)?;
        Ok(Self(text.to_owned()))
    }

    /// Reads an API key that is in use, even if it looks like the other half of a pair: whoever has such a one must be
    /// found, to be stopped or to get another.
    ///
    /// # Errors
    /// No key can look like that, or it begins as this program's do and is none.
    pub fn stored(text: &str) -> Result<Self, InvalidKey> {
        API_KEY.check_stored(text)?;
        Ok(Self(text.to_owned()))
    }

    /// Whether it was made elsewhere.
    pub fn is_imported(&self) -> bool {
        !self.0.starts_with(API_KEY.prefix)
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key for people to see; [`HIDDEN_KEY`] for one that has a secret key in it.
    pub fn shown(&self) -> &str {
        if self.0.contains(SecretKey::PREFIX) { HIDDEN_KEY } else { &self.0 }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ApiKey").field(&self.shown()).finish()
    }
}

impl SecretKey {
    /// What every one begins with that this program makes.
    pub const PREFIX: &'static str = "opsa_sk_";

    /// Reads a secret key.
    ///
    /// # Errors
    /// The text has another form, or its checksum is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        SECRET_KEY.check(text)?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Reads a secret key that may have been made elsewhere, in whatever form.
    ///
    /// # Errors
    /// No key can look like that; or it looks like one of this program's, and is none, or is the other half of a pair.
    pub fn imported(text: &str) -> Result<Self, InvalidKey> {
        SECRET_KEY.check_imported(text, &API_KEY)?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Reads a secret key that is in use, even if it looks like the other half of a pair.
    ///
    /// # Errors
    /// No key can look like that, or it begins as this program's do and is none.
    pub fn stored(text: &str) -> Result<Self, InvalidKey> {
        SECRET_KEY.check_stored(text)?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Whether it was made elsewhere.
    pub fn is_imported(&self) -> bool {
        !self.0.starts_with(SECRET_KEY.prefix)
    }

    /// The key as text, for sealing it and for writing it into a Secret.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(hidden)")
    }
}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN_KEY)
    }
}

/// The randomness that one pair is made of: 128 bits of API key, 256 of secret key.
pub struct KeyEntropy {
    /// For the API key.
    pub api_key: [u8; 16],
    /// For the secret key.
    pub secret_key: Zeroizing<[u8; 32]>,
}

/// An API key and its secret key, with the id by which everybody speaks of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The pair's identity.
    pub id: KeyId,
    /// The public half.
    pub api_key: ApiKey,
    /// The private half.
    pub secret_key: SecretKey,
}

impl KeyPair {
    /// The pair made of this randomness, always the same for the same.
    pub fn from_entropy(id: KeyId, entropy: &KeyEntropy) -> Self {
        Self {
            id,
            api_key: ApiKey(API_KEY.write(&entropy.api_key)),
            secret_key: SecretKey(Zeroizing::new(SECRET_KEY.write(entropy.secret_key.as_slice()))),
        }
    }

    /// The pair for whoever may not know its secret key: a worthless one stands for it, always the same for this pair, and
    /// another for any other.
    pub fn without_secret(id: KeyId, api_key: ApiKey) -> Self {
        let mut worthless = Zeroizing::new([0; 32]);
        worthless[..16].copy_from_slice(id.as_bytes());
        let entropy = KeyEntropy { api_key: [0; 16], secret_key: worthless };
        Self { api_key, ..Self::from_entropy(id, &entropy) }
    }
}

/// Whether a pair is the one to use, or an older one on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// The pair in the Secret.
    Active,
    /// Still accepted, until it expires.
    Retiring {
        /// From when on it is refused.
        expires: Timestamp,
    },
}

impl KeyForm {
    fn write(&self, random: &[u8]) -> String {
        let mut text = String::with_capacity(self.prefix.len() + self.body_chars + CHECKSUM_CHARS);
        text.push_str(self.prefix);
        push_base62(&mut text, random, self.body_chars);
        let checksum = checksum_of(&text);
        push_base62(&mut text, &checksum, CHECKSUM_CHARS);
        text
    }

    fn check(&self, text: &str) -> Result<(), InvalidKey> {
        let Self { kind, prefix, body_chars, .. } = *self;
        let chars = body_chars + CHECKSUM_CHARS;
        let rest = text.strip_prefix(prefix).filter(|rest| rest.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let Some(rest) = rest else {
            return Err(InvalidKey::Form { kind, prefix, chars });
        };
        if rest.len() != chars {
            return Err(InvalidKey::Length { kind, prefix, length: text.len(), expected: prefix.len() + chars });
        }
        let (body, checksum) = text.split_at(text.len() - CHECKSUM_CHARS);
        let mut expected = String::with_capacity(CHECKSUM_CHARS);
        push_base62(&mut expected, &checksum_of(body), CHECKSUM_CHARS);
        if checksum != expected {
            return Err(InvalidKey::Checksum { kind });
        }
        Ok(())
    }

    fn check_imported(&self, text: &str, other: &Self) -> Result<(), InvalidKey> {
        if text.starts_with(other.prefix) {
            return Err(InvalidKey::Swapped { kind: self.kind, other: other.a_kind, prefix: other.prefix });
        }
        self.check_stored(text)
    }

    fn check_stored(&self, text: &str) -> Result<(), InvalidKey> {
        if text.starts_with(self.prefix) {
            return self.check(text);
        }
        let right_form = (self.least_imported..=MAX_IMPORTED).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if right_form { Ok(()) } else { Err(InvalidKey::Imported { kind: self.kind, least: self.least_imported }) }
    }
}

fn checksum_of(text: &str) -> [u8; 4] {
    crc32fast::hash(text.as_bytes()).to_be_bytes()
}

/// Appends a big-endian number in exactly `width` base62 digits; `width` must be enough for it.
fn push_base62(text: &mut String, number: &[u8], width: usize) {
    let mut rest = Zeroizing::new(number.to_vec());
    let mut digits = Zeroizing::new(vec![b'0'; width]);
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in rest.iter_mut() {
            let value = remainder * 256 + u32::from(*byte);
            // A dividend below 62 * 256 leaves a quotient below 256.
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            remainder = value % 62;
        }
        *digit = BASE62[remainder as usize];
    }
    text.extend(digits.iter().map(|&digit| char::from(digit)));
    rest.zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(api_key: [u8; 16], secret_key: [u8; 32]) -> KeyPair {
        let entropy = KeyEntropy { api_key, secret_key: Zeroizing::new(secret_key) };
        KeyPair::from_entropy(KeyId::from_random([0; 16]), &entropy)
    }

    /// Fixed for ever: a key handed to a partner must stay valid.
    #[test]
    fn the_text_form_is_fixed() {
        let lowest = pair([0; 16], [0; 32]);
        assert!(lowest.api_key.as_str().starts_with("opsa_pk_0000000000000000000000"));
        assert_eq!(lowest.api_key.as_str().len(), 8 + 22 + 6);
        let highest = pair([0xff; 16], [0xff; 32]);
        // 2^128 - 1 in base62, computed independently of this code.
        assert!(highest.api_key.as_str().starts_with("opsa_pk_7n42DGM5Tflk9n8mt7Fhc7"), "{}", highest.api_key.as_str());
        assert_eq!(highest.secret_key.expose().len(), 8 + 43 + 6);
    }

    #[test]
    fn a_secret_key_shows_itself_to_nobody() {
        let pair = pair([7; 16], [7; 32]);
        let shown = format!("{pair:?} {} {:?}", pair.secret_key, pair.secret_key);
        assert!(!shown.contains(pair.secret_key.expose()));
        assert!(!shown.contains("opsa_sk_"));
    }

    #[test]
    fn a_key_from_elsewhere_is_taken_as_it_is_and_a_mistyped_one_of_ours_is_not() {
        let ours = pair([7; 16], [7; 32]);
        for text in [ours.secret_key.expose(), "8f14e45f-ceea-467f", "p/4Zr+Q==p/4Zr+Q=="] {
            assert_eq!(SecretKey::imported(text).unwrap().expose(), text);
        }
        let mistyped = ours.secret_key.expose().replacen('0', "1", 1);
        for text in ["", "changeme", "with a space in it", "sch\u{f6}n-und-lang-genug", &mistyped, &"x".repeat(129)] {
            assert!(SecretKey::imported(text).is_err(), "{text}");
        }
        assert!(SecretKey::imported("8f14e45f-ceea-467f").unwrap().is_imported());
        assert!(ApiKey::imported("legacy-1").unwrap().is_imported() && !ours.api_key.is_imported());
    }

    #[test]
    fn swapped_keys_are_refused_whatever_follows_the_prefix() {
        let ours = pair([7; 16], [7; 32]);
        for text in [ours.secret_key.expose(), "opsa_sk_swapped00000000000000"] {
            let error = ApiKey::imported(text).unwrap_err();
            assert_eq!(
                error.to_string(),
                "this is no API key: it begins with opsa_sk_, as a secret key does; are the two keys swapped?"
            );
        }
        for text in [ours.api_key.as_str(), "opsa_pk_swapped000000000000"] {
            assert!(matches!(SecretKey::imported(text), Err(InvalidKey::Swapped { .. })), "{text}");
        }
    }

    #[test]
    fn swapped_keys_that_are_in_use_are_read_and_not_shown() {
        let ours = pair([7; 16], [7; 32]);
        for text in [ours.secret_key.expose(), "opsa_sk_swapped00000000000000", "id-opsa_sk_swapped00000000"] {
            let key = ApiKey::stored(text).unwrap();
            assert_eq!((key.as_str(), key.shown()), (text, "(hidden)"));
            assert_eq!(format!("{key:?}"), "ApiKey(\"(hidden)\")");
        }
        assert_eq!(SecretKey::stored("opsa_pk_swapped000000000000").unwrap().expose(), "opsa_pk_swapped000000000000");
        assert_eq!(ours.api_key.shown(), ours.api_key.as_str());
        assert!(ApiKey::stored("opsa_pk_hush").is_err() && ApiKey::stored("hush").is_err());
    }

    #[test]
    fn a_key_that_is_cut_is_told_by_its_length_and_a_mistyped_one_by_its_checksum() {
        let ours = pair([7; 16], [7; 32]);
        let cut = SecretKey::imported("opsa_sk_secret010123456789").unwrap_err().to_string();
        assert!(cut.contains("26 characters long") && cut.ends_with("such a one is 57 long"), "{cut}");
        let mistyped = ours.api_key.as_str().replacen("opsa_pk_", "opsa_pk_x", 1);
        assert_eq!(ApiKey::imported(&mistyped[..36]), Err(InvalidKey::Checksum { kind: "API key" }));
        let error = ApiKey::imported("short").unwrap_err().to_string();
        assert_eq!(error, "API keys that were made elsewhere have 8 to 128 letters, digits and signs, and no spaces");
    }

    proptest! {
        #[test]
        fn what_is_made_can_be_read(api_key: [u8; 16], secret_key: [u8; 32]) {
            let pair = pair(api_key, secret_key);
            prop_assert_eq!(ApiKey::parse(pair.api_key.as_str()), Ok(pair.api_key.clone()));
            prop_assert_eq!(SecretKey::parse(pair.secret_key.expose()), Ok(pair.secret_key.clone()));
        }

        #[test]
        fn one_wrong_character_is_noticed(seed: [u8; 16], at in 8usize..36, to in "[0-9A-Za-z]") {
            let key = pair(seed, [0; 32]).api_key;
            let mut typo = key.as_str().to_owned();
            typo.replace_range(at..=at, &to);
            prop_assume!(typo != key.as_str());
            prop_assert_eq!(ApiKey::parse(&typo), Err(InvalidKey::Checksum { kind: "API key" }));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            prop_assert!(ApiKey::parse(&text).is_err());
            let prefixed = format!("opsa_sk_{text}");
            prop_assert!(SecretKey::parse(&prefixed).is_err());
        }
    }
}
