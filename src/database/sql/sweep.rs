//! The reads of a sweep: what changed since the last one, and pages of all accounts.
//!
//! PostgreSQL notes the transaction that wrote a row in the row itself (`xmin`). A snapshot knows the oldest transaction
//! that is still open: everything before it is in the snapshot, and everything else is told by the next sweep. A row that
//! is gone has no `xmin`, so a checksum of the owners tells that rows came or went. SQLite tells whether anything was
//! committed.

use super::fault::Fault;
use super::rows::VersionRow;
use super::{Session, Value};
use crate::account::{ClusterId, Owner, Version};
use crate::database::{Changes, SweepMark};
use sqlx::FromRow;

/// `$1`: the cluster; `$2`, `$3`: the namespace and name of the last owner of the page before; `$4`: the limit.
const VERSIONS_AFTER: &str = "SELECT owner_namespace, owner_name, version FROM accounts \
     WHERE owner_cluster = $1 AND (owner_namespace, owner_name) > ($2, $3) ORDER BY owner_namespace, owner_name LIMIT $4";

/// The parameters are those of [`VERSIONS_AFTER`].
const LIVE_AFTER: &str = "SELECT owner_namespace, owner_name FROM accounts \
     WHERE owner_cluster = $1 AND (owner_namespace, owner_name) > ($2, $3) \
     AND deleted_at IS NULL AND retained_at IS NULL ORDER BY owner_namespace, owner_name LIMIT $4";

/// A row of [`super::Dialect::CHANGES`]: the present mark, and an account that changed, if one did.
#[derive(FromRow)]
struct ChangeRow {
    owner_namespace: Option<String>,
    owner_name: Option<String>,
    version: Option<i64>,
    moment: String,
    owners: String,
}

impl ChangeRow {
    fn account(self, cluster: &ClusterId) -> Option<(Owner, Version)> {
        let owner = Owner { cluster: cluster.clone(), namespace: self.owner_namespace?, name: self.owner_name? };
        Some((owner, Version(self.version?)))
    }
}

/// Returns one page of the versions.
pub(super) async fn versions_after<S: Session>(
    session: &mut S,
    cluster: &ClusterId,
    after: Option<&Owner>,
    limit: usize,
) -> Result<Vec<(Owner, Version)>, Fault> {
    let rows: Vec<VersionRow> = session.rows(VERSIONS_AFTER, &page(cluster, after, limit)).await?;
    Ok(rows.into_iter().map(|row| row.of(cluster)).collect())
}

/// Returns one page of the owners of live accounts.
pub(super) async fn live_after<S: Session>(
    session: &mut S,
    cluster: &ClusterId,
    after: Option<&Owner>,
    limit: usize,
) -> Result<Vec<Owner>, Fault> {
    let rows: Vec<(String, String)> = session.rows(LIVE_AFTER, &page(cluster, after, limit)).await?;
    Ok(rows.into_iter().map(|(namespace, name)| Owner { cluster: cluster.clone(), namespace, name }).collect())
}

/// No namespace and no name is empty, so every owner comes after the empty one.
fn page<'a>(cluster: &'a ClusterId, after: Option<&'a Owner>, limit: usize) -> [Value<'a>; 4] {
    let (namespace, name) = after.map_or(("", ""), |after| (&after.namespace, &after.name));
    [cluster.as_str().into(), namespace.into(), name.into(), i64::try_from(limit).unwrap_or(i64::MAX).into()]
}

/// Returns what changed since an earlier mark of the same history, and the present mark without its history.
pub(super) async fn changes<S: Session>(
    session: &mut S,
    query: &'static str,
    cluster: &ClusterId,
    since: Option<&SweepMark>,
) -> Result<Changes, Fault> {
    let (moment, owners) = (since.map(|since| since.moment.as_str()), since.map(|since| since.owners.as_str()));
    let rows: Vec<ChangeRow> = session.rows(query, &[cluster.as_str().into(), moment.into(), owners.into()]).await?;
    let Some(first) = rows.first() else { return Ok(Changes::unknown()) };
    let mark = SweepMark { history: None, moment: first.moment.clone(), owners: first.owners.clone() };
    let is_told = owners.is_some_and(|owners| owners == mark.owners);
    let accounts = is_told.then(|| rows.into_iter().filter_map(|row| row.account(cluster)).collect());
    Ok(Changes { accounts, mark: Some(mark) })
}

/// Returns what changed for a database that only tells the number of its last commit.
pub(super) fn by_commit(commit: i64, since: Option<&SweepMark>) -> Changes {
    let mark = SweepMark { history: None, moment: commit.to_string(), owners: String::new() };
    let is_unchanged = since.is_some_and(|since| *since == mark);
    Changes { accounts: is_unchanged.then(Vec::new), mark: Some(mark) }
}
