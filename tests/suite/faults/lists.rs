//! Long lists: what changes while the controller reads a list is reconciled before the list ends, and the old version in
//! the list does not undo it.

use kube::api::DeleteParams;
use serde_json::json;

use super::stage::Stage;
use crate::controller::scene::SOON;
use crate::support::proxy::{Call, Fault};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Creates a stage with ready accounts, whose controller has read the first page of a new list of this resource and waits
/// for the second one. A page has one object.
async fn half_listed(test_name: &str, resource: &'static str) -> Stage {
    let stage = Stage::with_controller(test_name).await;
    for name in NAMES {
        stage.scene.create(name, json!({})).await;
    }
    for name in NAMES {
        stage.scene.ready(name).await;
    }
    stage.quiet().await;
    let is_list = move |call: &Call| call.what == format!("LIST {resource}") && !NAMES.contains(&call.name.as_str());
    let is_second = move |call: &Call| is_list(call) && call.number == 2;
    stage.proxy.trace.begin();
    stage.proxy.trace.meet_all(is_second, Fault::Hold);
    stage.proxy.views.page(resource, 1);
    stage.proxy.views.expire(resource);
    assert!(stage.proxy.trace.seen(SOON, is_second).await.is_some(), "it does not list again\n{}", stage.calls());
    stage
}

/// Lets the list end, and waits until the controller has nothing more to do.
async fn listed(stage: &Stage, resource: &str) {
    stage.proxy.trace.heal();
    let pages = NAMES.len();
    let is_last = |call: &Call| call.what == format!("LIST {resource}") && call.number >= pages && call.answer == "200";
    assert!(stage.proxy.trace.seen(SOON, is_last).await.is_some(), "the list does not end\n{}", stage.calls());
    stage.quiet().await;
}

#[tokio::test]
async fn resources_that_change_during_a_list_are_reconciled_before_it_ends() {
    let stage = half_listed("changed in a list", "apiaccounts").await;
    stage.scene.change("c", json!({ "description": "edited during a list" })).await;
    stage.scene.ready("c").await;
    stage.scene.delete("d").await;
    stage.scene.create("e", json!({})).await;
    stage.scene.ready("e").await;
    let (seen, keys) = stage.look().await;
    assert!(seen.accounts["c"].contains("edited during a list"), "{seen:?}");
    assert!(seen.accounts["d"].starts_with("deleted"), "{seen:?}");
    listed(&stage, "apiaccounts").await;
    let (now, keys_now) = stage.look().await;
    assert!(now == seen, "the rest of the list changed it: {}\n{}", seen.difference(&now), stage.calls());
    assert!(keys_now == keys, "the keys are not those from before");
    // The controller still knows all resources.
    for name in ["a", "c", "e"] {
        stage.scene.change(name, json!({ "enabled": false })).await;
        stage.scene.ready(name).await;
    }
}

#[tokio::test]
async fn a_secret_deleted_during_a_list_is_restored_before_it_ends() {
    let stage = half_listed("Secret in a list", "secrets").await;
    let (seen, keys) = stage.look().await;
    stage.scene.secrets().delete("c-opsadmin", &DeleteParams::default()).await.expect("it is deleted");
    stage.becomes(&seen).await;
    listed(&stage, "secrets").await;
    let (now, keys_now) = stage.look().await;
    assert!(now == seen, "the rest of the list changed it: {}\n{}", seen.difference(&now), stage.calls());
    assert!(keys_now == keys, "the keys are not those from before");
}
