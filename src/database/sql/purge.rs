//! Purging: accounts whose resource has been gone for long enough go, with their keys; what happened to them stays told.

use super::fault::Fault;
use super::revoked::{self, Reason};
use super::{Session, Value};
use crate::account::{ClusterId, Owner};
use crate::database::{IsDeclared, Unpurged};
use jiff::Timestamp;

/// The most accounts purged in one transaction: others wait for it, and far from the database each of its statements takes
/// a while.
pub(super) const BATCH: usize = 50;

const DUE: &str = "SELECT id, owner_namespace, owner_name FROM accounts \
     WHERE owner_cluster = $1 AND deleted_at < $2 ORDER BY deleted_at";

/// Takes the row for this transaction, if it is still due: its resource may be coming back at this moment.
const TAKE: &str = "UPDATE accounts SET version = version + 1 WHERE id = $1 AND deleted_at < $2 RETURNING id";

const RECORD: &str = "INSERT INTO account_journal (account_id, at, actor, generation, action, changes) \
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
    /// Its id.
    pub id: String,
    /// Whose it was.
    pub owner: Owner,
}

impl Due {
    /// It stays, for this reason.
    pub fn refused(&self, reason: String) -> Unpurged {
        Unpurged { account: self.id.clone(), owner: self.owner.clone(), reason }
    }
}

/// The accounts to purge, those first that were deleted first.
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

/// Purges these if they are still due, and answers with how many were.
pub(super) async fn purge<S: Session>(
    session: &mut S,
    due: &[Due],
    deleted_before: Timestamp,
    at: Timestamp,
) -> Result<usize, Fault> {
    let mut purged = 0;
    for Due { id, .. } in due {
        let taken: Vec<(String,)> =
            session.rows(TAKE, &[id.as_str().into(), deleted_before.as_microsecond().into()]).await?;
        if taken.is_empty() {
            continue;
        }
        purged += 1;
        session.run(RECORD, &[id.as_str().into(), Value::from(at.as_microsecond())]).await?;
        let keys = session.rows(REMOVE_KEYS, &[id.as_str().into()]).await?;
        revoked::remember(session, &keys, Reason::Purged, at.as_microsecond()).await?;
        for remove in REMOVE {
            session.run(remove, &[id.as_str().into()]).await?;
        }
    }
    Ok(purged)
}
