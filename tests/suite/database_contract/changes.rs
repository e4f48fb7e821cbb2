//! Change notifications: PostgreSQL reports each change to each listener, and SQLite reports none.

use super::fixture::*;
use super::versions::edits;
use crate::support::postgres::Postgres;
use crate::support::tampering_proxy::TamperingProxy;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use opsadmin_operator::account::{Owner, Version};
use opsadmin_operator::database::{AccountAdmin, Changed, open};
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_mins(1);

struct Listener(BoxStream<'static, Changed>);

impl Listener {
    /// Starts to listen. No change after this call is missed.
    async fn to(database: &Arc<dyn AccountAdmin>) -> Self {
        let mut listener = Self(database.changes());
        assert_eq!(listener.next_change().await, Changed::Anything);
        listener
    }

    async fn next_change(&mut self) -> Changed {
        let heard = tokio::time::timeout(SOON, self.0.next()).await.expect("there is news in time");
        heard.expect("it goes on")
    }

    /// Waits for this notification, and returns those that came before it.
    async fn changes_before(&mut self, last: &Changed) -> Vec<Changed> {
        let mut before = Vec::new();
        loop {
            match self.next_change().await {
                heard if heard == *last => return before,
                heard => before.push(heard),
            }
        }
    }
}

fn is_now(owner: &Owner, version: i64) -> Changed {
    Changed::Account { owner: owner.clone(), version: Some(Version(version)) }
}

fn is_gone(owner: &Owner) -> Changed {
    Changed::Account { owner: owner.clone(), version: None }
}

#[tokio::test]
async fn sqlite_ends_the_stream_of_changes_at_once() {
    let fresh = Fresh::sqlite();
    assert_eq!(fresh.open().await.changes().next().await, None);
}

#[tokio::test]
async fn each_change_by_the_program_is_reported_once_with_its_version() {
    let fresh = Fresh::postgres("told once").await;
    let database = fresh.open().await;
    let mut listener = Listener::to(&database).await;
    let hostile = owner("\"quoted\" \\ \u{1f50c}\n");
    let made = create(&*database, hostile.clone(), full_settings("told")).await;
    let changed = database.commit(&update(&made, &settings("told"))).await.unwrap();
    database.commit(&update(&changed, &full_settings("told"))).await.unwrap();
    let told = listener.changes_before(&is_now(&hostile, 3)).await;
    assert_eq!(told, [is_now(&hostile, 1), is_now(&hostile, 2)]);
}

#[tokio::test]
async fn each_edit_by_hand_is_reported_with_its_new_version() {
    let fresh = Fresh::postgres("edits told").await;
    let database = fresh.open().await;
    let account = create(&*database, owner("edited"), full_settings("edited")).await;
    let mut listener = Listener::to(&database).await;
    for (number, edit) in (2..).zip(edits(&account)) {
        fresh.by_hand(&edit).await.unwrap();
        assert_eq!(listener.next_change().await, is_now(&owner("edited"), number), "{edit}");
    }
}

#[tokio::test]
async fn only_committed_changes_are_reported() {
    let fresh = Fresh::postgres("told when committed").await;
    let database = fresh.open().await;
    for name in ["first", "second"] {
        create(&*database, owner(name), settings(name)).await;
    }
    let mut listener = Listener::to(&database).await;
    let disable = |name: &str| format!("UPDATE accounts SET enabled = NOT enabled WHERE name = '{name}'");
    fresh.by_hand(&format!("BEGIN; {}; ROLLBACK", disable("first"))).await.unwrap();
    let together = [disable("second"), disable("first"), disable("second")];
    fresh.by_hand(&format!("BEGIN; {}; COMMIT", together.join("; "))).await.unwrap();
    let told = listener.changes_before(&is_now(&owner("second"), 3)).await;
    assert_eq!(told, [is_now(&owner("second"), 2), is_now(&owner("first"), 2)]);
}

#[tokio::test]
async fn an_owner_that_lost_its_account_is_reported() {
    let fresh = Fresh::postgres("owners told").await;
    let database = fresh.open().await;
    let deleted = create(&*database, owner("deleted"), settings("deleted")).await;
    let moved = create(&*database, owner("moved"), settings("moved")).await;
    let freed = create(&*database, owner("freed"), settings("freed")).await;
    let mut listener = Listener::to(&database).await;

    let delete = format!(
        "BEGIN; DELETE FROM account_keys WHERE account_id = '{0}'; DELETE FROM accounts WHERE id = '{0}'; COMMIT",
        deleted.id
    );
    fresh.by_hand(&delete).await.unwrap();
    assert_eq!(listener.changes_before(&is_gone(&owner("deleted"))).await, [is_now(&owner("deleted"), 2)]);

    let elsewhere = format!("UPDATE accounts SET owner_cluster = 'two' WHERE id = '{}'", moved.id);
    fresh.by_hand(&elsewhere).await.unwrap();
    assert_eq!(listener.next_change().await, is_gone(&owner("moved")));
    assert_eq!(listener.next_change().await, is_now(&owner_in("two", "moved"), 2));

    let nobody = "owner_cluster = NULL, owner_namespace = NULL, owner_name = NULL";
    fresh.by_hand(&format!("UPDATE accounts SET {nobody} WHERE id = '{}'", freed.id)).await.unwrap();
    assert_eq!(listener.next_change().await, is_gone(&owner("freed")));
    fresh.by_hand(&format!("UPDATE accounts SET enabled = FALSE WHERE id = '{}'", freed.id)).await.unwrap();

    fresh.by_hand("TRUNCATE accounts CASCADE").await.unwrap();
    assert_eq!(listener.next_change().await, Changed::Anything, "an account that nobody owns is told to nobody");
}

#[tokio::test]
async fn a_notification_that_is_too_long_or_unreadable_stands_for_any_change() {
    let fresh = Fresh::postgres("told long").await;
    let database = fresh.open().await;
    create(&*database, owner("long"), settings("long")).await;
    let mut listener = Listener::to(&database).await;
    fresh.by_hand("UPDATE accounts SET owner_namespace = repeat('x', 9000)").await.unwrap();
    assert_eq!(listener.next_change().await, is_gone(&owner("long")));
    assert_eq!(listener.next_change().await, Changed::Anything);
    fresh.by_hand("NOTIFY opsadmin_accounts, 'somebody else''s words'").await.unwrap();
    assert_eq!(listener.next_change().await, Changed::Anything);
}

#[tokio::test]
async fn a_new_connection_reports_that_anything_may_have_changed() {
    let fresh = Fresh::postgres("ear killed").await;
    let database = fresh.open().await;
    let account = create(&*database, owner("heard"), settings("heard")).await;
    let mut listener = Listener::to(&database).await;
    for number in 0..3 {
        let kill = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity \
                    WHERE datname = current_database() AND query LIKE 'LISTEN%'";
        assert_eq!(fresh.column(kill).await, ["1"]);
        assert_eq!(listener.next_change().await, Changed::Anything);
        fresh.by_hand("UPDATE accounts SET enabled = NOT enabled").await.unwrap();
        assert_eq!(listener.next_change().await, is_now(&owner("heard"), account.version.0 + 1 + number));
    }
}

#[tokio::test]
async fn changes_are_reported_again_after_a_server_restart() {
    let mut server = Postgres::new().await;
    let database = open(&server.url("postgres")).unwrap();
    server.stop().await;
    let mut changes = database.changes();
    let early = tokio::time::timeout(Duration::from_millis(300), changes.next()).await;
    assert!(early.is_err(), "there is nobody to hear: {early:?}");
    server.start().await;
    database.migrate().await.unwrap();
    let mut listener = Listener(changes);
    assert_eq!(listener.next_change().await, Changed::Anything);
    server.crash().await;
    server.start().await;
    assert_eq!(listener.next_change().await, Changed::Anything);
    create(&*database, owner("after"), settings("after")).await;
    assert_eq!(listener.next_change().await, is_now(&owner("after"), 1));
}

/// Opens the database through a proxy.
async fn through(proxy: &TamperingProxy, fresh: &Fresh) -> Arc<dyn AccountAdmin> {
    fresh.open().await;
    let (login, server) = fresh.url().rsplit_once('@').unwrap();
    let (_, name) = server.split_once('/').unwrap();
    open(&format!("{login}@127.0.0.1:{}/{name}", proxy.port())).unwrap()
}

fn port_of(fresh: &Fresh) -> u16 {
    url::Url::parse(fresh.url()).unwrap().port().unwrap()
}

#[tokio::test]
async fn a_silently_broken_connection_is_replaced() {
    let fresh = Fresh::postgres("ear frozen").await;
    let proxy = TamperingProxy::to(port_of(&fresh), "", "").await;
    let database = through(&proxy, &fresh).await;
    let mut listener = Listener::to(&database).await;
    // One connection finds the server, and the other listens.
    assert_eq!(proxy.freeze(), 2);
    assert_eq!(listener.next_change().await, Changed::Anything);
    create(&*database, owner("after"), settings("after")).await;
    assert_eq!(listener.next_change().await, is_now(&owner("after"), 1));
}

#[tokio::test]
async fn a_refused_listen_is_reported_once() {
    let fresh = Fresh::postgres("listen refused").await;
    let proxy = TamperingProxy::to(port_of(&fresh), "LISTEN ", "LISTNE ").await;
    let database = through(&proxy, &fresh).await;
    let mut changes = database.changes();
    let said = tokio::time::timeout(SOON, changes.next()).await.unwrap();
    assert!(matches!(&said, Some(Changed::Silence { reason }) if reason.contains("LISTNE")), "{said:?}");
    assert_eq!(changes.next().await, None);
    create(&*database, owner("works"), settings("works")).await;
}
