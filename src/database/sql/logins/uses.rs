//! Reads when key pairs were used.

use crate::account::{AccountId, ClusterId, KeyId, KeyUse, Owner};
use crate::database::DatabaseError;
use crate::database::sql::fault::Fault;
use crate::database::sql::rows::Cell;
use crate::database::sql::{Session, Value};
use sqlx::FromRow;

const ALL: &str = "SELECT key_id, first_used_at, last_used_at FROM key_uses";

const OF_ACCOUNT: &str = "SELECT used.key_id, used.first_used_at, used.last_used_at FROM account_keys AS pair \
     JOIN key_uses AS used ON used.key_id = pair.id WHERE pair.account_id = $1";

const OF_CLUSTER: &str = "SELECT account.owner_namespace, account.owner_name, used.key_id, used.first_used_at, \
     used.last_used_at FROM key_uses AS used JOIN account_keys AS pair ON pair.id = used.key_id \
     JOIN accounts AS account ON account.id = pair.account_id WHERE account.owner_cluster = $1";

#[derive(FromRow)]
struct KeyUseRow {
    key_id: String,
    first_used_at: i64,
    last_used_at: i64,
}

#[derive(FromRow)]
struct OwnedKeyUseRow {
    owner_namespace: String,
    owner_name: String,
    #[sqlx(flatten)]
    used: KeyUseRow,
}

/// Returns the uses of the key pairs of an account, or of all accounts.
pub(in crate::database::sql) async fn of_account<S: Session>(
    session: &mut S,
    account: Option<AccountId>,
) -> Result<Vec<KeyUse>, Fault> {
    let rows: Vec<KeyUseRow> = match account.map(|account| account.to_string()) {
        Some(account) => session.rows(OF_ACCOUNT, &[Value::from(account.as_str())]).await?,
        None => session.rows(ALL, &[]).await?,
    };
    Ok(rows.into_iter().map(KeyUseRow::decode).collect::<Result<_, _>>()?)
}

/// Returns the uses of the key pairs of each account of a cluster.
pub(in crate::database::sql) async fn of_cluster<S: Session>(
    session: &mut S,
    cluster: &ClusterId,
) -> Result<Vec<(Owner, KeyUse)>, Fault> {
    let rows: Vec<OwnedKeyUseRow> = session.rows(OF_CLUSTER, &[cluster.as_str().into()]).await?;
    let decode = |row: OwnedKeyUseRow| {
        let owner = Owner { cluster: cluster.clone(), namespace: row.owner_namespace, name: row.owner_name };
        Ok::<_, DatabaseError>((owner, row.used.decode()?))
    };
    Ok(rows.into_iter().map(decode).collect::<Result<_, _>>()?)
}

impl KeyUseRow {
    fn decode(self) -> Result<KeyUse, DatabaseError> {
        let cell = |column| Cell { table: "key_uses", column, row: &self.key_id };
        Ok(KeyUse {
            key: cell("key_id").id(&self.key_id, KeyId::parse)?,
            first: cell("first_used_at").time(self.first_used_at)?,
            last: cell("last_used_at").time(self.last_used_at)?,
        })
    }
}
