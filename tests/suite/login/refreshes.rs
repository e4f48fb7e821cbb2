//! Refresh tokens, and the end of logins.

use opsadmin_operator::account::Role;

use super::scene::{Scene, tokens};

pub async fn a_lost_answer_is_given_again(scene: Scene) {
    let client = scene
        .account("acme", |account| {
            account.use_refresh_token = true;
            account.roles = [Role::Customer].into();
        })
        .await;
    let (one, other) = (scene.serve(&[]).await, scene.serve(&[]).await);
    let first = one.log_in(&client).await;
    assert_eq!(first.expires_in, 10);
    let refresh = first.refresh.unwrap();
    let lost = tokens(&one.refresh(&client, &refresh).await);
    let again = tokens(&other.refresh(&client, &refresh).await);
    assert_eq!((&again.access, &again.refresh), (&lost.access, &lost.refresh));
    assert_ne!(Some(&refresh), again.refresh.as_ref());
    assert_eq!(one.authorize(&again.access, "/my-account").await.status, 200);
    let next = tokens(&one.refresh(&client, &again.refresh.unwrap()).await);
    assert_eq!(other.authorize(&next.access, "/my-account").await.status, 200);
}

pub async fn an_old_refresh_token_ends_the_login_and_its_tokens(scene: Scene) {
    let client = scene
        .account("acme", |account| {
            account.use_refresh_token = true;
            account.roles = [Role::Customer].into();
        })
        .await;
    let (one, other) =
        (scene.serve(&["--short-token-lifetime", "5m"]).await, scene.serve(&["--short-token-lifetime", "5m"]).await);
    let first = one.log_in(&client).await.refresh.unwrap();
    let second = tokens(&one.refresh(&client, &first).await).refresh.unwrap();
    let third = tokens(&one.refresh(&client, &second).await);
    assert_eq!(one.authorize(&third.access, "/my-account").await.status, 200);
    assert_eq!(other.authorize(&third.access, "/my-account").await.status, 200);
    // The refresh token alone ends nothing.
    assert_eq!(other.refresh(&scene.account("other", |_| {}).await, &first).await.status, 400);
    assert_eq!(one.authorize(&third.access, "/my-account").await.status, 200);

    let reused = other.refresh(&client, &first).await;
    assert_eq!(reused.status, 400);
    assert!(reused.body.contains("invalid_grant"), "{reused:?}");
    other.logged(&["WARN", "audit=\"end\"", "rule=\"reused\"", &client.account.id.to_string()]).await;
    assert_eq!(other.authorize(&third.access, "/my-account").await.status, 401);
    one.eventually("the other server to hear of the end", &third.access, 401).await;
    assert_eq!(one.refresh(&client, &third.refresh.unwrap()).await.status, 400);
    assert_eq!(other.metric("opsadmin_logins_ended_total{reason=\"reused\"}").await, Some(1.0));
}

pub async fn a_client_revokes_its_token_and_no_other_one(scene: Scene) {
    let client = scene.account("acme", |account| account.roles = [Role::Customer].into()).await;
    let other = scene.account("other", |_| {}).await;
    let server = scene.serve(&[]).await;
    let tokens = server.log_in(&client).await;
    for (sender, token, status) in
        [(&other, tokens.access.as_str(), 200), (&client, "opsa_at_nothing", 200), (&client, &tokens.access, 401)]
    {
        assert_eq!(server.revoke(sender, token).await.status, 200);
        assert_eq!(server.authorize(&tokens.access, "/my-account").await.status, status);
    }
    server.logged(&["audit=\"end\"", "rule=\"revoked\""]).await;
}
