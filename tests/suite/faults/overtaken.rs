//! Two controllers, one of which no longer sees the present spec. It must not undo what the other does.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::stage::{ACME, CLUSTER, Stage};
use crate::controller::scene::SOON;
use crate::support::opsadmin::{RunningController, spawn_controller};
use crate::support::proxy::{Call, Fault, To};
use crate::support::wait::eventually;

/// Longer than the time for which the controller relies on its cache without asking the API server.
const NO_LONGER_FRESH: Duration = Duration::from_secs(12);

/// Starts a second controller beside the stage's, without a proxy.
fn start_second(stage: &Stage) -> RunningController {
    let (scene, extra) = (&stage.scene, ["--cluster-id", CLUSTER, "--deletion-brake", "100"]);
    let namespace = scene.namespace.name();
    spawn_controller(scene.cluster.kubeconfig(), &[namespace], stage.database_url(), &scene.keyring, &extra)
}

/// Waits until the stage's controller has asked the API server for this account at least this many times.
async fn wait_until_asked(stage: &Stage, name: &str, times: usize) {
    let is_ask = |call: &&Call| call.what == "LIST apiaccounts" && call.name == name && call.answer == "200";
    eventually("it to ask", SOON, async || {
        let asked = stage.proxy.trace.calls().iter().filter(is_ask).count();
        if asked >= times { Ok(()) } else { Err(format!("{}\n{}", stage.calls(), stage.scene.log())) }
    })
    .await;
}

#[tokio::test]
async fn a_stale_watch_does_not_undo_the_present_spec() {
    let mut stage = Stage::set("overtaken").await;
    stage.launch(&["--sweep-interval", "1s"]);
    stage.watching().await;
    let rotation = |trigger: &str| json!({ "trigger": trigger, "overlap": "1h" });
    stage.scene.create(ACME, json!({ "rotation": rotation("1") })).await;
    stage.scene.ready(ACME).await;
    stage.quiet().await;

    stage.proxy.views.freeze("apiaccounts");
    let _second = start_second(&stage);
    stage.scene.change(ACME, json!({ "enabled": false, "rotation": rotation("2") })).await;
    stage.scene.ready(ACME).await;
    let (seen, keys) = stage.look().await;
    wait_until_asked(&stage, ACME, 3).await;
    let (now, keys_now) = stage.look().await;
    assert!(now == seen, "{}\n{}", seen.difference(&now), stage.calls());
    assert!(keys_now == keys, "the keys were rotated back and forth");

    stage.proxy.views.thaw("apiaccounts");
    stage.scene.change(ACME, json!({ "enabled": true })).await;
    stage.scene.ready(ACME).await;
    stage.scene.kill().await;
}

#[tokio::test]
async fn an_account_whose_resource_is_missing_from_a_stale_watch_is_no_orphan() {
    let mut stage = Stage::set("unseen").await;
    stage.launch(&["--sweep-interval", "1s", "--orphan-grace", "1s"]);
    stage.watching().await;
    stage.scene.create("seen", json!({})).await;
    stage.scene.ready("seen").await;

    stage.proxy.views.freeze("apiaccounts");
    let _second = start_second(&stage);
    stage.scene.create(ACME, json!({})).await;
    stage.scene.ready(ACME).await;
    let (seen, _) = stage.look().await;
    wait_until_asked(&stage, ACME, 2).await;
    let (now, _) = stage.look().await;
    assert!(now == seen, "{}\n{}", seen.difference(&now), stage.calls());
}

#[tokio::test]
async fn an_old_list_at_the_first_reconcile_does_not_undo_the_present_spec() {
    let mut stage = Stage::with_controller("late first look").await;
    stage.scene.create(ACME, json!({})).await;
    stage.scene.ready(ACME).await;
    stage.quiet().await;
    stage.scene.kill().await;
    // The controller lists everything, and then its queue reaches this account late. Here, the database causes the
    // delay.
    stage.proxy.trace.meet_all(|call| call.to == To::Database, Fault::Hold);
    stage.launch(&[]);
    let watches = stage.proxy.trace.seen(SOON, |call| call.what == "WATCH apiaccounts" && call.answer == "200").await;
    assert!(watches.is_some(), "{}", stage.calls());
    let listed = Instant::now();
    stage.proxy.views.freeze("apiaccounts");
    let _second = start_second(&stage);
    stage.scene.change(ACME, json!({ "enabled": false })).await;
    stage.scene.ready(ACME).await;
    let (seen, keys) = stage.look().await;
    sleep_until(listed + NO_LONGER_FRESH).await;
    stage.proxy.trace.heal();
    wait_until_asked(&stage, ACME, 1).await;
    let (now, keys_now) = stage.look().await;
    assert!(now == seen, "{}\n{}", seen.difference(&now), stage.calls());
    assert!(keys_now == keys, "the keys are not those from before");

    stage.proxy.views.thaw("apiaccounts");
    stage.scene.change(ACME, json!({ "enabled": true })).await;
    stage.scene.ready(ACME).await;
    stage.scene.kill().await;
}
