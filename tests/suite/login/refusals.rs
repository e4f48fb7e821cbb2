//! Logins that are refused: one answer, whatever the reason, and the reason in the audit log alone.

use jiff::Timestamp;
use opsadmin_operator::account::AllowedIps;
use serde_json::{Value, json};

use super::scene::{Client, ISSUER, Scene, encoded, login_form, sign};
use crate::database_contract::fixture::{change, deletion, ips, keyring, random, rotation};
use opsadmin_operator::account::{ApiKey, KeyId, KeyPair, SecretKey, SuspensionReason};
use opsadmin_operator::database::Action;

/// Changes a claim.
fn with(claims: &Value, claim: &str, value: Value) -> Value {
    let mut changed = claims.clone();
    changed[claim] = value;
    changed
}

/// Assertions of an account that may log in, each with the rule that refuses it.
fn wrong_assertions(client: &Client) -> Vec<(&'static str, String)> {
    let claims = client.claims();
    let now = Timestamp::now().as_second();
    let headed = |header: Value| sign(&client.secret_key, &header, &claims);
    let claimed = |claim: &str, value: Value| client.sign(&with(&claims, claim, value));
    let good = client.sign(&claims);
    let (signed, _) = good.rsplit_once('.').unwrap();
    vec![
        ("assertion-malformed", "not.an.assertion".to_owned()),
        ("assertion-malformed", format!("{good}=")),
        ("assertion-crit", headed(json!({ "alg": "HS256", "crit": ["b64"] }))),
        ("assertion-alg", headed(json!({ "alg": "none" }))),
        ("assertion-alg", headed(json!({ "alg": "HS512" }))),
        ("assertion-typ", headed(json!({ "alg": "HS256", "typ": "at+jwt" }))),
        ("assertion-names", claimed("sub", json!("somebody"))),
        ("unknown-api-key", client.sign(&with(&with(&claims, "iss", json!("nobody-1")), "sub", json!("nobody-1")))),
        ("signature", sign("another-key-another-key-another-key-", &json!({ "alg": "HS256" }), &claims)),
        ("signature", format!("{signed}.")),
        ("assertion-aud", claimed("aud", json!("https://other.test"))),
        ("assertion-aud", claimed("aud", json!([ISSUER, "https://other.test"]))),
        ("assertion-aud-token-endpoint", claimed("aud", json!(format!("{ISSUER}/token")))),
        ("assertion-times", claimed("exp", Value::Null)),
        ("assertion-expired", client.sign(&with(&with(&claims, "iat", json!(now - 300)), "exp", json!(now - 240)))),
        ("assertion-early", claimed("iat", json!(now + 300))),
        ("assertion-times", claimed("iat", Value::Null)),
        ("assertion-jti", claimed("jti", json!(""))),
    ]
}

