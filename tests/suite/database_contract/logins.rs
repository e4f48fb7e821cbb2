//! Logins: each assertion is accepted once, and what expired is purged.

use super::fixture::*;
use futures::future::join_all;
use jiff::{Timestamp, ToSpan as _};
use opsadmin_operator::account::{Account, ClusterId, KeyId, KeyUse};
use opsadmin_operator::database::{DatabaseError, WithLogins, open_with_logins};
use opsadmin_operator::login::{
    AssertionHash, AssertionUse, End, EndReason, Family, FamilySeed, Generation, Generations, IssuedToken, Login,
    LoginId, RefreshWrite, TokenHash, Tokens, UsedAssertion,
};
use sqlx::{Connection as _, Executor as _};

/// Returns a hash that no other call returns.
pub fn hash() -> TokenHash {
    TokenHash::from_bytes(random())
}

pub fn assertion(key: KeyId) -> UsedAssertion {
    UsedAssertion { key, hash: AssertionHash::from_bytes(random()), until: now() + 2.minutes() }
}

fn token(expires: Timestamp) -> IssuedToken {
    IssuedToken { hash: hash(), expires }
}

/// A new login of the account, with one access token.
pub fn login(account: &Account) -> Login {
    Login {
        id: LoginId::from_random(random()),
        account: account.id,
        key: account.keys[0].id,
        began: now(),
        address: "203.0.113.7".parse().unwrap(),
        tokens: Tokens::Access(token(now() + 5.minutes())),
        end: None,
    }
}

fn generation() -> Generation {
    Generation { refresh: hash(), access: token(now() + 10.seconds()) }
}

/// A new login of the account, with a refresh token.
pub fn family(account: &Account) -> Login {
    let seed = FamilySeed::from_bytes(random());
    let family = Family { seed, current: generation(), previous: None, expires: now() + 8.hours() };
    Login { tokens: Tokens::Family(family), address: "2001:db8::7".parse().unwrap(), ..login(account) }
}

pub fn family_of(login: &Login) -> &Family {
    match &login.tokens {
        Tokens::Family(family) => family,
        Tokens::Access(_) => panic!("{login:?}"),
    }
}

fn access_of(login: &Login) -> TokenHash {
    match &login.tokens {
        Tokens::Access(token) => token.hash,
        Tokens::Family(family) => family.current.access.hash,
    }
}

/// The generations after those of the login.
pub fn next(login: &Login) -> Generations {
    Generations { current: generation(), previous: family_of(login).current.clone() }
}

pub async fn begin(database: &WithLogins, login: &Login) {
    let began = database.logins.begin(login, &assertion(login.key)).await.unwrap();
    assert_eq!(began, AssertionUse::First);
}

/// Refreshes the login with a new assertion.
pub async fn refresh(database: &WithLogins, login: &Login, next: &Generations) -> RefreshWrite {
    let current = family_of(login).current.refresh;
    database.logins.refresh(login.id, &current, next, &assertion(login.key)).await.unwrap()
}

pub async fn account(database: &WithLogins, name: &str) -> Account {
    create(&*database.accounts, owner(name), settings(name)).await
}

pub async fn each_kind_of_login_reads_back(fresh: Fresh) {
    let database = fresh.open_with_logins().await;
    let account = account(&database, "kinds").await;
    let mut refreshed = family(&account);
    let Tokens::Family(tokens) = &mut refreshed.tokens else { panic!("it is a family") };
    tokens.previous = Some(generation());
    let end = Some(End { at: now(), reason: EndReason::Revoked });
    for login in [login(&account), family(&account), refreshed.clone(), Login { end, ..login(&account) }] {
        begin(&database, &login).await;
        assert_eq!(database.logins.find(login.id).await.unwrap().as_ref(), Some(&login));
        assert_eq!(database.logins.find_by_access_token(&access_of(&login)).await.unwrap(), Some(login));
    }
    let previous = family_of(&refreshed).previous.as_ref().unwrap();
    assert_eq!(database.logins.find_by_access_token(&previous.access.hash).await.unwrap(), Some(refreshed.clone()));
    assert_eq!(database.logins.find_by_access_token(&previous.refresh).await.unwrap(), None, "it is no access token");
    assert_eq!(database.logins.find_by_access_token(&hash()).await.unwrap(), None);
    assert_eq!(database.logins.find(LoginId::from_random(random())).await.unwrap(), None);
}

