//! The role of an auth server has the rights that docs/database.md grants, and these are enough for all that it does.

use super::fixture::*;
use super::logins::{account, assertion, begin, family, login, next, refresh};
use super::page::statements;
use crate::support::names::unique;
use futures::StreamExt as _;
use jiff::ToSpan as _;
use opsadmin_operator::account::KeyUse;
use opsadmin_operator::database::{DatabaseError, WithLogins, open_with_logins};
use opsadmin_operator::login::{AccessChange, AssertionUse, EndReason, RefreshWrite, Tokens};

/// Opens the database as a new role that has the rights on the page.
async fn as_auth_server(fresh: &Fresh) -> WithLogins {
    let role = unique("auth");
    let grants = statements()["The rights of an auth server"].replace("opsadmin_auth", &format!("\"{role}\""));
    fresh.by_hand(&format!("CREATE ROLE \"{role}\" LOGIN PASSWORD 'open'; {grants}")).await.unwrap();
    let (_, server) = fresh.url().rsplit_once('@').unwrap();
    open_with_logins(&format!("postgres://{role}:open@{server}")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_role_of_an_auth_server_suffices() {
    let fresh = Fresh::postgres("auth role").await;
    let operator = fresh.open_with_logins().await;
    let account = account(&operator, "served").await;
    let server = as_auth_server(&fresh).await;

    assert_eq!(server.accounts.pending_migrations().await.unwrap(), Vec::<String>::new());
    assert!(server.accounts.identity().await.unwrap().is_some());
    let api_key = &account.keys[0].api_key;
    assert_eq!(server.accounts.find_by_api_key(api_key).await.unwrap().as_ref(), Some(&account));
    assert_eq!(server.accounts.find_by_id(account.id).await.unwrap().as_ref(), Some(&account));

    let mut changes = server.logins.changes();
    assert_eq!(changes.next().await, Some(AccessChange::Everything));
    server.logins.heartbeat(1).await.unwrap();
    assert_eq!(changes.next().await, Some(AccessChange::Heartbeat(1)));

    let (refreshed, ended) = (family(&account), login(&account));
    begin(&server, &refreshed).await;
    begin(&server, &ended).await;
    let Tokens::Family(tokens) = &refreshed.tokens else { panic!("it is a family") };
    assert_eq!(refresh(&server, &refreshed, &next(&refreshed)).await, RefreshWrite::Done);
    assert_eq!(server.logins.use_assertion(&assertion(account.keys[0].id)).await.unwrap(), AssertionUse::First);
    assert!(server.logins.find(refreshed.id).await.unwrap().is_some());
    assert!(server.logins.find_by_access_token(&tokens.current.access.hash).await.unwrap().is_some());
    assert!(server.logins.end(ended.id, now(), EndReason::Revoked).await.unwrap());
    assert_eq!(changes.next().await, Some(AccessChange::Login(ended.id)));
    assert_eq!(server.logins.end_account(account.id, now(), EndReason::LoggedOut).await.unwrap(), 1);
    assert_eq!(server.logins.list(None, now()).await.unwrap(), []);
    let uses = [KeyUse { key: account.keys[0].id, first: now(), last: now() }];
    server.logins.record_uses(&uses).await.unwrap();
    assert_eq!(server.accounts.uses(Some(account.id)).await.unwrap(), uses);
    assert_eq!(server.logins.purge_expired(now() + 24.hours(), 100).await.unwrap(), 2 + 4);

    let refusals = [
        server.accounts.commit(&deletion(&account)).await.map(drop),
        server.accounts.journal(account.id).await.map(drop),
        server.accounts.register_affiliate(&affiliate("South"), now()).await.map(drop),
        server.accounts.supersede("a key", now()).await,
    ];
    for refused in refusals {
        assert!(
            matches!(&refused, Err(DatabaseError::Refused { reason }) if reason.contains("permission denied")),
            "{refused:?}"
        );
    }
    assert_eq!(operator.accounts.find_by_id(account.id).await.unwrap(), Some(account));
}
