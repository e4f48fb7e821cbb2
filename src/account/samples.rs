//! A sample account and key pair for tests.

use super::{
    Account, AccountId, ApiKey, KeyEntropy, KeyId, KeyPair, KeyState, Life, RotationRequests, SealedSecret, StoredKey,
    StoredSettings, Version,
};
use jiff::Timestamp;
use std::collections::BTreeSet;
use zeroize::Zeroizing;

/// Returns the same key pair each time, in this state.
pub fn key(state: KeyState) -> StoredKey {
    let entropy = KeyEntropy { api_key: [1; 16], secret_key: Zeroizing::new([2; 32]) };
    let api_key: ApiKey = KeyPair::from_entropy(KeyId::from_random([3; 16]), &entropy).api_key;
    let sealed = SealedSecret { sealed_with: String::new(), bytes: Vec::new() };
    StoredKey { id: KeyId::from_random([3; 16]), api_key, sealed, state, created: Timestamp::UNIX_EPOCH }
}

/// Returns an enabled account that may be used from any address and has no role.
pub fn account() -> Account {
    Account {
        id: AccountId::from_random([0; 16]),
        version: Version(1),
        owner: None,
        adopter: None,
        life: Life::Live,
        settings: StoredSettings {
            name: "acme".to_owned(),
            description: String::new(),
            enabled: true,
            use_refresh_token: false,
            affiliate: None,
            roles: BTreeSet::new(),
            any_ip: true,
            allowed_ips: BTreeSet::new(),
        },
        keys: vec![key(KeyState::Active)],
        answered_requests: RotationRequests::default(),
        suspension: None,
    }
}
