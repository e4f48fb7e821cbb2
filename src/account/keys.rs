//! Key pairs: an API key and a secret key, with which an API user logs in, and their text form.
//!
//! A key is `opsa_pk_` or `opsa_sk_`, then random bits in base62, then the CRC-32 of all text before it in base62. The
//! prefix lets secret scanners recognise a leaked key. The checksum tells a mistyped key from an unknown one without a
//! database lookup.

use super::KeyId;
use jiff::Timestamp;
use std::fmt;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const CHECKSUM_CHARS: usize = 6;

/// The text that is shown instead of a secret key.
pub const HIDDEN_KEY: &str = "(hidden)";

/// The public half of a key pair. It identifies the account, and the client sends it with each request.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKey(String);

/// The private half of a key pair. It proves the client's identity, and the client never sends it. `Debug` and
/// `Display` hide it; only [`SecretKey::expose`] returns the text.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(Zeroizing<String>);

/// Why a text is not a key. The message never contains the text itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidKey {
    /// The prefix is missing, or a character is not a letter or digit.
    #[error("this is no {kind}: one is written {prefix} and {chars} letters and digits")]
    Form {
        /// `API key` or `secret key`.
        kind: &'static str,
        /// The prefix of every such key.
        prefix: &'static str,
        /// How many characters follow the prefix.
        chars: usize,
    },
    /// The prefix is correct and the length is not.
    #[error(
        "this is no {kind}, since it is {length} characters long: what begins with {prefix} must be one that OpsAdmin made, and such a one is {expected} long"
    )]
    Length {
        /// `API key` or `secret key`.
        kind: &'static str,
        /// The prefix of every such key.
        prefix: &'static str,
        /// How many characters the text has.
        length: usize,
        /// How many characters such a key has.
        expected: usize,
    },
    /// The text has the prefix of the other half of a key pair.
    #[error("this is no {kind}: it begins with {prefix}, as {other} does; are the two keys swapped?")]
    Swapped {
        /// `API key` or `secret key`.
        kind: &'static str,
        /// `an API key` or `a secret key`: the other half.
        other: &'static str,
        /// The prefix of the other half.
        prefix: &'static str,
    },
    /// The form is correct and the checksum is not: a character was changed.
    #[error("this {kind} was mistyped or cut: its checksum is wrong")]
    Checksum {
        /// `API key` or `secret key`.
        kind: &'static str,
    },
    /// The text has no known prefix and is not a valid key of another program.
    #[error("{kind}s that were made elsewhere have {least} to {MAX_IMPORTED} letters, digits and signs, and no spaces")]
    Imported {
        /// `API key` or `secret key`.
        kind: &'static str,
        /// The minimum number of characters.
        least: usize,
    },
}

struct KeyForm {
    kind: &'static str,
    /// `kind` with its article.
    a_kind: &'static str,
    prefix: &'static str,
    body_chars: usize,
    /// The minimum number of characters of an imported key.
    least_imported: usize,
}

/// The maximum number of characters of an imported key.
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
    /// Reads an API key that this program created.
    ///
    /// # Errors
    /// The text has another form, or its checksum is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        API_KEY.check(text)?;
        Ok(Self(text.to_owned()))
    }

    /// Reads an API key that this program or another one created.
    ///
    /// # Errors
    /// The text has a wrong length or wrong characters, begins with `opsa_pk_` and is not a valid key of this program,
    /// or begins with the prefix of a secret key.
    pub fn imported(text: &str) -> Result<Self, InvalidKey> {
        API_KEY.check_imported(text, &SECRET_KEY)?;
        Ok(Self(text.to_owned()))
    }

    /// Reads an API key that is in use, even with the prefix of a secret key: OpsAdmin staff must be able to find such
    /// an account, to suspend it or to rotate its keys.
    ///
    /// # Errors
    /// The text has a wrong length or wrong characters, or begins with `opsa_pk_` and is not a valid key of this
    /// program.
    pub fn stored(text: &str) -> Result<Self, InvalidKey> {
        API_KEY.check_stored(text)?;
        Ok(Self(text.to_owned()))
    }

    /// Returns whether another program created the key.
    pub fn is_imported(&self) -> bool {
        !self.0.starts_with(API_KEY.prefix)
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the key as it may be printed: [`HIDDEN_KEY`] if the text contains the prefix of a secret key.
    pub fn printable(&self) -> &str {
        if self.0.contains(SecretKey::PREFIX) { HIDDEN_KEY } else { &self.0 }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ApiKey").field(&self.printable()).finish()
    }
}

