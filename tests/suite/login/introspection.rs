//! `/introspect`.

use opsadmin_operator::account::Role;
use serde_json::Value;

use super::scene::{INTROSPECTION_TOKEN, Scene};
use crate::database_contract::fixture::{deletion, ips};
use crate::support::wait::eventually;

pub async fn only_a_caller_with_the_token_learns_about_tokens(scene: Scene) {
    let client = scene
        .account("acme", |account| {
            account.roles = [Role::Customer].into();
            account.allowed_ips = ips(&["127.0.0.1"]);
        })
        .await;
    let server = scene.serve(&[]).await;
    let token = server.log_in(&client).await.access;
    let right = format!("Authorization: Bearer {INTROSPECTION_TOKEN}\r\n");
    let client_token = format!("Authorization: Bearer {token}\r\n");
    for wrong in ["", "Authorization: Bearer wrong\r\n", &client_token, &format!("{right}{right}")] {
        let answer = server.introspect(wrong, &[("token", &token)]).await;
        assert_eq!((answer.status, answer.body.as_str()), (401, ""));
    }
    let ask = async |form: &[(&str, &str)]| {
        let answer = server.introspect(&right, form).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str::<Value>(&answer.body).unwrap()
    };
    let described = ask(&[("token", &token)]).await;
    assert_eq!(described["active"], true);
    assert_eq!(described["client_id"], client.api_key);
    assert_eq!(described["sub"], client.account.id.to_string());
    assert_eq!((&described["roles"], &described["plans"]), (&"Customer".into(), &"all".into()));
    assert_eq!(described["exp"].as_i64().unwrap() - described["iat"].as_i64().unwrap(), 300);
    assert_eq!(ask(&[("token", &token), ("address", "127.0.0.1")]).await["active"], true);
    let inactive = serde_json::json!({ "active": false });
    assert_eq!(ask(&[("token", &token), ("address", "192.0.2.1")]).await, inactive);
    assert_eq!(ask(&[("token", "opsa_at_wrong")]).await, inactive);
    assert_eq!(server.introspect(&right, &[]).await.status, 400);
    scene.database.accounts.commit(&deletion(&client.account)).await.unwrap();
    eventually("the token to be inactive", super::scene::SOON, async || {
        let described = ask(&[("token", &token)]).await;
        if described == inactive { Ok(()) } else { Err(described) }
    })
    .await;
}
