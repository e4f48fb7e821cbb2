//! Notifications of what changed about access: each account and each ended login, with heartbeats in between.

use super::fixture::*;
use super::logins::{account, begin, family, login, next, refresh};
use super::versions::edits;
use crate::support::postgres::Postgres;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::{Timestamp, ToSpan as _};
use opsadmin_operator::account::{AccountId, SuspensionReason, Version};
use opsadmin_operator::database::{Action, WithLogins, open_with_logins};
use opsadmin_operator::login::{AccessChange, EndReason, IssuedToken, LoginId, RefreshWrite, Tokens};
use std::time::Duration;

const SOON: Duration = Duration::from_mins(1);

struct Listener(BoxStream<'static, AccessChange>);

impl Listener {
    /// Starts to listen. No change after this call is missed.
    async fn to(database: &WithLogins) -> Self {
        let mut listener = Self(database.logins.changes());
        assert_eq!(listener.next().await, AccessChange::Everything);
        listener
    }

    async fn next(&mut self) -> AccessChange {
        let heard = tokio::time::timeout(SOON, self.0.next()).await.expect("there is news in time");
        heard.expect("it goes on")
    }

    /// Sends a heartbeat, and returns what came before it.
    async fn before_heartbeat(&mut self, database: &WithLogins, number: u64) -> Vec<AccessChange> {
        database.logins.heartbeat(number).await.unwrap();
        let mut before = Vec::new();
        loop {
            match self.next().await {
                AccessChange::Heartbeat(heard) if heard == number => return before,
                heard => before.push(heard),
            }
        }
    }
}

fn is_now(id: AccountId, version: i64) -> AccessChange {
    AccessChange::Account { id, version: Some(Version(version)) }
}

#[tokio::test]
async fn sqlite_tells_nothing() {
    let database = Fresh::sqlite().open_with_logins().await;
    assert_eq!(database.logins.changes().next().await, None);
    database.logins.heartbeat(7).await.unwrap();
}

#[tokio::test]
async fn postgresql_has_no_data_version() {
    let fresh = Fresh::postgres("no data version").await;
    let logins = fresh.open_with_logins().await.logins;
    assert_eq!((logins.data_version().await.unwrap(), logins.data_version_at_once()), (None, None));
}

#[tokio::test]
async fn owned_and_unowned_accounts_are_told_with_their_versions() {
    let fresh = Fresh::postgres("access told").await;
    let database = fresh.open_with_logins().await;
    let mut listener = Listener::to(&database).await;
    let owned = account(&database, "owned").await;
    assert_eq!(listener.next().await, is_now(owned.id, 1));
    let imported = database.accounts.commit(&import(full_settings("imported"))).await.unwrap();
    assert_eq!(listener.next().await, is_now(imported.id, 1));
    let reason = SuspensionReason::parse("a leak").unwrap();
    let suspend = Action::Suspend { expected: imported.version, reason };
    database.accounts.commit(&change(imported.id, suspend)).await.unwrap();
    assert_eq!(listener.next().await, is_now(imported.id, 2));
    let edits = edits(&imported).into_iter().filter(|edit| !edit.contains("owner_cluster"));
    for (number, edit) in (3..).zip(edits) {
        fresh.by_hand(&edit).await.unwrap();
        assert_eq!(listener.next().await, is_now(imported.id, number), "{edit}");
    }
    let gone = format!(
        "BEGIN; DELETE FROM account_keys WHERE account_id = '{0}'; DELETE FROM accounts WHERE id = '{0}'; COMMIT",
        owned.id
    );
    fresh.by_hand(&gone).await.unwrap();
    assert_eq!(listener.next().await, is_now(owned.id, 2));
    assert_eq!(listener.next().await, AccessChange::Account { id: owned.id, version: None });
    fresh.by_hand("TRUNCATE accounts CASCADE").await.unwrap();
    assert_eq!(listener.next().await, AccessChange::Everything);
    fresh.by_hand("NOTIFY opsadmin_access, 'somebody else''s words'").await.unwrap();
    assert_eq!(listener.next().await, AccessChange::Everything);
}

#[tokio::test]
async fn ended_logins_are_told_and_other_writes_of_logins_are_not() {
    let fresh = Fresh::postgres("ends told").await;
    let database = fresh.open_with_logins().await;
    let account = account(&database, "ends").await;
    let logins = [family(&account), login(&account), login(&account)];
    let mut listener = Listener::to(&database).await;
    for login in &logins {
        begin(&database, login).await;
    }
    assert_eq!(refresh(&database, &logins[0], &next(&logins[0])).await, RefreshWrite::Done);
    assert_eq!(listener.before_heartbeat(&database, 1).await, []);

    database.logins.end(logins[1].id, now(), EndReason::Revoked).await.unwrap();
    database.logins.end(logins[1].id, now(), EndReason::Revoked).await.unwrap();
    assert_eq!(listener.before_heartbeat(&database, 2).await, [AccessChange::Login(logins[1].id)]);
    database.logins.end_account(account.id, now(), EndReason::LoggedOut).await.unwrap();
    let mut told = listener.before_heartbeat(&database, 3).await;
    told.sort_by_key(|change| format!("{change:?}"));
    let mut ended = [logins[0].id, logins[2].id].map(AccessChange::Login);
    ended.sort_by_key(|change| format!("{change:?}"));
    assert_eq!(told, ended);

    assert!(database.logins.purge_expired(now() + 24.hours(), 100).await.unwrap() > 3);
    assert_eq!(listener.before_heartbeat(&database, 4).await, [], "what has expired is told to nobody");
    let expires = Timestamp::now() + 1.hour();
    let tokens = Tokens::Access(IssuedToken { hash: super::logins::hash(), expires });
    let live = opsadmin_operator::login::Login { tokens, ..login(&account) };
    begin(&database, &live).await;
    fresh.by_hand("DELETE FROM logins").await.unwrap();
    assert_eq!(listener.before_heartbeat(&database, 5).await, [AccessChange::Login(live.id)]);
    fresh.by_hand("TRUNCATE logins").await.unwrap();
    assert_eq!(listener.before_heartbeat(&database, 6).await, [AccessChange::Everything]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_comes_after_what_was_committed_before_it() {
    let fresh = Fresh::postgres("heartbeats").await;
    let database = fresh.open_with_logins().await;
    let other = open_with_logins(fresh.url()).unwrap();
    let account = account(&database, "beats").await;
    let mut listener = Listener::to(&database).await;
    for number in 0..50_u64 {
        let login = LoginId::from_random(random());
        let row = format!(
            "INSERT INTO logins (id, account_id, key_id, address, began_at, expires_at, access_hash, \
             access_expires_at) VALUES ('{login}', '{}', '', '', 0, 0, sha256('{login}'), 0); \
             UPDATE logins SET ended_at = 1, end_reason = 'revoked' WHERE id = '{login}'",
            account.id
        );
        fresh.by_hand(&row).await.unwrap();
        // Two servers send the same kind of heartbeats, and each hears both.
        other.logins.heartbeat(u64::MAX - number).await.unwrap();
        let told = listener.before_heartbeat(&database, number).await;
        assert_eq!(told, [AccessChange::Login(login), AccessChange::Heartbeat(u64::MAX - number)]);
    }
}

#[tokio::test]
async fn an_interruption_is_told() {
    let mut server = Postgres::new().await;
    let url = server.url("postgres");
    let database = open_with_logins(&url).unwrap();
    database.accounts.migrate().await.unwrap();
    let mut listener = Listener::to(&database).await;
    server.crash().await;
    server.start().await;
    assert_eq!(listener.next().await, AccessChange::Everything);
    let account = account(&database, "after").await;
    assert_eq!(listener.next().await, is_now(account.id, 1));
}
