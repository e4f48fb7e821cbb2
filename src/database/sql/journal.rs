//! Reading the journal, and shortening it.

use super::Session;
use super::fault::Fault;
use super::rows::JournalRow;
use crate::account::AccountId;
use crate::database::JournalEntry;
use jiff::Timestamp;
use std::ops::RangeInclusive;

const OF: &str =
    "SELECT id, at, actor, generation, action, changes FROM account_journal WHERE account_id = $1 ORDER BY id";

/// The ids of the first entry and of the last, if there is any.
const ENDS: &str = "SELECT min(id), max(id) FROM account_journal";

/// How many ids one statement looks at: it may take only seconds, and others wait for it.
const STEP: i64 = 5000;

/// Removes the entries of one step that are old and are neither an account's creation nor among its last 10.
const TRIM: &str = "DELETE FROM account_journal WHERE id > $1 AND id <= $2 AND at < $3 \
     AND action NOT IN ('created', 'imported') AND EXISTS (SELECT 1 FROM account_journal AS later \
         WHERE later.account_id = account_journal.account_id AND later.id > account_journal.id \
         ORDER BY later.id LIMIT 1 OFFSET 9) RETURNING id";

/// The first id and the last; `None` of an empty journal.
pub(super) async fn ends<S: Session>(session: &mut S) -> Result<Option<RangeInclusive<i64>>, Fault> {
    let ends: Vec<(Option<i64>, Option<i64>)> = session.rows(ENDS, &[]).await?;
    Ok(ends.first().and_then(|(first, last)| Some((*first)?..=(*last)?)))
}

/// Where each step of going through these ids begins: behind which id.
pub(super) fn steps(ids: Option<RangeInclusive<i64>>) -> impl Iterator<Item = i64> {
    let (first, last) = ids.map_or((1, 0), RangeInclusive::into_inner);
    std::iter::successors(Some(first - 1), |after| after.checked_add(STEP)).take_while(move |after| *after < last)
}

/// Removes what happened before this time from one step of the journal, and tells how many entries that were.
pub(super) async fn trim<S: Session>(session: &mut S, after: i64, before: Timestamp) -> Result<usize, Fault> {
    let values = [after.into(), after.saturating_add(STEP).into(), before.as_microsecond().into()];
    let removed: Vec<(i64,)> = session.rows(TRIM, &values).await?;
    Ok(removed.len())
}

/// What the journal tells of this account, the oldest first.
pub(super) async fn of<S: Session>(session: &mut S, account: AccountId) -> Result<Vec<JournalEntry>, Fault> {
    let rows: Vec<JournalRow> = session.rows(OF, &[account.to_string().as_str().into()]).await?;
    rows.into_iter().map(|row| Ok(row.decode()?)).collect()
}