/// Concurrent logins may share a statement or a transaction. Each gets the answer that it would get alone.
pub async fn concurrent_logins_each_get_their_own_answer(fresh: Fresh) {
    let database = fresh.open_with_logins().await;
    let account = account(&database, "together").await;
    let (earlier, replayed) = (login(&account), assertion(account.keys[0].id));
    assert_eq!(database.logins.begin(&earlier, &replayed).await.unwrap(), AssertionUse::First);
    for round in 0..5 {
        let mut refreshed = family(&account);
        let Tokens::Family(tokens) = &mut refreshed.tokens else { panic!("it is a family") };
        tokens.previous = Some(generation());
        let end = Some(End { at: now(), reason: EndReason::Revoked });
        let good: Vec<Login> = (0..10)
            .map(|_| login(&account))
            .chain([family(&account), refreshed, Login { end, ..login(&account) }])
            .collect();
        let twice = assertion(account.keys[0].id);
        let twins: Vec<Login> = (0..3).map(|_| login(&account)).collect();
        // Of every other round, one login cannot be written at all: its token is another one's.
        let impossible = Login { id: LoginId::from_random(random()), ..earlier.clone() };
        let (replay, own) = (login(&account), assertion(account.keys[0].id));
        let begin = async |login: &Login, assertion: UsedAssertion| database.logins.begin(login, &assertion).await;
        let (outcomes, of_twins, of_replay, of_impossible) = tokio::join!(
            join_all(good.iter().map(|login| begin(login, assertion(login.key)))),
            join_all(twins.iter().map(|login| begin(login, twice.clone()))),
            begin(&replay, replayed.clone()),
            async { if round % 2 == 0 { Some(begin(&impossible, own.clone()).await) } else { None } },
        );
        for (login, outcome) in good.iter().zip(outcomes) {
            assert_eq!(outcome.unwrap(), AssertionUse::First);
            assert_eq!(database.logins.find(login.id).await.unwrap().as_ref(), Some(login));
        }
        let of_twins: Vec<_> = of_twins.into_iter().map(Result::unwrap).collect();
        assert_eq!(of_twins.iter().filter(|used| **used == AssertionUse::First).count(), 1, "{of_twins:?}");
        for (login, used) in twins.iter().zip(of_twins) {
            let found = database.logins.find(login.id).await.unwrap();
            assert_eq!(found.is_some(), used == AssertionUse::First);
        }
        assert_eq!(of_replay.unwrap(), AssertionUse::Replay);
        assert_eq!(database.logins.find(replay.id).await.unwrap(), None);
        if let Some(refused) = of_impossible {
            assert!(matches!(refused, Err(DatabaseError::Refused { .. })), "{refused:?}");
            assert_eq!(database.logins.find(impossible.id).await.unwrap(), None);
            assert_eq!(
                database.logins.use_assertion(&own).await.unwrap(),
                AssertionUse::First,
                "nothing is left of it"
            );
        }
    }
}

pub async fn an_assertion_is_accepted_once(fresh: Fresh) {
    let database = fresh.open_with_logins().await;
    let other = open_with_logins(fresh.url()).unwrap();
    let account = account(&database, "once").await;
    let (first, second, used) = (login(&account), login(&account), assertion(account.keys[0].id));
    assert_eq!(database.logins.begin(&first, &used).await.unwrap(), AssertionUse::First);
    assert_eq!(other.logins.begin(&second, &used).await.unwrap(), AssertionUse::Replay);
    assert_eq!(other.logins.use_assertion(&used).await.unwrap(), AssertionUse::Replay);
    assert_eq!(database.logins.find(second.id).await.unwrap(), None);
    assert_eq!(database.logins.find(first.id).await.unwrap(), Some(first));

    let of_another_pair = UsedAssertion { key: KeyId::from_random(random()), ..used.clone() };
    assert_eq!(database.logins.begin(&second, &of_another_pair).await.unwrap(), AssertionUse::First);
    let later = assertion(account.keys[0].id);
    assert_eq!(database.logins.use_assertion(&later).await.unwrap(), AssertionUse::First);
    assert_eq!(other.logins.begin(&login(&account), &later).await.unwrap(), AssertionUse::Replay);
    assert_eq!(fresh.count("logins").await, "2");
}

pub async fn of_concurrent_logins_with_one_assertion_one_succeeds(fresh: Fresh) {
    let database = fresh.open_with_logins().await;
    let handles = [database.clone(), open_with_logins(fresh.url()).unwrap()];
    let account = account(&database, "raced").await;
    let used: Vec<_> = (0..10).map(|_| assertion(account.keys[0].id)).collect();
    let begun = (0..80).map(|number| {
        let (handle, used, login) = (handles[number % 2].clone(), used[number / 8].clone(), login(&account));
        tokio::spawn(async move { handle.logins.begin(&login, &used).await })
    });
    let begun: Vec<_> = join_all(begun.collect::<Vec<_>>()).await.into_iter().map(|done| done.unwrap()).collect();
    for (number, same) in begun.chunks(8).enumerate() {
        let first = same.iter().filter(|begun| matches!(begun, Ok(AssertionUse::First))).count();
        assert!(first == 1 && same.iter().all(Result::is_ok), "{number}: {same:?}");
    }
    assert_eq!((fresh.count("logins").await, fresh.count("login_assertions").await), ("10".into(), "10".into()));
}

