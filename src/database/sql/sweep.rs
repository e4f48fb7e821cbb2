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

/// The queries for what changed.
pub(crate) struct SweepQueries {
    /// The moment, and a checksum of the owners; `$1`: the cluster.
    pub mark: &'static str,
    /// The accounts that changed, as [`VersionRow`]; `$1`: the cluster, `$2`: the moment of the last sweep.
    pub changed: &'static str,
}

#[derive(FromRow)]
struct MarkRow {
    moment: String,
    owners: String,
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
    queries: &SweepQueries,
    cluster: &ClusterId,
    since: Option<&SweepMark>,
) -> Result<Changes, Fault> {
    let marks: Vec<MarkRow> = session.rows(queries.mark, &[cluster.as_str().into()]).await?;
    let Some(MarkRow { moment, owners }) = marks.into_iter().next() else { return Ok(Changes::unknown()) };
    let mark = SweepMark { history: None, moment, owners };
    let Some(since) = since.filter(|since| since.owners == mark.owners) else {
        return Ok(Changes { accounts: None, mark: Some(mark) });
    };
    let values = [cluster.as_str().into(), since.moment.as_str().into()];
    let changed: Vec<VersionRow> = session.rows(queries.changed, &values).await?;
    Ok(Changes { accounts: Some(changed.into_iter().map(|row| row.of(cluster)).collect()), mark: Some(mark) })
}

/// Returns what changed for a database that only tells the number of its last commit.
pub(super) fn by_commit(commit: i64, since: Option<&SweepMark>) -> Changes {
    let mark = SweepMark { history: None, moment: commit.to_string(), owners: String::new() };
    let is_unchanged = since.is_some_and(|since| *since == mark);
    Changes { accounts: is_unchanged.then(Vec::new), mark: Some(mark) }
}
