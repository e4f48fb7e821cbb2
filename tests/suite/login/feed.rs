//! A database that is gone, and a feed of changes that tells nothing any more.

use opsadmin_operator::account::{Role, SuspensionReason};
use opsadmin_operator::database::Action;

use super::black_hole::BlackHole;
use super::scene::{SOON, Scene};
use crate::database_contract::fixture::change;
use crate::support::wait::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_feed_lets_nobody_in_and_is_opened_again() {
    let scene = Scene::postgres("silent feed").await;
    let hole = BlackHole::before(scene.fresh.url()).await;
    let server = scene.serve_at(&hole.url, &[]).await;
    let client = scene.account("acme", |account| account.roles = [Role::Customer].into()).await;
    let token = server.log_in(&client).await.access;
    let hits = "opsadmin_access_cache_total{result=\"hit\"}";
    let until_hit = async || {
        let before = server.metric(hits).await;
        eventually("an answer from memory", SOON, async || {
            assert_eq!(server.authorize(&token, "/my-account").await.status, 200);
            if server.metric(hits).await > before { Ok(()) } else { Err("it was read from the database") }
        })
        .await;
    };
    until_hit().await;
    hole.silence_listeners();
    let suspend = |expected| Action::Suspend { expected, reason: SuspensionReason::parse("unpaid").unwrap() };
    let suspended =
        scene.database.accounts.commit(&change(client.account.id, suspend(client.account.version))).await.unwrap();
    server.eventually("the suspended account to be out although the feed is silent", &token, 401).await;
    assert_eq!(server.token(&client.assertion()).await.status, 401, "a login does not use what is in memory");
    server.logged(&["the account database tells no changes any more"]).await;
    let resume = Action::Resume { expected: suspended.version };
    scene.database.accounts.commit(&change(client.account.id, resume)).await.unwrap();
    server.eventually("the account to be in again", &token, 200).await;
    until_hit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_let_in_while_the_database_is_gone() {
    let scene = Scene::postgres("gone database").await;
    let hole = BlackHole::before(scene.fresh.url()).await;
    let server = scene.serve_at(&hole.url, &[]).await;
    let client = scene.account("acme", |account| account.roles = [Role::Customer].into()).await;
    let token = server.log_in(&client).await.access;
    assert_eq!(server.authorize(&token, "/my-account").await.status, 200);
    hole.set_gone(true);
    server.eventually("an answer that knows nothing", &token, 503).await;
    let login = server.token(&client.assertion()).await;
    assert_eq!(login.status, 503, "{login:?}");
    assert!(login.headers.contains("retry-after"), "{login:?}");
    assert_eq!(server.authorize("", "/my-account").await.status, 401, "without a token nothing must be known");
    eventually("the server to be unready", SOON, async || {
        let status = server.get_internal("/readyz", "").await.status;
        if status == 503 { Ok(()) } else { Err(status) }
    })
    .await;
    hole.set_gone(false);
    server.eventually("the account to be in again", &token, 200).await;
    server.ready().await;
    assert_eq!(server.token(&client.assertion()).await.status, 200);
    // A server that starts during the outage waits for its end.
    hole.set_gone(true);
    let late = scene.start_at(&hole.url, &[]).await;
    assert_eq!(late.token(&client.assertion()).await.status, 503);
    hole.set_gone(false);
    late.ready().await;
    assert_eq!(late.token(&client.assertion()).await.status, 200);
}
