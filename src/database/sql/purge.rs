//! Purges accounts that were deleted long enough ago: removes them and their keys, and keeps their journal.

use super::fault::Fault;
use super::revoked::{self, Reason};
use super::{Session, Value};
use crate::account::{ClusterId, Owner};
use crate::database::{IsDeclared, Unpurged};
use jiff::Timestamp;

/// The maximum number of accounts in one transaction. Other writes wait for the transaction, and over a slow network
/// each of its statements takes a while.
pub(super) const BATCH: usize = 50;

const DUE: &str = "SELECT id, owner_namespace, owner_name FROM accounts \
     WHERE owner_cluster = $1 AND deleted_at < $2 ORDER BY deleted_at";

/// Locks the row for this transaction if it is still due. The account may be restored at the same moment.
const LOCK: &str = "UPDATE accounts SET version = version + 1 WHERE id = $1 AND deleted_at < $2 RETURNING id";

const ADD_JOURNAL_ENTRY: &str = "INSERT INTO account_journal (account_id, at, actor, generation, action, changes) \
     VALUES ($1, $2, 'retention', NULL, 'purged', '[]')";

const REMOVE_KEYS: &str = "DELETE FROM account_keys WHERE account_id = $1 RETURNING api_key";

const REMOVE: [&str; 3] = [
    "DELETE FROM account_roles WHERE account_id = $1",
    "DELETE FROM account_allowed_ips WHERE account_id = $1",
    "DELETE FROM accounts WHERE id = $1",
];

/// An account to purge.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub id: String,
    /// The owner of the account.
    pub owner: Owner,
}

impl Due {
    /// Returns the report that the database refused to remove the account.
    pub fn refused(&self, reason: String) -> Unpurged {
        Unpurged { account: self.id.clone(), owner: self.owner.clone(), reason }
    }
}

/// Returns the accounts to purge, ordered by the time of their deletion. Skips accounts whose owner is declared.
pub(super) async fn due<S: Session>(
    session: &mut S,
    cluster: &ClusterId,
    is_declared: IsDeclared<'_>,
    deleted_before: Timestamp,
) -> Result<Vec<Due>, Fault> {
    let values = [cluster.as_str().into(), deleted_before.as_microsecond().into()];
    let deleted: Vec<(String, String, String)> = session.rows(DUE, &values).await?;
    let due = deleted.into_iter().filter_map(|(id, namespace, name)| {
        let owner = Owner { cluster: cluster.clone(), namespace, name };
        (!is_declared(&owner)).then_some(Due { id, owner })
    });
    Ok(due.collect())
}

/// Purges the accounts that are still due, and returns their number.
pub(super) async fn purge<S: Session>(
    session: &mut S,
    due: &[Due],
    deleted_before: Timestamp,
    at: Timestamp,
) -> Result<usize, Fault> {
    let mut purged = 0;
    for Due { id, .. } in due {
        let locked: Vec<(String,)> =
            session.rows(LOCK, &[id.as_str().into(), deleted_before.as_microsecond().into()]).await?;
        if locked.is_empty() {
            continue;
        }
        purged += 1;
        session.run(ADD_JOURNAL_ENTRY, &[id.as_str().into(), Value::from(at.as_microsecond())]).await?;
        let keys = session.rows(REMOVE_KEYS, &[id.as_str().into()]).await?;
        revoked::remember(session, &keys, Reason::Purged, at.as_microsecond()).await?;
        for remove in REMOVE {
            session.run(remove, &[id.as_str().into()]).await?;
        }
    }
    Ok(purged)
}
