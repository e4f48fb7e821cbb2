//! Limits on logins.

use super::scene::{Scene, encoded, login_form, sign};
use serde_json::json;

pub async fn too_many_tries_and_too_many_failures_wait(scene: Scene) {
    let (client, other) = (scene.account("acme", |_| {}).await, scene.account("other", |_| {}).await);
    let options = ["--failures-per-minute", "2", "--tries-per-minute", "8", "--trusted-proxies", "127.0.0.1"];
    let server = scene.serve(&options).await;
    let from = async |address: &str, assertion: &str| {
        let header = format!("X-Forwarded-For: {address}\r\n");
        server.post_with("/token", &header, &encoded(&login_form(assertion))).await
    };
    let wrong = |jti: u8| {
        let mut claims = client.claims();
        claims["jti"] = json!(jti.to_string());
        sign("another-key-another-key-another-key-", &json!({ "alg": "HS256" }), &claims)
    };
    assert_eq!(from("192.0.2.1", &wrong(1)).await.status, 401);
    assert_eq!(from("192.0.2.1", &wrong(2)).await.status, 401);
    let limited = from("192.0.2.1", &client.assertion()).await;
    assert_eq!(limited.status, 429, "{limited:?}");
    assert!(limited.headers.contains("retry-after: "), "{limited:?}");
    assert_eq!(from("192.0.2.1", &other.assertion()).await.status, 200, "another account from there");
    assert_eq!(from("192.0.2.2", &client.assertion()).await.status, 200, "the account from elsewhere");
    for _ in 0..4 {
        assert_eq!(from("192.0.2.1", &other.assertion()).await.status, 200);
    }
    assert_eq!(from("192.0.2.1", &other.assertion()).await.status, 429, "the ninth try");
    assert_eq!(server.metric("opsadmin_logins_limited_total").await, Some(2.0));
}