pub async fn every_failed_login_has_one_answer(scene: Scene) {
    let client = scene.account("acme", |_| {}).await;
    let accounts = scene.database.accounts.as_ref();
    let server = scene.serve(&["--failures-per-minute", "1000"]).await;
    let mut refused = Vec::new();
    for (rule, assertion) in wrong_assertions(&client) {
        refused.push((rule, server.token(&assertion).await));
    }
    let mut claims = client.claims();
    let far = json!(Timestamp::now().as_second() + 3600);
    claims.as_object_mut().unwrap().remove("iat");
    refused.push(("assertion-long-lived", server.token(&client.sign(&with(&claims, "exp", far))).await));

    let disabled = scene.account("disabled", |account| account.enabled = false).await;
    refused.push(("enabled", server.token(&disabled.assertion()).await));
    let elsewhere = scene.account("elsewhere", |account| account.allowed_ips = ips(&["192.0.2.0/24"])).await;
    refused.push(("address", server.token(&elsewhere.assertion()).await));
    let suspended = scene.account("suspended", |_| {}).await;
    let reason = SuspensionReason::parse("unpaid").unwrap();
    let suspend = Action::Suspend { expected: suspended.account.version, reason };
    accounts.commit(&change(suspended.account.id, suspend)).await.unwrap();
    refused.push(("suspension", server.token(&suspended.assertion()).await));
    let deleted = scene.account("deleted", |_| {}).await;
    accounts.commit(&deletion(&deleted.account)).await.unwrap();
    refused.push(("life", server.token(&deleted.assertion()).await));
    refused.push(("secret-key-too-short", server.token(&short(&scene).await.assertion()).await));
    let altered = scene.account("altered", |_| {}).await;
    let hex = if scene.fresh.file().is_some() { "x'00'" } else { "'\\x00'::bytea" };
    let by_hand = format!("UPDATE account_keys SET secret_key_sealed = {hex} WHERE api_key = '{}'", altered.api_key);
    scene.fresh.by_hand(&by_hand).await.unwrap();
    refused.push(("secret-key-sealed", server.token(&altered.assertion()).await));

    let (_, first) = &refused[0];
    assert_eq!(first.status, 401);
    for (rule, answer) in &refused {
        let undated = |headers: &str| {
            headers.lines().filter(|line| !line.starts_with("date:")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!((answer.status, &answer.body), (first.status, &first.body), "{rule}");
        assert_eq!(undated(&answer.headers), undated(&first.headers), "{rule}");
        server.logged(&[&format!("rule=\"{rule}\"")]).await;
    }
    assert!(first.body.contains("invalid_client") && first.headers.contains("no-store"), "{first:?}");
    assert_eq!(server.metric("opsadmin_login_refusals_total{rule=\"signature\"}").await, Some(2.0));
    assert_eq!(server.token(&client.assertion()).await.status, 200);
}

/// An account with an imported secret key of less than 32 octets.
async fn short(scene: &Scene) -> Client {
    let account = scene.account("imported", |account| account.allowed_ips = AllowedIps::any()).await.account;
    let pair = KeyPair {
        id: KeyId::from_random(random()),
        api_key: ApiKey::stored("legacy-key-1").unwrap(),
        secret_key: SecretKey::stored("only-twenty-octets-1").unwrap(),
    };
    let account = scene.database.accounts.commit(&rotation(&account, &pair)).await.unwrap();
    assert!(keyring().open(account.id, account.keys[0].id, &account.keys[0].sealed).is_ok());
    Client::of(account)
}

pub async fn a_secret_that_travelled_is_refused_and_alarms_and_is_in_no_log(scene: Scene) {
    let client = scene.account("acme", |_| {}).await;
    let unknown = Client { api_key: "nobody-1".to_owned(), ..client.clone() };
    let server = scene.serve(&[]).await;
    let mut answers = Vec::new();
    for sender in [&client, &unknown] {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", sender.api_key.as_str()),
            ("client_secret", client.secret_key.as_str()),
        ];
        answers.push(server.post("/token", &form).await);
        let basic = base64::Engine::encode(
            &base64::prelude::BASE64_STANDARD,
            format!("{}:{}", sender.api_key, client.secret_key),
        );
        let header = format!("Authorization: Basic {basic}\r\n");
        answers.push(server.post_with("/token", &header, "grant_type=client_credentials").await);
        answers.push(server.post_with("/revoke", &header, "token=x").await);
    }
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (401, &answers[0].body));
        assert!(answer.body.contains("must never be sent"), "{answer:?}");
    }
    server.logged(&["WARN", "audit=\"alarm\"", "secret-travelled", &client.api_key]).await;
    assert_eq!(server.metric("opsadmin_secrets_travelled_total").await, Some(6.0));
    let assertion = client.assertion();
    let tokens = super::scene::tokens(&server.token(&assertion).await);
    assert_eq!(server.authorize(&tokens.access, "/plans").await.status, 403);
    let (code, log) = server.process.terminate(super::scene::SOON).await;
    assert_eq!(code, 0);
    let (_, signature) = assertion.rsplit_once('.').unwrap();
    for secret in [client.secret_key.as_str(), &tokens.access, &assertion, signature] {
        assert!(!log.contains(secret), "{log}");
    }
    assert!(log.contains(&client.api_key), "the log is complete: {log}");
}

pub async fn a_form_with_a_mistake_is_told_which(scene: Scene) {
    let client = scene.account("acme", |_| {}).await;
    let server = scene.serve(&[]).await;
    let assertion = client.assertion();
    let form = encoded(&login_form(&assertion));
    let large = format!("{form}&padding={}", "x".repeat(17 * 1024));
    let huge = format!("{form}&padding={}", "x".repeat(200 * 1024));
    for (body, error) in [
        (format!("{form}&grant_type=client_credentials"), "repeated"),
        (large, "larger than 16 KiB"),
        (huge, "larger than 16 KiB"),
        (form.replace("client_credentials", "password"), "unsupported_grant_type"),
        (String::new(), "Send grant_type"),
    ] {
        let answer = server.post_with("/token", "", &body).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.body.contains(error), "{error}: {answer:?}");
    }
    assert_eq!(server.token(&assertion).await.status, 200, "none of them used the assertion");
}
