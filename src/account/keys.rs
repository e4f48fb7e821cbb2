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
mod tests;
