//! A primary and its standby change roles: connected programs must move to the server that takes writes.

use super::fixture::*;
use crate::support::forwarder::Forwarder;
use crate::support::postgres::Postgres;
use crate::support::wait::eventually;
use futures::StreamExt as _;
use opsadmin_operator::account::{Account, Owner};
use opsadmin_operator::database::{AccountAdmin, Changed, DatabaseError, open, open_existing, open_to_query};
use std::time::Duration;

/// The longest time to wait. It usually takes seconds, and longer on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A primary with one account, and its standby.
async fn primary_and_standby() -> (Postgres, Postgres) {
    let primary = Postgres::new().await;
    let database = open(&primary.url("postgres")).unwrap();
    database.migrate().await.unwrap();
    create(&*database, owner("before"), settings("before")).await;
    database.close().await;
    let standby = primary.standby().await;
    standby.caught_up_with(&primary).await;
    (primary, standby)
}

/// Promotes the standby, and restarts the old primary as its standby.
async fn switched_over(primary: &mut Postgres, standby: &Postgres) {
    primary.stop().await;
    standby.promote().await;
    primary.start_behind(standby).await;
}

async fn written(database: &dyn AccountAdmin, name: &str) -> Account {
    eventually(&format!("{name} to be written"), SOON, async || {
        database.commit(&creation(owner(name), settings(name))).await
    })
    .await
}

fn of(name: &str) -> Owner {
    owner(name)
}

#[tokio::test]
async fn connections_follow_an_address_to_the_new_primary() {
    let (mut primary, standby) = primary_and_standby().await;
    let address = Forwarder::to(primary.port()).await;
    let database = open(&address.url(&primary.url("postgres"))).unwrap();
    written(&*database, "on the first").await;

    // The address still points to the old primary, which is now a standby, so writes fail.
    switched_over(&mut primary, &standby).await;
    for number in 0..10 {
        let name = format!("lost {number}");
        let refused = database.commit(&creation(owner(&name), settings(&name))).await.unwrap_err();
        assert!(matches!(refused, DatabaseError::Unavailable { .. }), "{refused:?}");
        assert!(refused.to_string().contains("takes no writes"), "{refused}");
    }
    address.point_to(standby.port());
    written(&*database, "on the second").await;
    assert!(database.find_by_owner(&of("on the first")).await.unwrap().is_some());
}

#[tokio::test]
async fn all_connections_leave_a_server_that_became_read_only() {
    let (primary, standby) = primary_and_standby().await;
    let address = Forwarder::to(primary.port()).await;
    let database = open(&address.url(&primary.url("postgres"))).unwrap();
    // Opens several connections, which stay open when the address moves.
    let looks = (0..8).map(|_| database.list());
    for answer in futures::future::join_all(looks).await {
        answer.unwrap();
    }
    primary.execute("postgres", "ALTER SYSTEM SET default_transaction_read_only = on").await;
    primary.execute("postgres", "SELECT pg_reload_conf()").await;
    standby.promote().await;
    address.point_to(standby.port());

    for name in ["one", "two", "three", "four", "five", "six", "seven", "eight"] {
        written(&*database, name).await;
    }
    let only_old = open(&primary.url("postgres")).unwrap().list().await.unwrap_err();
    assert!(only_old.to_string().contains("takes no writes"), "stale answers are no answers: {only_old}");
}

#[tokio::test]
async fn of_several_hosts_the_one_that_takes_writes_is_used() {
    let (mut primary, standby) = primary_and_standby().await;
    let url = primary.url("postgres");
    let (login, _) = url.rsplit_once('@').unwrap();
    let (first, second) = (primary.port(), standby.port());
    for url in [
        format!("{login}@127.0.0.1:{second},127.0.0.1:{first}/postgres"),
        format!("{login}@127.0.0.1:{first}/postgres?host=127.0.0.1,127.0.0.1&port={second},{first}"),
        format!("{login}@127.0.0.1:{second},127.0.0.1:{first}/postgres?target_session_attrs=primary"),
    ] {
        let database = open(&url).unwrap();
        written(&*database, &format!("by {}", url.len())).await;
        database.close().await;
    }
    let database = open(&format!("{login}@127.0.0.1:{second},127.0.0.1:{first}/postgres")).unwrap();
    written(&*database, "on the first").await;
    let mut changes = database.changes();
    assert_eq!(changes.next().await, Some(Changed::Anything));

    switched_over(&mut primary, &standby).await;

    let account = written(&*database, "on the second").await;
    let news = Changed::Account { owner: of("on the second"), version: Some(account.version) };
    let heard = async {
        loop {
            match changes.next().await {
                Some(heard) if heard == news => break,
                Some(Changed::Anything) => {
                    // The stream listens again. It does not report changes from before that: the sweep finds them.
                    let again = disable(&*database, &account).await;
                    assert!(again.version > account.version);
                    break;
                }
                other => assert!(other.is_some(), "the news do not end"),
            }
        }
    };
    tokio::time::timeout(SOON, heard).await.expect("the new primary is heard");
}

async fn disable(database: &dyn AccountAdmin, account: &Account) -> Account {
    let mut wanted = settings("on the second");
    wanted.enabled = false;
    database.commit(&update(account, &wanted)).await.unwrap()
}

#[tokio::test]
async fn a_standby_can_be_read_and_refuses_writers() {
    let (_primary, standby) = primary_and_standby().await;
    let url = standby.url("postgres");
    let looking = open_to_query(&url).await.unwrap();
    assert_eq!(readable(looking.list().await).len(), 1);
    for refused in [open_existing(&url).await.unwrap_err(), open(&url).unwrap().list().await.unwrap_err()] {
        assert!(refused.to_string().contains("it takes no writes: it is a standby"), "{refused}");
        assert!(refused.is_retryable());
    }
    let refused = open_to_query(&format!("{url}?target_session_attrs=primary")).await.unwrap_err();
    assert!(refused.to_string().contains("it is a standby"), "{refused}");
    let refused = open(&format!("{url}?target_session_attrs=standby")).unwrap_err();
    assert!(matches!(refused, DatabaseError::Url { .. }), "{refused:?}");
    assert!(refused.to_string().contains("asks for a server that takes no writes"), "{refused}");
}
