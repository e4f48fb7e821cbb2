//! What the controller cannot do, it reports with the cause and the remedy. It is done as soon as it is possible.

use serde_json::json;

use super::scene::Scene;

fn message(account: &opsadmin_operator::api::ApiAccount) -> String {
    account.status.as_ref().expect("it has a status").conditions[0].message.clone()
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused_until_its_holder_is_renamed() {
    let scene = Scene::with_controller("name taken", &[]).await;
    scene.create("holder", json!({ "name": "Acme Energy" })).await;
    scene.ready("holder").await;
    scene.create("other", json!({ "name": "ACME energy" })).await;
    let other = scene.condition("other", "False", "NameTaken").await;
    let holder = format!("the ApiAccount {}/holder has the account name", scene.namespace.name());
    assert!(message(&other).contains(&holder), "{}", message(&other));
    assert!(scene.event("other", "NameTaken").await.contains(&holder));
    assert_eq!(scene.secrets().get_opt("other-opsadmin").await.expect("an answer"), None);

    scene.change("holder", json!({ "name": "Acme Power" })).await;
    scene.ready("holder").await;
    scene.ready("other").await;
}

#[tokio::test]
async fn a_name_is_free_after_its_holder_is_deleted() {
    let scene = Scene::with_controller("name freed", &[]).await;
    scene.create("holder", json!({ "name": "Acme" })).await;
    scene.ready("holder").await;
    let keys = scene.data("holder-opsadmin").await;
    scene.create("other", json!({ "name": "acme" })).await;
    scene.condition("other", "False", "NameTaken").await;
    scene.delete("holder").await;
    scene.ready("other").await;
    assert_ne!(scene.data("other-opsadmin").await, keys, "another account, with keys of its own");
}

#[tokio::test]
async fn a_refused_resource_can_be_deleted_without_effect_on_the_holder() {
    let scene = Scene::with_controller("refused deleted", &[]).await;
    let sql = scene.sql().await;
    scene.create("holder", json!({ "name": "Acme" })).await;
    scene.ready("holder").await;
    scene.create("other", json!({ "name": "Acme" })).await;
    scene.condition("other", "False", "NameTaken").await;
    scene.delete("other").await;
    let enabled: Vec<bool> =
        sqlx::query_scalar("SELECT enabled FROM accounts").fetch_all(&sql).await.expect("an answer");
    assert_eq!(enabled, [true]);
}

#[tokio::test]
async fn an_unknown_affiliate_is_refused_and_grants_nothing() {
    let scene = Scene::with_controller("unknown affiliate", &[]).await;
    let sql = scene.sql().await;
    scene.create("acme", json!({ "affiliate": "Nowhere" })).await;
    let account = scene.condition("acme", "False", "UnknownAffiliate").await;
    assert!(message(&account).contains(r#"no affiliate "Nowhere""#), "{}", message(&account));
    let accounts: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts").fetch_one(&sql).await.expect("a count");
    assert_eq!(accounts, 0);

    let register = "INSERT INTO affiliates (name, created_at) VALUES ($1, 0)";
    sqlx::query(register).bind("Nowhere").execute(&sql).await.expect("it is registered");
    scene.ready("acme").await;

    scene.change("acme", json!({ "affiliate": "Elsewhere", "description": "changed" })).await;
    scene.condition("acme", "False", "UnknownAffiliate").await;
    let (affiliate, description): (Option<String>, String) =
        sqlx::query_as("SELECT affiliate, description FROM accounts").fetch_one(&sql).await.expect("one account");
    assert_eq!((affiliate.as_deref(), description.as_str()), (Some("Nowhere"), ""), "all of the change, or none");
}

#[tokio::test]
async fn an_unknown_affiliate_is_registered_on_request() {
    let scene = Scene::with_controller("register affiliate", &["--unknown-affiliate", "register"]).await;
    scene.create("acme", json!({ "affiliate": "North" })).await;
    scene.ready("acme").await;
    let affiliates: Vec<String> =
        sqlx::query_scalar("SELECT name FROM affiliates").fetch_all(&scene.sql().await).await.expect("an answer");
    assert_eq!(affiliates, ["North"]);
}
