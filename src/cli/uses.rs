//! Reads when key pairs were used, for commands that show accounts.

use super::output::Output;
use crate::account::{AccountId, KeyUse};
use crate::database::AccountAdmin;

/// Returns when the key pairs of the account, or of all accounts, were used. If this cannot be read, for example because
/// the database's user lacks the right, prints why and returns `None`: the accounts are shown without it.
pub async fn read_uses(database: &dyn AccountAdmin, of: Option<AccountId>, output: &Output) -> Option<Vec<KeyUse>> {
    match database.uses(of).await {
        Ok(uses) => Some(uses),
        Err(error) => {
            output.note(format!("cannot show when the key pairs were used: {error}"));
            None
        }
    }
}
