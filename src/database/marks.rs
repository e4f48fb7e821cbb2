//! The code of a mark: an HMAC-SHA256 over an owner and a key pair. Its key is derived from a key of the keyring.
//!
//! Nobody can make a code without the keyring. A mark that was copied to another key pair, or to the Secret of another
//! owner, is not valid there. The code does not include the account's id, because an account whose row was lost gets a
//! new id. The bytes that go into the code must not change: existing marks would become invalid.

use crate::account::{ApiKey, Owner, SecretKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Makes the derived key different from other keys that may be derived from the same key.
const PURPOSE: &[u8] = b"opsadmin-operator: mark of a Secret: 1";

/// Returns the code that this key makes, in base64url without padding.
pub(super) fn code(key: &[u8; 32], owner: &Owner, api_key: &ApiKey, secret_key: &SecretKey) -> String {
    URL_SAFE_NO_PAD.encode(mac(key, owner, api_key, secret_key).finalize().into_bytes())
}

/// Returns whether this key made this code. Compares in constant time, so the time does not show how much of a code is
/// right.
pub(super) fn holds(code: &str, key: &[u8; 32], owner: &Owner, api_key: &ApiKey, secret_key: &SecretKey) -> bool {
    let Ok(code) = URL_SAFE_NO_PAD.decode(code) else {
        return false;
    };
    mac(key, owner, api_key, secret_key).verify_slice(&code).is_ok()
}

fn mac(key: &[u8; 32], owner: &Owner, api_key: &ApiKey, secret_key: &SecretKey) -> Hmac<Sha256> {
    let derived = started(key).chain_update(PURPOSE).finalize().into_bytes();
    let mut mac = started(&derived);
    for part in [owner.cluster.as_str(), &owner.namespace, &owner.name, api_key.as_str(), secret_key.expose()] {
        // The lengths make the bytes of two different lists of parts different.
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac
}

fn started(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}
