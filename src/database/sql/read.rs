//! Reads accounts with four statements, regardless of the number of accounts. The caller's transaction must give all
//! four the same state. PostgreSQL reads few accounts with one statement instead.

use super::fault::Fault;
use super::rows::{AccountRow, KeyRow, Parts, TextRow};
use super::{Session, Value};
use crate::account::Account;
use crate::database::DatabaseError;
use std::collections::HashMap;

/// The four statements that read a selection of accounts: the accounts, their roles, their allowed IPs and their key
/// pairs. And the one statement that reads the same from PostgreSQL.
pub(crate) struct Which {
    pub accounts: &'static str,
    pub roles: &'static str,
    pub allowed_ips: &'static str,
    pub keys: &'static str,
    /// One row for each key pair, and one for an account without key pairs. Each row also tells the server's state. If
    /// no account is selected, the only row has that state and no account.
    pub whole_in_postgres: &'static str,
}

/// The beginning of a statement that reads each column of `accounts`.
macro_rules! select_accounts {
    () => {
        "SELECT id, version, name, description, enabled, use_refresh_token, affiliate, any_ip, owner_cluster, \
         owner_namespace, owner_name, retained_at, deleted_at, suspended_at, suspended_reason, answered_trigger, \
         answered_annotation, adopter"
    };
}

/// Builds the one statement for PostgreSQL from further columns and a condition on `accounts`.
macro_rules! whole_in_postgres {
    ($columns:literal, $condition:literal) => {
        concat!(
            $crate::database::sql::select_accounts!(),
            ", ARRAY(SELECT role FROM account_roles WHERE account_id = id) AS roles, ",
            "ARRAY(SELECT cidr FROM account_allowed_ips WHERE account_id = id) AS allowed_ips, ",
            "pair_id, api_key, secret_key_sealed, sealed_with, pair_created_at, expires_at, is_standby, is_read_only",
            $columns,
            " FROM (SELECT pg_is_in_recovery() AS is_standby, ",
            "current_setting('default_transaction_read_only')::boolean AS is_read_only) AS server LEFT JOIN accounts ON ",
            $condition,
            " LEFT JOIN (SELECT id AS pair_id, account_id, api_key, secret_key_sealed, sealed_with, ",
            "created_at AS pair_created_at, expires_at FROM account_keys) AS pair ON account_id = id ",
            "ORDER BY created_at, id, pair_created_at DESC, pair_id"
        )
    };
}

/// Builds a [`Which`] from a condition on `accounts`.
macro_rules! which {
    ($condition:literal) => {
        $crate::database::sql::Which {
            accounts: concat!(
                $crate::database::sql::select_accounts!(),
                " FROM accounts WHERE ",
                $condition,
                " ORDER BY created_at, id"
            ),
            roles: concat!(
                "SELECT account_id, role AS text FROM account_roles ",
                "WHERE account_id IN (SELECT id FROM accounts WHERE ",
                $condition,
                ")"
            ),
            allowed_ips: concat!(
                "SELECT account_id, cidr AS text FROM account_allowed_ips ",
                "WHERE account_id IN (SELECT id FROM accounts WHERE ",
                $condition,
                ")"
            ),
            keys: concat!(
                "SELECT id, account_id, api_key, secret_key_sealed, sealed_with, created_at, expires_at ",
                "FROM account_keys WHERE account_id IN (SELECT id FROM accounts WHERE ",
                $condition,
                ") ORDER BY created_at DESC, id"
            ),
            whole_in_postgres: $crate::database::sql::whole_in_postgres!("", $condition),
        }
    };
}

pub(crate) use {select_accounts, which, whole_in_postgres};

/// `$1`: the account's id.
pub(in crate::database) const BY_ID: Which = which!("id = $1");

/// `$1`, `$2`, `$3`: cluster, namespace and name of the owner.
pub(super) const BY_OWNER: Which = which!("owner_cluster = $1 AND owner_namespace = $2 AND owner_name = $3");

/// `$1`: the namespace of the owner, or null for any; `$2`: the owner's name.
pub(super) const BY_RESOURCE: Which = which!("(owner_namespace = $1 OR $1 IS NULL) AND owner_name = $2");

/// `$1`: the comparable name.
pub(super) const DELETED_BY_NAME: Which = which!("name_key = $1 AND deleted_at IS NOT NULL");

/// `$1`: the comparable name.
pub(super) const BY_NAME: Which = which!("name_key = $1 AND deleted_at IS NULL");

/// `$1`: the API key.
pub(super) const BY_API_KEY: Which = which!("id = (SELECT account_id FROM account_keys WHERE api_key = $1)");

/// `$1`: the cluster.
pub(super) const BY_CLUSTER: Which = which!("owner_cluster = $1");

/// Every account.
pub(super) const EVERY: Which = which!("1 = 1");

/// The accounts that no resource declares: unowned and retained ones.
pub(super) const UNDECLARED: Which =
    which!("deleted_at IS NULL AND (owner_cluster IS NULL OR retained_at IS NOT NULL)");

/// Reads the account of a selection of at most one account.
pub(in crate::database) async fn first<S: Session>(
    session: &mut S,
    which: &Which,
    values: &[Value<'_>],
) -> Result<Option<Account>, Fault> {
    Ok(all(session, which, values).await?.pop())
}

/// Reads the selected accounts. Fails if one of them cannot be read.
pub(super) async fn all<S: Session>(
    session: &mut S,
    which: &Which,
    values: &[Value<'_>],
) -> Result<Vec<Account>, Fault> {
    Ok(each(session, which, values).await?.into_iter().collect::<Result<_, _>>()?)
}

/// Reads the selected accounts, with an error in place of each account that cannot be read.
pub(super) async fn each<S: Session>(
    session: &mut S,
    which: &Which,
    values: &[Value<'_>],
) -> Result<Vec<Result<Account, DatabaseError>>, Fault> {
    let accounts: Vec<AccountRow> = session.rows(which.accounts, values).await?;
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
    let mut parts: HashMap<String, Parts> = HashMap::new();
    let mut unreadable: HashMap<String, DatabaseError> = HashMap::new();
    for row in session.rows::<TextRow>(which.roles, values).await? {
        parts.entry(row.account_id).or_default().roles.insert(row.text);
    }
    for row in session.rows::<TextRow>(which.allowed_ips, values).await? {
        parts.entry(row.account_id).or_default().allowed_ips.insert(row.text);
    }
    for row in session.rows::<KeyRow>(which.keys, values).await? {
        let account = row.account_id.clone();
        match row.decode() {
            Ok(key) => parts.entry(account).or_default().keys.push(key),
            Err(error) => _ = unreadable.entry(account).or_insert(error),
        }
    }
    let decode = |account: AccountRow| {
        let parts = parts.remove(&account.id).unwrap_or_default();
        unreadable.remove(&account.id).map_or_else(|| account.decode(parts), Err)
    };
    Ok(accounts.into_iter().map(decode).collect())
}
