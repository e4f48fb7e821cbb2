//! Revoked key pairs. The transaction that removes a key pair records it here, and a recorded key pair is never used
//! again.

use super::fault::Fault;
use super::{Session, Value};
use crate::account::ApiKey;
use crate::database::DatabaseError;
use sha2::{Digest, Sha256};
use std::fmt::Write;

const ADD_REVOKED: &str = "INSERT INTO revoked_keys (api_key_sha256, revoked_at, reason) VALUES ($1, $2, $3) \
     ON CONFLICT (api_key_sha256) DO NOTHING";

const IS_REVOKED: &str = "SELECT revoked_at FROM revoked_keys WHERE api_key_sha256 = $1";

/// Why a key pair was removed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reason {
    /// The key pair expired, or was revoked before that.
    Revoked,
    /// The account was purged.
    Purged,
}

/// Records that the key pairs with these API keys were removed.
pub(super) async fn remember<S: Session>(
    session: &mut S,
    api_keys: &[(String,)],
    reason: Reason,
    at: i64,
) -> Result<(), Fault> {
    let reason = match reason {
        Reason::Revoked => "revoked",
        Reason::Purged => "purged",
    };
    for (api_key,) in api_keys {
        session.run(ADD_REVOKED, &[hash(api_key).as_str().into(), Value::from(at), reason.into()]).await?;
    }
    Ok(())
}

/// Refuses a key pair that was revoked. Must be called after the key pair was inserted: the insertion waits for a
/// transaction that removes the same key pair, so that its record is visible here.
pub(super) async fn refuse<S: Session>(session: &mut S, api_key: &ApiKey) -> Result<(), Fault> {
    let revoked: Vec<(i64,)> = session.rows(IS_REVOKED, &[hash(api_key.as_str()).as_str().into()]).await?;
    if revoked.is_empty() { Ok(()) } else { Err(DatabaseError::KeyRevoked.into()) }
}

/// Returns the table's value for this API key: the SHA-256 in hexadecimal.
pub(super) fn hash(api_key: &str) -> String {
    Sha256::digest(api_key).iter().fold(String::with_capacity(64), |mut hash, byte| {
        #[expect(clippy::expect_used, reason = "a String takes whatever is written to it")]
        write!(hash, "{byte:02x}").expect("a String takes it");
        hash
    })
}