pub async fn a_login_that_fails_does_not_affect_its_neighbours(fresh: Fresh) {
    let database = fresh.open_with_logins().await;
    let account = account(&database, "neighbours").await;
    let existing = login(&account);
    begin(&database, &existing).await;
    let repeated = Login { tokens: existing.tokens.clone(), ..login(&account) };
    let of_repeated = assertion(account.keys[0].id);
    let logins: Vec<Login> =
        (0..20).map(|number| if number == 10 { repeated.clone() } else { login(&account) }).collect();
    let begun = join_all(logins.iter().map(|login| {
        let used = if login.id == repeated.id { of_repeated.clone() } else { assertion(login.key) };
        let database = &database;
        async move { database.logins.begin(login, &used).await }
    }))
    .await;
    for (number, begun) in begun.iter().enumerate() {
        match begun {
            Err(DatabaseError::Refused { reason }) if number == 10 => assert!(reason.contains("access"), "{reason}"),
            Ok(AssertionUse::First) => assert_ne!(number, 10),
            other => panic!("{number}: {other:?}"),
        }
    }
    assert_eq!(fresh.count("logins").await, "20");
    assert_eq!(database.logins.use_assertion(&of_repeated).await.unwrap(), AssertionUse::First, "it was not recorded");
}

pub async fn live_logins_are_listed(fresh: Fresh) {
    let database = fresh.open_with_logins().await;
    let [ours, theirs] = [account(&database, "ours").await, account(&database, "theirs").await];
    let later = Login { began: now() + 1.second(), ..login(&ours) };
    let earlier = family(&ours);
    let of_theirs = Login { began: now() + 2.seconds(), ..login(&theirs) };
    let expired = Login { tokens: Tokens::Access(token(now())), ..login(&ours) };
    let ended = login(&ours);
    for login in [&later, &earlier, &of_theirs, &expired, &ended] {
        begin(&database, login).await;
    }
    database.logins.end(ended.id, now(), EndReason::Revoked).await.unwrap();
    assert_eq!(database.logins.list(Some(ours.id), now()).await.unwrap(), [earlier.clone(), later.clone()]);
    assert_eq!(database.logins.list(None, now()).await.unwrap(), [earlier.clone(), later, of_theirs]);
    assert_eq!(database.logins.list(None, now() + 1.hour()).await.unwrap(), [earlier]);
}

pub async fn expired_rows_are_purged_in_batches(fresh: Fresh) {
    let database = fresh.open_with_logins().await;
    let account = account(&database, "purged").await;
    let (lives, expires) = (family(&account), now() + 5.minutes());
    begin(&database, &lives).await;
    for _ in 0..5 {
        begin(&database, &login(&account)).await;
    }
    let still_needed = UsedAssertion { until: expires, ..assertion(account.keys[0].id) };
    database.logins.use_assertion(&still_needed).await.unwrap();
    let early = database.logins.purge_expired(now() + 1.minute(), 100).await.unwrap();
    assert_eq!(early, 0, "all assertions are remembered for two minutes, and all logins live");
    let purge = async || database.logins.purge_expired(expires, 4).await.unwrap();
    assert_eq!([purge().await, purge().await, purge().await], [4 + 4, 1 + 2, 0]);
    assert_eq!(database.logins.list(None, now()).await.unwrap(), [lives]);
    assert_eq!(database.logins.use_assertion(&still_needed).await.unwrap(), AssertionUse::Replay);
}

pub async fn logins_do_not_keep_an_account(fresh: Fresh) {
    let database = fresh.open_with_logins().await;
    let account = account(&database, "gone").await;
    let login = login(&account);
    begin(&database, &login).await;
    let used = KeyUse { key: account.keys[0].id, first: now(), last: now() };
    database.logins.record_uses(&[used]).await.unwrap();
    database.accounts.commit(&deletion(&account)).await.unwrap();
    let later = now() + 1.second();
    let purged = database.accounts.purge(&owner("gone").cluster, &|_| false, later, later).await.unwrap();
    assert_eq!((purged.accounts, purged.refused), (1, Vec::new()));
    assert_eq!(database.logins.find(login.id).await.unwrap(), Some(login), "it expires");
    assert_eq!(database.accounts.uses(Some(account.id)).await.unwrap(), []);
    assert_eq!(database.logins.purge_expired(now(), 100).await.unwrap(), 1, "the uses of a pair that is gone");
    assert_eq!(fresh.count("key_uses").await, "0");
}

