//! Reads whole accounts with one statement, which is a consistent state by itself. The statement also tells the server's
//! state, so that it needs no transaction.

use super::Postgres;
use super::bound;
use super::pool::{PgSession, READ};
use crate::account::{Account, AccountId, KeyId};
use crate::database::server_url::ServerState;
use crate::database::sql::{AccountRow, Fault, KeyRow, Parts, Session as _, Value, Which, whole_in_postgres};
use sqlx::postgres::PgRow;
use sqlx::{FromRow as _, Row as _};

/// The accounts with these ids, and which of their key pairs were revoked. `$1`: a JSON list of ids.
///
/// A revoked key pair that was inserted shows here. This statement begins after the insertion, which waits for a
/// transaction that removes the same key pair, so that its record is visible here.
const BY_IDS: &str = whole_in_postgres!(
    ", EXISTS (SELECT 1 FROM revoked_keys WHERE api_key_sha256 = encode(sha256(convert_to(api_key, 'UTF8')), 'hex')) \
     AS is_revoked",
    "id = ANY (ARRAY(SELECT json_array_elements_text($1::json)))"
);

/// An account as read back, and its key pairs that were revoked before.
pub(super) struct ReadBack {
    pub account: Account,
    pub revoked: Vec<KeyId>,
}

impl Postgres {
    /// Reads the selected accounts. Usually this is one message on a connection that was in use recently.
    pub(super) async fn read_whole(&self, which: &Which, values: &[Value<'_>]) -> Result<Vec<Account>, Fault> {
        let mut session = self.pool.single(READ).await?;
        let is_begun = session.is_transaction();
        let accounts = match read(&mut session, which, values).await {
            Ok((state, accounts)) if session.suits(state) => accounts,
            Err(fault) if is_begun || !session.is_lost() => return Err(fault),
            // The connection ended since its last use, or its server is not suitable any more. A transaction begins only
            // on a connection that works, to a suitable server.
            _ => {
                drop(session);
                session = self.pool.begin(READ).await?;
                read(&mut session, which, values).await?.1
            }
        };
        session.finish().await?;
        Ok(accounts)
    }
}

/// Reads accounts back within the transaction that changed them.
pub(super) async fn read_back(session: &mut PgSession, ids: &[AccountId]) -> Result<Vec<ReadBack>, Fault> {
    let ids = ids.iter().map(ToString::to_string).collect::<serde_json::Value>().to_string();
    let rows = rows(session, BY_IDS, &[ids.as_str().into()]).await?;
    let read_back = |rows: &[PgRow]| {
        let account = account(rows)?;
        let mut revoked = Vec::new();
        for (row, key) in rows.iter().zip(&account.keys) {
            if row.try_get("is_revoked")? {
                revoked.push(key.id);
            }
        }
        Ok(ReadBack { account, revoked })
    };
    of_each_account(&rows, read_back)
}

/// Returns the server's state and the accounts. Fails if one of them cannot be read.
async fn read(
    session: &mut PgSession,
    which: &Which,
    values: &[Value<'_>],
) -> Result<(ServerState, Vec<Account>), Fault> {
    let rows = rows(session, which.whole_in_postgres, values).await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let state = ServerState { is_standby: first.try_get("is_standby")?, is_read_only: first.try_get("is_read_only")? };
    Ok((state, of_each_account(&rows, account)?))
}

async fn rows(
    session: &mut PgSession,
    statement: &'static str,
    values: &[Value<'_>],
) -> Result<Vec<PgRow>, sqlx::Error> {
    let (connection, is_direct) = session.connection()?;
    let rows = bound(sqlx::query(statement), values).persistent(is_direct).fetch_all(connection).await;
    session.noted(rows)
}

/// Calls `read` with the rows of each account.
fn of_each_account<T>(rows: &[PgRow], read: impl Fn(&[PgRow]) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
    let of_accounts = rows.chunk_by(|row, next| id_of(row).ok() == id_of(next).ok());
    let with_account = of_accounts.filter(|rows| !matches!(id_of(&rows[0]), Ok(None)));
    with_account.map(read).collect()
}

fn id_of(row: &PgRow) -> Result<Option<&str>, sqlx::Error> {
    row.try_get("id")
}

/// Returns the account of these rows.
fn account(rows: &[PgRow]) -> Result<Account, Fault> {
    let row = AccountRow::from_row(&rows[0])?;
    let texts = |column| Ok::<_, sqlx::Error>(rows[0].try_get::<Vec<String>, _>(column)?.into_iter().collect());
    let mut parts = Parts { roles: texts("roles")?, allowed_ips: texts("allowed_ips")?, keys: Vec::new() };
    for row in rows {
        if let Some(pair) = pair(row)? {
            parts.keys.push(pair.decode()?);
        }
    }
    Ok(row.decode(parts)?)
}

/// Returns the key pair of this row, if the account has one.
fn pair(row: &PgRow) -> Result<Option<KeyRow>, sqlx::Error> {
    let Some(id) = row.try_get("pair_id")? else { return Ok(None) };
    Ok(Some(KeyRow {
        id,
        account_id: row.try_get("id")?,
        api_key: row.try_get("api_key")?,
        secret_key_sealed: row.try_get("secret_key_sealed")?,
        sealed_with: row.try_get("sealed_with")?,
        created_at: row.try_get("pair_created_at")?,
        expires_at: row.try_get("expires_at")?,
    }))
}
