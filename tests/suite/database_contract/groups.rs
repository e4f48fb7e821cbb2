//! Changes of concurrent callers share a transaction: each caller hears only of its own change, and all of a group is
//! committed or nothing.

use super::fixture::*;
use crate::support::postgres::postgres;
use crate::support::proxy::{Call, DatabaseProxy, Fault};
use crate::support::wait::eventually;
use futures::future::{BoxFuture, join_all, maybe_done};
use futures::{FutureExt as _, poll};
use opsadmin_operator::account::{Account, Settings, SuspensionReason};
use opsadmin_operator::database::{AccountAdmin, Action, Change, DatabaseError, UnknownAffiliate, open};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

const MANY: usize = 8;

const SOON: Duration = Duration::from_mins(1);

fn account_name(number: usize) -> String {
    format!("account {number}")
}

fn creations(numbers: std::ops::Range<usize>) -> Vec<Change> {
    numbers.map(|number| creation(owner(&account_name(number)), full_settings(&account_name(number)))).collect()
}

/// Commits all changes at a time. The calls begin in this order, before the first of them has an answer.
async fn commit_each(database: &dyn AccountAdmin, changes: &[Change]) -> Vec<Result<Account, DatabaseError>> {
    join_all(changes.iter().map(|change| database.commit(change))).await
}

/// Widens the access of the account with the name `widened` when it is created.
async fn widen(fresh: &Fresh) {
    let trigger = if fresh.file().is_some() {
        "CREATE TRIGGER theirs AFTER INSERT ON accounts WHEN NEW.name = 'widened' \
         BEGIN UPDATE accounts SET use_refresh_token = FALSE WHERE id = NEW.id; END"
    } else {
        "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         UPDATE accounts SET use_refresh_token = FALSE WHERE id = NEW.id; RETURN NULL; END $$; \
         CREATE TRIGGER theirs AFTER INSERT ON accounts FOR EACH ROW WHEN (NEW.name = 'widened') EXECUTE FUNCTION theirs()"
    };
    fresh.by_hand(trigger).await.unwrap();
}

/// One group of good changes and of changes that the database refuses, each for another reason.
pub async fn each_caller_hears_only_of_its_own_change(fresh: Fresh) {
    let database = fresh.open().await;
    let database = &*database;
    widen(&fresh).await;
    let first = create(database, owner("first"), settings("first")).await;
    let second = create(database, owner("second"), settings("second")).await;
    let changed = database.commit(&update(&second, &settings("changed"))).await.unwrap();
    let revoked = pair();
    let third = create(database, owner("third"), settings("third")).await;
    let third = database.commit(&rotation(&third, &revoked)).await.unwrap();
    let third = database.commit(&rotation(&third, &pair())).await.unwrap();

    let mut unknown = creation(owner("unknown"), full_settings("unknown"));
    let Action::Create { settings: wanted, unknown_affiliate, .. } = &mut unknown.action else { panic!() };
    (wanted.affiliate, *unknown_affiliate) = (Some(affiliate("Nowhere")), UnknownAffiliate::Refuse);
    let mut leaked = creation(owner("leaked"), settings("leaked"));
    let Action::Create { key, .. } = &mut leaked.action else { panic!() };
    *key = stored(leaked.account, &revoked);
    let mut borrowed = creation(owner("borrowed"), settings("borrowed"));
    let Action::Create { key, .. } = &mut borrowed.action else { panic!() };
    key.api_key = third.keys[0].api_key.clone();
    let refused = [
        creation(owner("another"), settings("FIRST")),
        creation(owner("first"), settings("other")),
        update(&second, &settings("too late")),
        creation(owner("widened"), Settings { enabled: true, ..full_settings("widened") }),
        unknown,
        leaked,
        borrowed,
    ];
    let mut disabled = settings("first");
    disabled.enabled = false;
    let suspend = Action::Suspend { expected: third.version, reason: SuspensionReason::parse("unpaid").unwrap() };
    let mut good = creations(0..MANY);
    good.extend([update(&first, &disabled), deletion(&changed), change(third.id, suspend)]);
    let before: usize = fresh.count("account_journal").await.parse().unwrap();

    // The refused changes are between the good ones.
    let (some, others) = good.split_at(MANY / 2);
    let group: Vec<Change> = [some, &refused[..], others].concat();
    let mut answers = commit_each(database, &group).await;

    let mut told: Vec<_> = answers.drain(some.len()..some.len() + refused.len()).map(Result::unwrap_err).collect();
    for (change, answer) in good.iter().zip(answers) {
        let account = answer.unwrap();
        assert_eq!(database.find_by_id(change.account).await.unwrap(), Some(account));
        assert!(!database.journal(change.account).await.unwrap().is_empty());
    }
    for change in refused.iter().filter(|change| change.account != second.id) {
        assert_eq!(database.find_by_id(change.account).await.unwrap(), None);
        assert_eq!(database.journal(change.account).await.unwrap(), []);
    }
    let after: usize = fresh.count("account_journal").await.parse().unwrap();
    assert_eq!(after, before + good.len(), "one entry for each that was made");
    assert_eq!(fresh.count("affiliates").await, "1");
    assert!(matches!(told.pop(), Some(DatabaseError::KeyTaken)), "{told:?}");
    assert!(matches!(told.pop(), Some(DatabaseError::KeyRevoked)), "{told:?}");
    assert!(matches!(told.pop(), Some(DatabaseError::UnknownAffiliate { .. })), "{told:?}");
    assert!(matches!(told.pop(), Some(DatabaseError::NotStored { .. })), "{told:?}");
    assert!(matches!(told.pop(), Some(DatabaseError::Conflict)), "{told:?}");
    assert!(matches!(told.pop(), Some(DatabaseError::Conflict)), "{told:?}");
    assert!(matches!(told.pop(), Some(DatabaseError::NameTaken { .. })), "{told:?}");
}

