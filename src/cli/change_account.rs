//! Makes one manual change to an account, exactly once, even if the account changes meanwhile or an answer of the
//! database is lost.

use super::environment::SystemEnvironment;
use crate::account::Account;
use crate::database::{AccountDatabase, Action, Change, DatabaseError};
use crate::reconcile::Environment;
use anyhow::{Context, Result, anyhow, bail};

/// The number of attempts when other programs change the account at the same time.
const ATTEMPTS: usize = 8;

/// The result of a manual change.
pub struct ManualChange {
    /// The account before the change.
    pub before: Account,
    /// The account after the change.
    pub account: Account,
    /// The action that was done. `None`: there was nothing to do.
    pub done: Option<Action>,
}

/// Commits the action that `decide` returns for the account. If another program has changed the account meanwhile,
/// reads the account and calls `decide` again. If the answer of the database is lost, reads the account to find out
/// whether the change was made.
pub async fn change_account(
    database: &dyn AccountDatabase,
    account: Account,
    actor: &str,
    decide: impl Fn(&Account) -> Result<Option<Action>>,
) -> Result<ManualChange> {
    let mut account = account;
    for _ in 0..ATTEMPTS {
        let Some(action) = decide(&account)? else {
            return Ok(ManualChange { before: account.clone(), account, done: None });
        };
        let at = SystemEnvironment.now();
        let change =
            Change { account: account.id, action, at, actor: actor.to_owned(), generation: None, requested_by: None };
        match database.commit(&change).await {
            Ok(after) => return Ok(ManualChange { before: account, account: after, done: Some(change.action) }),
            Err(DatabaseError::Conflict) => account = read_again(database, &account).await?,
            Err(error @ DatabaseError::Unavailable { .. }) => {
                let unknown = || {
                    format!(
                        "{error}; it is not known whether the change was made: check with `opsadmin history {}`",
                        account.id
                    )
                };
                let after = read_again(database, &account).await.with_context(unknown)?;
                if is_done(&change.action, &after) {
                    return Ok(ManualChange { before: account, account: after, done: Some(change.action) });
                }
                return Err(error).context("it was not done");
            }
            Err(other) => return Err(other.into()),
        }
    }
    bail!("others keep changing the account {}; nothing was done: try again", account.id)
}

async fn read_again(database: &dyn AccountDatabase, account: &Account) -> Result<Account> {
    let found = database.find_by_id(account.id).await?;
    found.ok_or_else(|| anyhow!("the account {} was purged meanwhile", account.id))
}

/// Returns whether the account shows that the action was done.
fn is_done(action: &Action, account: &Account) -> bool {
    match action {
        Action::Suspend { reason, .. } => {
            account.suspension.as_ref().is_some_and(|suspension| suspension.reason == reason.as_str())
        }
        Action::AllowAdoption { adopter, .. } => account.adopter == *adopter,
        Action::Resume { .. } => account.suspension.is_none(),
        Action::Rotate { key, .. } => account.keys.iter().any(|known| known.id == key.id),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::samples::account;
    use crate::account::{KeyState, SuspensionReason};
    use crate::database::Keyring;
    use crate::reconcile::new_key;
    use crate::reconcile::tests::memory::{Accounts, Counting, Fault, lock};
    use std::cell::Cell;
    use zeroize::Zeroizing;

    fn suspend(account: &Account) -> Result<Option<Action>> {
        let reason = SuspensionReason::parse("unpaid")?;
        Ok(account.suspension.is_none().then_some(Action::Suspend { expected: account.version, reason }))
    }

    fn rotate(account: &Account) -> Result<Option<Action>> {
        let keyring = Keyring::from_random(Zeroizing::new([1; 32]));
        let key = new_key(account.id, &keyring, &Counting::default())?;
        let (expected, answered) = (account.version, account.answered_requests.clone());
        Ok(Some(Action::Rotate { expected, key, old_expires: None, revoke: Vec::new(), answered }))
    }

    fn accounts() -> (Accounts, Account) {
        let (accounts, account) = (Accounts::default(), account());
        lock(&accounts.rows).push(account.clone());
        (accounts, account)
    }

    #[tokio::test]
    async fn a_change_whose_answer_was_lost_is_found_by_reading() {
        for decide in [suspend, rotate] {
            let (accounts, account) = accounts();
            lock(&accounts.faults).push(Fault::AnswerLost);
            let stepped_in = change_account(&accounts, account.clone(), "cli:a", decide).await.unwrap();
            assert_eq!((stepped_in.before, stepped_in.done.is_some()), (account, true));
            assert_eq!(lock(&accounts.rows).as_slice(), [stepped_in.account]);
            assert_eq!(lock(&accounts.changes).len(), 1, "and nothing is done twice");
        }
    }

    #[tokio::test]
    async fn a_change_that_was_not_made_is_reported_as_not_done() {
        for decide in [suspend, rotate] {
            let (accounts, account) = accounts();
            lock(&accounts.faults).push(Fault::NotMade);
            let error = change_account(&accounts, account.clone(), "cli:a", decide).await.err().expect("it failed");
            assert!(format!("{error:#}").starts_with("it was not done: "), "{error:#}");
            assert_eq!(lock(&accounts.rows).as_slice(), [account]);
        }
    }

    #[tokio::test]
    async fn a_conflict_makes_decide_run_again() {
        let (accounts, account) = accounts();
        let asked = Cell::new(0);
        let decide = |account: &Account| {
            asked.set(asked.get() + 1);
            if asked.get() < 3 {
                // Another program changes the account first.
                lock(&accounts.rows)[0].version.0 += 1;
            }
            rotate(account)
        };
        let stepped_in = change_account(&accounts, account.clone(), "cli:a", decide).await.unwrap();
        assert_eq!((asked.get(), stepped_in.account.version.0), (3, account.version.0 + 3));
        assert_eq!(stepped_in.account.keys.len(), 1);
        assert_eq!(stepped_in.account.keys[0].state, KeyState::Active);

        let always = |account: &Account| {
            lock(&accounts.rows)[0].version.0 += 1;
            rotate(account)
        };
        let error = change_account(&accounts, stepped_in.account, "cli:a", always).await.err().expect("it gave up");
        assert!(error.to_string().contains("others keep changing the account"), "{error}");
    }

    #[tokio::test]
    async fn without_an_action_nothing_is_changed() {
        let (accounts, account) = accounts();
        let stepped_in = change_account(&accounts, account.clone(), "cli:a", |_| Ok(None)).await.unwrap();
        assert_eq!((stepped_in.account, stepped_in.done.is_none()), (account, true));
        assert!(lock(&accounts.changes).is_empty());
    }
}