impl SecretKey {
    /// The prefix of every secret key that this program creates.
    pub const PREFIX: &'static str = "opsa_sk_";

    /// Reads a secret key that this program created.
    ///
    /// # Errors
    /// The text has another form, or its checksum is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        SECRET_KEY.check(text)?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Reads a secret key that this program or another one created.
    ///
    /// # Errors
    /// The text has a wrong length or wrong characters, begins with `opsa_sk_` and is not a valid key of this program,
    /// or begins with the prefix of an API key.
    pub fn imported(text: &str) -> Result<Self, InvalidKey> {
        SECRET_KEY.check_imported(text, &API_KEY)?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Reads a secret key that is in use, even with the prefix of an API key.
    ///
    /// # Errors
    /// The text has a wrong length or wrong characters, or begins with `opsa_sk_` and is not a valid key of this
    /// program.
    pub fn stored(text: &str) -> Result<Self, InvalidKey> {
        SECRET_KEY.check_stored(text)?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Returns whether another program created the key.
    pub fn is_imported(&self) -> bool {
        !self.0.starts_with(SECRET_KEY.prefix)
    }

    /// Returns the key as text, for sealing it and for writing it into a Secret.
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

/// The random bits from which a key pair is created.
pub struct KeyEntropy {
    /// 128 bits for the API key.
    pub api_key: [u8; 16],
    /// 256 bits for the secret key.
    pub secret_key: Zeroizing<[u8; 32]>,
}

/// An API key and its secret key, with the id under which statuses, logs and the journal name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The key pair's id.
    pub id: KeyId,
    /// The public half.
    pub api_key: ApiKey,
    /// The private half.
    pub secret_key: SecretKey,
}

impl KeyPair {
    /// Creates the key pair from random bits. The same bits give the same keys.
    pub fn from_entropy(id: KeyId, entropy: &KeyEntropy) -> Self {
        Self {
            id,
            api_key: ApiKey(API_KEY.write(&entropy.api_key)),
            secret_key: SecretKey(Zeroizing::new(SECRET_KEY.write(entropy.secret_key.as_slice()))),
        }
    }

    /// Creates the key pair with a dummy secret key, for callers that cannot read the real one. The dummy is derived
    /// from the id, so each key pair has its own.
    pub fn without_secret(id: KeyId, api_key: ApiKey) -> Self {
        let mut dummy = Zeroizing::new([0; 32]);
        dummy[..16].copy_from_slice(id.as_bytes());
        let entropy = KeyEntropy { api_key: [0; 16], secret_key: dummy };
        Self { api_key, ..Self::from_entropy(id, &entropy) }
    }
}

/// Whether a key pair is active or retiring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// The key pair that the Secret holds.
    Active,
    /// A rotation replaced the key pair. It authenticates until it expires.
    Retiring {
        /// The time from which the key pair no longer authenticates.
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

/// Appends a big-endian number in exactly `width` base62 digits. `width` must be large enough for the number.
fn push_base62(text: &mut String, number: &[u8], width: usize) {
    let mut rest = Zeroizing::new(number.to_vec());
    let mut digits = Zeroizing::new(vec![b'0'; width]);
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in rest.iter_mut() {
            let value = remainder * 256 + u32::from(*byte);
            // `value` is less than 62 * 256, so the quotient is less than 256 and the conversion cannot fail.
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
