//! Re-seals secret keys: finds the ones that are sealed with an older key of the keyring, and stores new seals.

use super::fault::Fault;
use super::rows::KeyRow;
use super::{Session, Value};
use crate::account::AccountId;
use crate::database::{DatabaseError, Resealed, SealedPair};
use jiff::Timestamp;
use std::collections::BTreeSet;

const OTHER_SEALS: &str = "SELECT id, account_id, api_key, secret_key_sealed, sealed_with, created_at, expires_at \
     FROM account_keys WHERE sealed_with <> $1 AND (account_id > $2 OR (account_id = $2 AND id > $3)) \
     ORDER BY account_id, id LIMIT $4";

const COUNT: &str = "SELECT sealed_with, count(*) FROM account_keys GROUP BY sealed_with";

/// Locks the account's row first, as every change does, so that two changes cannot deadlock.
const LOCK: &str = "UPDATE accounts SET version = version + 1, updated_at = $2 WHERE id = $1 RETURNING version";

const RESEAL: &str = "UPDATE account_keys SET secret_key_sealed = $3, sealed_with = $4 WHERE id = $1 AND sealed_with = $2 RETURNING created_at";

const MARK_OUTGOING: &str =
    "INSERT INTO outgoing_sealing_keys (id, outgoing_since) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";

const RETIRE: &str = "INSERT INTO outgoing_sealing_keys (id, outgoing_since, retired_at) VALUES ($1, $2, $2) \
     ON CONFLICT (id) DO UPDATE SET retired_at = excluded.retired_at WHERE outgoing_sealing_keys.retired_at IS NULL";

/// Returns up to `limit` key pairs that another key than `than_with` sealed, after the last key pair of the previous
/// batch.
pub(super) async fn sealed_with_other_keys<S: Session>(
    session: &mut S,
    than_with: &str,
    after: Option<&SealedPair>,
    limit: i64,
) -> Result<Vec<SealedPair>, Fault> {
    let (account, key) = after.map(|pair| (pair.account.to_string(), pair.key.id.to_string())).unwrap_or_default();
    let values = [than_with.into(), account.as_str().into(), key.as_str().into(), Value::from(limit)];
    let rows: Vec<KeyRow> = session.rows(OTHER_SEALS, &values).await?;
    rows.into_iter().map(|row| Ok(pair(row)?)).collect()
}

fn pair(row: KeyRow) -> Result<SealedPair, DatabaseError> {
    let account = AccountId::parse(&row.account_id).ok_or_else(|| DatabaseError::Inconsistent {
        table: "account_keys",
        column: "account_id",
        row: row.account_id.clone(),
        reason: "it is not a UUID".to_owned(),
    })?;
    Ok(SealedPair { account, key: row.decode()? })
}

/// Returns how many key pairs are sealed with each key.
pub(super) async fn count<S: Session>(session: &mut S) -> Result<Vec<(String, i64)>, Fault> {
    Ok(session.rows(COUNT, &[]).await?)
}

/// Stores the new seals, and returns how many it stored. Skips a key pair that was removed or that another program
/// re-sealed.
pub(super) async fn reseal<S: Session>(session: &mut S, pairs: &[Resealed], at: Timestamp) -> Result<u64, Fault> {
    let mut stored = 0;
    for Resealed { account, key, before, sealed } in pairs {
        let (account, key) = (account.to_string(), key.to_string());
        let locked: Vec<(i64,)> = session.rows(LOCK, &[account.as_str().into(), at.as_microsecond().into()]).await?;
        if !locked.is_empty() {
            let values = [
                key.as_str().into(),
                before.as_str().into(),
                sealed.bytes.as_slice().into(),
                sealed.sealed_with.as_str().into(),
            ];
            let rows: Vec<(i64,)> = session.rows(RESEAL, &values).await?;
            stored += u64::from(!rows.is_empty());
        }
    }
    Ok(stored)
}

/// Records that a key seals no longer.
pub(super) async fn supersede<S: Session>(session: &mut S, key: &str, at: Timestamp) -> Result<(), Fault> {
    Ok(session.run(MARK_OUTGOING, &[key.into(), at.as_microsecond().into()]).await?)
}

/// Retires the keys that seal nothing, and returns them. The caller must prevent other transactions from writing key
/// pairs.
pub(super) async fn retire<S: Session>(
    session: &mut S,
    keys: &BTreeSet<String>,
    at: Timestamp,
) -> Result<BTreeSet<String>, Fault> {
    let in_use: BTreeSet<String> = count(session).await?.into_iter().map(|(key, _)| key).collect();
    let unused: BTreeSet<String> = keys.difference(&in_use).cloned().collect();
    for key in &unused {
        session.run(RETIRE, &[key.as_str().into(), at.as_microsecond().into()]).await?;
    }
    Ok(unused)
}