pub async fn a_caller_that_gives_up_takes_no_other_change_along(fresh: Fresh) {
    let database = fresh.open().await;
    for given_up in 0..MANY {
        let changes = creations(given_up * MANY..(given_up + 1) * MANY);
        let mut calls: Vec<_> = changes.iter().map(|change| maybe_done(database.commit(change))).collect();
        for call in &mut calls {
            // A call may even end here, if this thread has to wait at the right moments.
            let _begun: Poll<()> = poll!(call);
        }
        drop(calls.remove(given_up));
        join_all(calls.iter_mut()).await;
        for call in &mut calls {
            Pin::new(call).take_output().expect("it ended").unwrap();
        }
        for change in changes.iter().enumerate().filter(|(number, _)| *number != given_up).map(|(_, change)| change) {
            assert_eq!(database.journal(change.account).await.unwrap().len(), 1);
        }
    }
}

/// Each program changes all accounts, in an order of its own. Of each account one change wins, and no two programs wait
/// for each other for ever.
pub async fn crossing_changes_of_several_programs_end(fresh: Fresh) {
    const ROUNDS: usize = 25;
    let programs: Vec<Arc<dyn AccountAdmin>> = vec![fresh.open().await, open(fresh.url()).unwrap()];
    let mut accounts = Vec::new();
    for made in commit_each(&*programs[0], &creations(0..MANY)).await {
        accounts.push(made.unwrap());
    }
    for round in 0..ROUNDS {
        let rounds = programs.iter().enumerate().map(|(number, program)| {
            let (program, mut observed) = (Arc::clone(program), accounts.clone());
            observed.rotate_left((round * (number + 1)) % MANY);
            if number % 2 == 1 {
                observed.reverse();
            }
            tokio::spawn(async move {
                let changes: Vec<Change> = observed
                    .iter()
                    .map(|account| {
                        let mut wanted = full_settings(&account.settings.name);
                        wanted.enabled = round % 2 == 0;
                        wanted.allowed_ips = ips(&[&format!("192.0.2.{number}")]);
                        update(account, &wanted)
                    })
                    .collect();
                commit_each(&*program, &changes).await
            })
        });
        let (won, lost): (Vec<_>, Vec<_>) =
            join_all(rounds).await.into_iter().flat_map(Result::unwrap).partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (MANY, MANY), "{lost:?}");
        lost.into_iter().for_each(assert_conflict);
        accounts = won.into_iter().map(Result::unwrap).collect();
    }
    let entries: usize = fresh.count("account_journal").await.parse().unwrap();
    assert_eq!(entries, MANY * (1 + ROUNDS));
}