pub async fn uses_have_the_earliest_first_and_the_latest_last(fresh: Fresh) {
    let database = fresh.open_with_logins().await;
    let other = open_with_logins(fresh.url()).unwrap();
    let [ours, theirs] = [account(&database, "ours").await, account(&database, "theirs").await];
    let at = |second: i64| now() + second.seconds();
    let used = |of: &Account, first, last| KeyUse { key: of.keys[0].id, first: at(first), last: at(last) };
    let unknown = KeyUse { key: KeyId::from_random(random()), first: now(), last: now() };
    database.logins.record_uses(&[used(&theirs, 5, 5), used(&ours, 10, 20), unknown]).await.unwrap();
    assert_eq!(database.accounts.uses(Some(ours.id)).await.unwrap(), [used(&ours, 10, 20)]);
    other.logins.record_uses(&[used(&ours, 12, 15), used(&ours, 5, 18)]).await.unwrap();
    assert_eq!(database.accounts.uses(Some(ours.id)).await.unwrap(), [used(&ours, 5, 20)]);
    other.logins.record_uses(&[used(&ours, 7, 30)]).await.unwrap();
    assert_eq!(database.accounts.uses(Some(ours.id)).await.unwrap(), [used(&ours, 5, 30)]);
    assert_eq!(database.accounts.uses(Some(theirs.id)).await.unwrap(), [used(&theirs, 5, 5)]);
    assert_eq!(fresh.count("key_uses").await, "2");
    let mut listed = database.accounts.uses(None).await.unwrap();
    listed.sort_by_key(|used| used.last);
    assert_eq!(listed, [used(&theirs, 5, 5), used(&ours, 5, 30)]);
    let mut owned = database.accounts.key_uses(&owner("ours").cluster).await.unwrap();
    owned.sort_by_key(|(_, used)| used.last);
    assert_eq!(owned, [(owner("theirs"), used(&theirs, 5, 5)), (owner("ours"), used(&ours, 5, 30))]);
    assert_eq!(database.accounts.key_uses(&ClusterId::parse("another").unwrap()).await.unwrap(), []);
    let unchanged = database.accounts.find_by_id(ours.id).await.unwrap().unwrap();
    assert_eq!(unchanged.version, ours.version, "a use is no change of the account");

    let record = |from: i64| {
        let (handle, both) = (
            [&database, &other][usize::from(from % 2 == 0)].clone(),
            [used(&ours, from, from), used(&theirs, from, from)],
        );
        tokio::spawn(async move { handle.logins.record_uses(&both).await })
    };
    for recorded in join_all((40..60).map(record)).await {
        recorded.unwrap().unwrap();
    }
    assert_eq!(database.accounts.uses(Some(ours.id)).await.unwrap(), [used(&ours, 5, 59)]);
}

pub async fn an_unreadable_login_is_reported(fresh: Fresh) {
    let database = fresh.open_with_logins().await;
    let account = account(&database, "unreadable").await;
    for (set, column) in [
        ("key_id = 'nobody'", "key_id"),
        ("address = 'nowhere'", "address"),
        ("ended_at = 1, end_reason = 'on a whim'", "end_reason"),
        ("access_expires_at = 9223372036854775807", "access_expires_at"),
    ] {
        let login = login(&account);
        begin(&database, &login).await;
        fresh.by_hand(&format!("UPDATE logins SET {set} WHERE id = '{}'", login.id)).await.unwrap();
        let error = database.logins.find_by_access_token(&access_of(&login)).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&format!("logins.{column} of {}", login.id)), "{said}");
    }
    let without_end = "UPDATE logins SET ended_at = 1";
    assert!(fresh.by_hand(without_end).await.is_err(), "an end is whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purges_on_postgresql_do_not_wait_for_each_other() {
    let fresh = Fresh::postgres("purges").await;
    let database = fresh.open_with_logins().await;
    let account = account(&database, "purged").await;
    for _ in 0..6 {
        begin(&database, &login(&account)).await;
    }
    let mut other = sqlx::postgres::PgConnection::connect(fresh.url()).await.unwrap();
    other.execute("BEGIN").await.unwrap();
    for table in ["logins", "login_assertions"] {
        let rows = sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE ctid = (SELECT min(ctid) FROM {table})"));
        assert_eq!(other.execute(rows).await.unwrap().rows_affected(), 1);
    }
    assert_eq!(database.logins.purge_expired(now() + 1.hour(), 100).await.unwrap(), 5 + 5);
    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(database.logins.purge_expired(now() + 1.hour(), 100).await.unwrap(), 1 + 1);
}
