//! The code of a mark: HMAC-SHA256 over an owner and a pair of keys, by a key that is derived from one of the keyring's.
//!
//! Who has no keyring can make none. One that is copied beside another pair, or onto the Secret of another owner, does not
//! hold there. The account's id is not part of it: an account whose row was lost gets another one.

use crate::account::{ApiKey, Owner, SecretKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Keeps the derived key apart from whatever else may be derived from the same one.
const PURPOSE: &[u8] = b"opsadmin-operator: mark of a Secret: 1";

/// The code of the mark that this key makes.
pub(super) fn code(key: &[u8; 32], owner: &Owner, api_key: &ApiKey, secret_key: &SecretKey) -> String {
    URL_SAFE_NO_PAD.encode(mac(key, owner, api_key, secret_key).finalize().into_bytes())
}

/// Whether this key made this code. Takes as long for one that is nearly right.
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
        // With their lengths, so that no two lists of parts are the same bytes.
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac
}

fn started(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}
