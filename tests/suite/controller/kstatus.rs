//! How tools like Flux judge an account. They follow kstatus, so each state must have the intended meaning there.

use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::scene::{SOON, Scene};
use crate::support::wait::eventually;

/// Returns what kstatus reports for an object of an unknown kind, by its published rules. It checks first for a
/// deletion, then for an unobserved generation, then for its two conditions. If none of these applies, the object is
/// current.
fn kstatus(object: &Value) -> &'static str {
    if object["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating";
    }
    let observed = &object["status"]["observedGeneration"];
    if !observed.is_null() && *observed != object["metadata"]["generation"] {
        return "InProgress";
    }
    for condition in object["status"]["conditions"].as_array().into_iter().flatten() {
        match (condition["type"].as_str(), condition["status"].as_str()) {
            (Some("Reconciling"), Some("True")) => return "InProgress",
            (Some("Stalled"), Some("True")) => return "Failed",
            _ => {}
        }
    }
    "Current"
}

/// Returns the account as a tool reads it that does not know the kind.
async fn seen(scene: &Scene, name: &str) -> Value {
    let shown = scene.cluster.kubectl(scene.namespace.name(), &["get", "apiaccount", name, "-o", "json"]).await;
    serde_json::from_str(&shown.succeeded()).expect("kubectl prints JSON")
}

async fn wait_for_kstatus(scene: &Scene, name: &str, wanted: &str) {
    eventually(&format!("kstatus to say {wanted} of {name}"), SOON, async || {
        let account = seen(scene, name).await;
        if kstatus(&account) == wanted { Ok(()) } else { Err(format!("{account:#}\n{}", scene.log())) }
    })
    .await;
}

#[test]
fn the_rules_are_those_of_kstatus() {
    let account = |observed: Value, conditions: Value| {
        json!({
            "metadata": { "generation": 2 },
            "status": { "observedGeneration": observed, "conditions": conditions },
        })
    };
    let stalled = json!([{ "type": "Ready", "status": "False" }, { "type": "Stalled", "status": "True" }]);
    assert_eq!(kstatus(&json!({ "metadata": { "generation": 2 } })), "Current");
    assert_eq!(kstatus(&account(json!(1), stalled.clone())), "InProgress");
    assert_eq!(kstatus(&account(json!(2), stalled.clone())), "Failed");
    assert_eq!(kstatus(&account(json!(2), json!([{ "type": "Reconciling", "status": "True" }]))), "InProgress");
    assert_eq!(kstatus(&account(json!(2), json!([{ "type": "Stalled", "status": "False" }]))), "Current");
    let mut going = account(json!(2), stalled);
    going["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
    assert_eq!(kstatus(&going), "Terminating");
}

#[tokio::test]
async fn an_account_is_in_progress_until_it_is_ready_and_again_after_an_edit() {
    let mut scene = Scene::set("kstatus progress").await;
    scene.create("acme", json!({})).await;
    // No controller runs, so the account keeps its state while the test reads it.
    assert_eq!(kstatus(&seen(&scene, "acme").await), "InProgress");
    scene.start(&[]);
    wait_for_kstatus(&scene, "acme", "Current").await;
    scene.ready("acme").await;

    scene.stop().await;
    scene.change("acme", json!({ "description": "changed" })).await;
    assert_eq!(kstatus(&seen(&scene, "acme").await), "InProgress");
    scene.start(&[]);
    wait_for_kstatus(&scene, "acme", "Current").await;
}

#[tokio::test]
async fn a_stalled_account_is_failed_and_one_being_deleted_is_terminating() {
    let mut scene = Scene::with_controller("kstatus failed", &[]).await;
    scene.create("holder", json!({ "name": "Acme" })).await;
    scene.ready("holder").await;
    scene.create("other", json!({ "name": "Acme" })).await;
    wait_for_kstatus(&scene, "other", "Failed").await;

    scene.stop().await;
    scene.accounts().delete("other", &DeleteParams::default()).await.expect("the API server takes the deletion");
    assert_eq!(kstatus(&seen(&scene, "other").await), "Terminating");
    scene.start(&[]);
    eventually("the account to be gone", SOON, async || match scene.accounts().get_opt("other").await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}\n{}", scene.log())),
    })
    .await;
}
