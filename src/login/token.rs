//! Access tokens and refresh tokens: opaque texts that only their holder has. The tables hold their hashes.
//!
//! A token is `opsa_at_` or `opsa_rt_`, then 256 bits in base62, then a checksum, as keys have it. The prefix lets
//! secret scanners recognise a leaked token. A refresh token also has its login's id before the 256 bits.

use super::{LoginId, TokenHash};
use crate::account::base62;
use std::fmt;
use zeroize::Zeroizing;

/// The 256 bits of a token: random for the first tokens of a login, derived for later ones.
pub type TokenBits = Zeroizing<[u8; 32]>;

const ACCESS: &str = "opsa_at_";
const REFRESH: &str = "opsa_rt_";
const BITS_CHARS: usize = 43;
const LOGIN_CHARS: usize = 22;

/// A token with which a client calls the API (RFC 6750). `Debug` hides it; only [`AccessToken::expose`] returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    text: Zeroizing<String>,
    hash: TokenHash,
}

/// A token with which a client gets the next access token (RFC 6749 section 6). `Debug` hides it; only
/// [`RefreshToken::expose`] returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken {
    text: Zeroizing<String>,
    login: LoginId,
}

impl AccessToken {
    /// Creates the token of these bits.
    pub fn from_bits(bits: &TokenBits) -> Self {
        Self::of(write(ACCESS, &[(bits.as_slice(), BITS_CHARS)]))
    }

    /// Reads a token; `None` for a text that is not the text of an access token.
    pub fn parse(text: &str) -> Option<Self> {
        body_of(text, ACCESS, BITS_CHARS)?;
        Some(Self::of(Zeroizing::new(text.to_owned())))
    }

    fn of(text: Zeroizing<String>) -> Self {
        let hash = TokenHash::of(&text);
        Self { text, hash }
    }

    /// Returns the token as text, for the answer to the client.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Returns the hash by which the tables know the token.
    pub fn hash(&self) -> TokenHash {
        self.hash
    }
}

impl RefreshToken {
    /// Creates the token of a login with these bits.
    pub fn from_bits(login: LoginId, bits: &TokenBits) -> Self {
        let text = write(REFRESH, &[(login.as_bytes(), LOGIN_CHARS), (bits.as_slice(), BITS_CHARS)]);
        Self { text, login }
    }

    /// Reads a token; `None` for a text that is not the text of a refresh token.
    pub fn parse(text: &str) -> Option<Self> {
        let (login, _) = body_of(text, REFRESH, LOGIN_CHARS + BITS_CHARS)?.split_at_checked(LOGIN_CHARS)?;
        let bytes = base62::read(login)?;
        // Setting the fixed bits of a UUID must not make two texts one id.
        let login = Some(LoginId::from_random(bytes)).filter(|id| *id.as_bytes() == bytes)?;
        Some(Self { text: Zeroizing::new(text.to_owned()), login })
    }

    /// The id of the login that the token names. It proves nothing: compare the token's hash.
    pub fn login(&self) -> LoginId {
        self.login
    }

    /// Returns the token as text, for the answer to the client.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Returns the hash by which the tables know the token.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.text)
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(hidden)")
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RefreshToken(hidden, of {})", self.login)
    }
}

fn write(prefix: &str, numbers: &[(&[u8], usize)]) -> Zeroizing<String> {
    let chars: usize = numbers.iter().map(|(_, width)| width).sum();
    // A text that had to grow would leave a copy of the token in memory.
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + chars + base62::CHECKSUM_CHARS));
    text.push_str(prefix);
    for (number, width) in numbers {
        base62::push(&mut text, number, *width);
    }
    base62::push_checksum(&mut text);
    text
}

/// Returns what is between the prefix and the checksum if the text has the prefix, this many letters and digits, and
/// the right checksum.
fn body_of<'a>(text: &'a str, prefix: &str, chars: usize) -> Option<&'a str> {
    let rest = text.strip_prefix(prefix)?;
    let fits = rest.len() == chars + base62::CHECKSUM_CHARS
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && base62::has_checksum(text);
    if fits { rest.get(..chars) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Computed independently of this code. Servers of two versions must derive the same texts.
    #[test]
    fn the_text_form_is_fixed() {
        let bits = Zeroizing::new([0xff; 32]);
        let access = AccessToken::from_bits(&bits);
        assert_eq!(access.expose(), "opsa_at_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp12eQMib");
        let refresh = RefreshToken::from_bits(LoginId::from_random([0xff; 16]), &bits);
        let expected = "opsa_rt_7n42DGM5PW9UTFKxP3NWYhyhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp138QJyu";
        assert_eq!(refresh.expose(), expected);
    }

    #[test]
    fn a_token_is_never_printed() {
        let bits = Zeroizing::new([7; 32]);
        let (access, refresh) =
            (AccessToken::from_bits(&bits), RefreshToken::from_bits(LoginId::from_random([1; 16]), &bits));
        let shown = format!("{access:?} {refresh:?}");
        assert!(!shown.contains(&access.expose()[8..20]) && !shown.contains(&refresh.expose()[30..40]), "{shown}");
        assert!(shown.contains("RefreshToken(hidden, of 01010101-0101-4101-8101-010101010101)"), "{shown}");
    }

    #[test]
    fn a_login_id_that_is_no_uuid_of_ours_is_refused() {
        let mut text = String::from(REFRESH);
        base62::push(&mut text, &[0xff; 16], LOGIN_CHARS);
        base62::push(&mut text, &[7; 32], BITS_CHARS);
        base62::push_checksum(&mut text);
        assert_eq!(RefreshToken::parse(&text), None);
    }

    proptest! {
        #[test]
        fn a_created_token_is_read_back(bits: [u8; 32], login: [u8; 16]) {
            let (bits, login) = (Zeroizing::new(bits), LoginId::from_random(login));
            let access = AccessToken::from_bits(&bits);
            let refresh = RefreshToken::from_bits(login, &bits);
            prop_assert_eq!(AccessToken::parse(access.expose()), Some(access.clone()));
            prop_assert_eq!(RefreshToken::parse(refresh.expose()), Some(refresh.clone()));
            prop_assert_eq!(refresh.login(), login);
            prop_assert_eq!(AccessToken::parse(refresh.expose()), None);
            prop_assert_eq!(RefreshToken::parse(access.expose()), None);
        }

        #[test]
        fn one_wrong_character_is_refused(bits: [u8; 32], at in 8_usize..57, to in "[0-9A-Za-z]") {
            let token = AccessToken::from_bits(&Zeroizing::new(bits));
            let mut typo = token.expose().to_owned();
            typo.replace_range(at..=at, &to);
            prop_assume!(typo != token.expose());
            prop_assert_eq!(AccessToken::parse(&typo), None);
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in "(opsa_[ar]t_)?\\PC*") {
            prop_assert_eq!(AccessToken::parse(&text), None);
            prop_assert_eq!(RefreshToken::parse(&text), None);
        }
    }
}
