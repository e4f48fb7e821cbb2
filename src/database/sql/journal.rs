//! Reading the journal.

use super::Session;
use super::fault::Fault;
use super::rows::JournalRow;
use crate::account::AccountId;
use crate::database::JournalEntry;

const OF: &str =
    "SELECT id, at, actor, generation, action, changes FROM account_journal WHERE account_id = $1 ORDER BY id";

/// What the journal tells of this account, the oldest first.
pub(super) async fn of<S: Session>(session: &mut S, account: AccountId) -> Result<Vec<JournalEntry>, Fault> {
    let rows: Vec<JournalRow> = session.rows(OF, &[account.to_string().as_str().into()]).await?;
    rows.into_iter().map(|row| Ok(row.decode()?)).collect()
}
