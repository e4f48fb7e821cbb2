//! Several auth servers on one database.

use opsadmin_operator::account::Role;

use super::scene::{Scene, tokens};

pub async fn replicas_whose_clocks_differ_take_each_other_s_tokens_and_no_assertion_twice(scene: Scene) {
    let servers = [scene.serve_with_clock("+5s").await, scene.serve_with_clock("-5s").await];
    let partner = scene.account("acme", |account| account.roles = [Role::Customer].into()).await;
    let refreshing = scene
        .account("bright", |account| {
            account.roles = [Role::Customer].into();
            account.use_refresh_token = true;
        })
        .await;
    for (one, other) in [(0, 1), (1, 0)] {
        let (one, other) = (&servers[one], &servers[other]);
        let assertion = partner.assertion();
        let got = tokens(&one.token(&assertion).await);
        for server in &servers {
            assert_eq!(server.authorize(&got.access, "/my-account").await.status, 200);
            assert_eq!(server.token(&assertion).await.status, 401, "an assertion counts once");
        }
        // The replicas take turns in one family.
        let mut refresh = one.log_in(&refreshing).await.refresh.unwrap();
        for server in [other, one, other] {
            let next = tokens(&server.refresh(&refreshing, &refresh).await);
            assert_eq!(server.authorize(&next.access, "/my-account").await.status, 200);
            refresh = next.refresh.unwrap();
        }
    }
}
