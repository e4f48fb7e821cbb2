//! Reads the journal, and removes its old entries.

use super::Session;
use super::fault::Fault;
use super::rows::{JournalRecordRow, JournalRow};
use crate::account::AccountId;
use crate::database::{JournalEntry, JournalRecord};
use jiff::Timestamp;
use std::ops::RangeInclusive;

const OF: &str = "SELECT id, at, actor, generation, requested_by, action, changes FROM account_journal \
     WHERE account_id = $1 ORDER BY id";

const AFTER: &str = "SELECT id, account_id, at, actor, generation, requested_by, action, changes FROM account_journal \
     WHERE id > $1 ORDER BY id LIMIT $2";

/// Query for the ids of the first and the last entry; null for an empty journal.
const ENDS: &str = "SELECT min(id), max(id) FROM account_journal";

/// How many ids one statement covers. A statement must take only seconds, because other calls wait for it.
const STEP: i64 = 5000;

/// Removes the old entries of one step. Keeps each account's creation or import and each account's last 10 entries.
const TRIM: &str = "DELETE FROM account_journal WHERE id > $1 AND id <= $2 AND at < $3 \
     AND action NOT IN ('created', 'imported') AND EXISTS (SELECT 1 FROM account_journal AS later \
         WHERE later.account_id = account_journal.account_id AND later.id > account_journal.id \
         ORDER BY later.id LIMIT 1 OFFSET 9) RETURNING id";

/// Returns the first and the last id; `None` for an empty journal.
pub(super) async fn ends<S: Session>(session: &mut S) -> Result<Option<RangeInclusive<i64>>, Fault> {
    let ends: Vec<(Option<i64>, Option<i64>)> = session.rows(ENDS, &[]).await?;
    Ok(ends.first().and_then(|(first, last)| Some((*first)?..=(*last)?)))
}

/// Returns the steps that cover these ids. A step is given by the id before its first one.
pub(super) fn steps(ids: Option<RangeInclusive<i64>>) -> impl Iterator<Item = i64> {
    let (first, last) = ids.map_or((1, 0), RangeInclusive::into_inner);
    std::iter::successors(Some(first - 1), |after| after.checked_add(STEP)).take_while(move |after| *after < last)
}

/// Removes the entries from before this time from one step of the journal, and returns how many it removed.
pub(super) async fn trim<S: Session>(session: &mut S, after: i64, before: Timestamp) -> Result<usize, Fault> {
    let values = [after.into(), after.saturating_add(STEP).into(), before.as_microsecond().into()];
    let removed: Vec<(i64,)> = session.rows(TRIM, &values).await?;
    Ok(removed.len())
}

/// Returns the journal entries of this account, oldest first.
pub(super) async fn of<S: Session>(session: &mut S, account: AccountId) -> Result<Vec<JournalEntry>, Fault> {
    let rows: Vec<JournalRow> = session.rows(OF, &[account.to_string().as_str().into()]).await?;
    rows.into_iter().map(|row| Ok(row.decode()?)).collect()
}

/// Returns at most `limit` entries of the whole journal with greater ids than `id`, by id.
pub(super) async fn after<S: Session>(session: &mut S, id: i64, limit: u16) -> Result<Vec<JournalRecord>, Fault> {
    let rows: Vec<JournalRecordRow> = session.rows(AFTER, &[id.into(), i64::from(limit).into()]).await?;
    Ok(rows.into_iter().map(JournalRecordRow::decode).collect())
}