/// A program behind a proxy, with accounts to change. Its tests run on one thread, so that no call goes on before all of a
/// group have begun.
struct Stage {
    proxy: DatabaseProxy,
    program: Arc<dyn AccountAdmin>,
    by_hand: PgConnection,
    accounts: Vec<Account>,
}

impl Stage {
    async fn set(test_name: &str) -> Self {
        let database = postgres().await.database(test_name).await;
        let by_hand = PgConnection::connect(database.url()).await.unwrap();
        let proxy = DatabaseProxy::new(database).await;
        let program = open(proxy.url()).unwrap();
        program.migrate().await.unwrap();
        let mut accounts = Vec::new();
        for name in ["changed", "deleted"] {
            accounts.push(create(&*program, owner(name), full_settings(name)).await);
        }
        Self { proxy, program, by_hand, accounts }
    }

    /// A group with changes of each kind.
    fn changes(&self) -> Vec<Change> {
        let [changed, deleted] = self.accounts.as_slice() else { panic!("there are two") };
        let mut group = creations(0..4);
        group.extend([update(changed, &settings("changed")), deletion(deleted)]);
        group
    }

    /// Commits the changes in one group: another change is under way until all of them wait.
    async fn commit_in_one_group(&self, changes: &[Change]) -> Vec<Result<Account, DatabaseError>> {
        let ahead = self.ahead().await;
        let mut calls: Vec<BoxFuture<'_, _>> = changes.iter().map(|change| self.program.commit(change)).collect();
        for call in &mut calls {
            assert!(poll!(call).is_pending());
        }
        assert_conflict(ahead.await);
        join_all(calls).await
    }

    /// Returns a change that has begun. It goes on only when it is polled. It is refused, with statements that no change
    /// of the group has.
    async fn ahead(&self) -> BoxFuture<'static, Result<Account, DatabaseError>> {
        let program = Arc::clone(&self.program);
        let nobody = creation(owner("nobody"), settings("nobody")).account;
        let revoke = Action::Revoke { expected: self.accounts[0].version, keys: Vec::new() };
        let mut ahead = async move { program.commit(&change(nobody, revoke)).await }.boxed();
        assert!(poll!(&mut ahead).is_pending());
        ahead
    }

    /// Counts the accounts and the journal entries that the changes of the group have made.
    async fn made(&mut self) -> (i64, i64) {
        let count = "SELECT (SELECT count(*) FROM accounts WHERE name LIKE 'account %' OR version > 1), \
             (SELECT count(*) FROM account_journal WHERE action IN ('updated', 'deleted') \
             OR account_id IN (SELECT id FROM accounts WHERE name LIKE 'account %'))";
        sqlx::query_as(count).fetch_one(&mut self.by_hand).await.unwrap()
    }
}

#[track_caller]
fn assert_unavailable(answers: &[Result<Account, DatabaseError>]) {
    for answer in answers {
        assert!(matches!(answer, Err(DatabaseError::Unavailable { .. })), "{answer:?}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_in_a_group_leaves_nothing_or_all() {
    let mut stage = Stage::set("group_ends").await;
    stage.proxy.trace.begin();
    let changes = stage.changes();
    for answer in stage.commit_in_one_group(&changes).await {
        answer.unwrap();
    }
    let calls = stage.proxy.trace.calls();
    let begin = calls.iter().position(|call| call.what.contains("lock_timeout")).expect("they shared a transaction");
    // If the connection ends as the transaction begins, it begins on another one.
    let group = calls[begin + 1..].iter().filter(|call| call.what != "ROLLBACK").cloned().collect::<Vec<_>>();
    assert_eq!(group.last().map(|call| call.what.as_str()), Some("COMMIT"));
    assert_eq!(stage.made().await, (6, 6));

    for (number, call) in group.iter().enumerate() {
        for fault in [Fault::Disconnect, Fault::LoseAnswer] {
            let mut stage = Stage::set("group_ends").await;
            stage.proxy.trace.begin();
            stage.proxy.trace.meet_call(call, fault.clone());
            let changes = stage.changes();
            let answers = stage.commit_in_one_group(&changes).await;
            assert!(!stage.proxy.trace.is_waiting(), "the fault was met at {call}");
            assert_unavailable(&answers);
            let is_lost_commit = number + 1 == group.len() && matches!(fault, Fault::LoseAnswer);
            let all = if is_lost_commit { (6, 6) } else { (0, 0) };
            assert_eq!(stage.made().await, all, "{fault:?} at {call}");
        }
    }
}

#[tokio::test]
async fn a_group_ends_with_the_last_of_its_callers() {
    let mut stage = Stage::set("group_given_up").await;
    let ahead = stage.ahead().await;
    let changes = stage.changes();
    let is_group = |call: &Call| call.what.contains("ON CONFLICT DO NOTHING RETURNING id");
    stage.proxy.trace.meet_all(is_group, Fault::Hold);
    {
        let calls = join_all(changes.iter().map(|change| stage.program.commit(change)));
        tokio::pin!(calls);
        assert!(poll!(&mut calls).is_pending());
        assert_conflict(ahead.await);
        let seen = stage.proxy.trace.seen(SOON, is_group);
        tokio::select! {
            seen = seen => assert!(seen.is_some()),
            _ = &mut calls => panic!("the group waits"),
        }
    }
    stage.proxy.trace.heal();
    eventually("the transaction to end", SOON, async || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND pid <> pg_backend_pid() AND xact_start IS NOT NULL";
        let open: i64 =
            sqlx::query_scalar(open).fetch_one(&mut stage.by_hand).await.map_err(|error| error.to_string())?;
        if open == 0 { Ok(()) } else { Err(format!("{open} are open")) }
    })
    .await;
    assert_eq!(stage.made().await, (0, 0));
}

#[tokio::test]
async fn a_locked_account_does_not_hold_up_the_others() {
    let mut stage = Stage::set("group_locked").await;
    stage.by_hand.execute("BEGIN; SELECT * FROM accounts WHERE name = 'changed' FOR UPDATE").await.unwrap();
    let changes = stage.changes();
    let [made @ .., locked, deleted] = changes.as_slice() else { panic!() };
    let program = Arc::clone(&stage.program);
    let (others, mut waits) =
        (made.iter().chain([deleted]).cloned().collect::<Vec<_>>(), program.commit(locked).boxed());
    let ahead = stage.ahead().await;
    assert!(poll!(&mut waits).is_pending());
    let committed = commit_each(&*stage.program, &others);
    tokio::select! {
        (ahead, committed) = futures::future::join(ahead, committed) => {
            assert_conflict(ahead);
            for answer in committed {
                answer.unwrap();
            }
        }
        answer = &mut waits => panic!("the row is locked, but {answer:?}"),
    }
    stage.by_hand.execute("COMMIT").await.unwrap();
    waits.await.unwrap();
    assert_eq!(stage.made().await, (6, 6));
}

#[tokio::test]
async fn a_change_that_waits_for_a_lock_does_not_hold_up_later_changes() {
    let mut stage = Stage::set("group_ahead_locked").await;
    stage.by_hand.execute("BEGIN; SELECT * FROM accounts WHERE name = 'changed' FOR UPDATE").await.unwrap();
    let program = Arc::clone(&stage.program);
    let locked = update(&stage.accounts[0], &settings("changed"));
    let waits = tokio::spawn(async move { program.commit(&locked).await });
    let is_locked = |call: &Call| call.what.starts_with("UPDATE accounts SET version");
    assert!(stage.proxy.trace.seen(SOON, is_locked).await.is_some());
    for answer in commit_each(&*stage.program, &creations(0..4)).await {
        answer.unwrap();
    }
    assert!(!waits.is_finished());
    stage.by_hand.execute("COMMIT").await.unwrap();
    waits.await.unwrap().unwrap();
    eventually("all to be there", SOON, async || match stage.made().await {
        (5, 5) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
