//! Controllers that reach PostgreSQL through `PgBouncer` in transaction mode, where each transaction may be in another
//! session.

use serde_json::json;

use super::scene::{SOON, Scene};
use crate::support::opsadmin::{Opsadmin, RunningController, spawn_controller};
use crate::support::pgbouncer::PgBouncer;
use crate::support::statements::by_hand;
use crate::support::wait::eventually;

const ACCOUNTS: usize = 12;

async fn logged(controller: &RunningController, text: &str) {
    eventually(&format!("the log to say {text:?}"), SOON, async || {
        let log = controller.log();
        if log.contains(text) { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_controllers_behind_a_pooler_create_correct_and_take_over() {
    let scene = Scene::set("pooled").await;
    let pooler = PgBouncer::before(scene.database.url(), "transaction", &[]).await;
    let (url, here) = (pooler.url(scene.database.url()), scene.namespace.name());
    let arguments = ["--leader-election", "on", "--lease-namespace", here, "--sweep-interval", "1s"];
    let start = || spawn_controller(scene.cluster.kubeconfig(), &[here], &url, &scene.keyring, &arguments);
    let create = async |from: usize| {
        for number in from..from + ACCOUNTS {
            scene.create(&format!("account-{number}"), json!({ "roles": ["Customer"] })).await;
        }
        for number in from..from + ACCOUNTS {
            scene.ready(&format!("account-{number}")).await;
        }
    };

    let leader = start();
    logged(&leader, "this controller is the leader now").await;
    let follower = start();
    logged(&follower, "this one is ready to take over").await;
    create(0).await;
    logged(&leader, "the account database does not report changes; only the sweep finds changes by others").await;

    let edit = "UPDATE accounts SET description = 'by hand', enabled = FALSE WHERE owner_name = 'account-3'";
    by_hand(&scene.database, edit).await;
    scene.event_with("account-3", "DriftCorrected", "enabled").await;
    leader.kill().await;
    logged(&follower, "this controller is the leader now").await;
    scene.change("account-3", json!({ "rotation": { "trigger": "now", "overlap": "0s" } })).await;
    create(ACCOUNTS).await;
    scene.ready("account-3").await;
    let (code, log) = follower.terminate(SOON).await;
    assert_eq!(code, 0, "{log}");

    let doctor = Opsadmin::new().args(["doctor", "--on-cluster", "-n", here, "--kubeconfig"]);
    let doctor = doctor.args([scene.cluster.kubeconfig()]).args(["--database", &url, "--keyring"]);
    let well = doctor.args([&scene.keyring]).run().await.succeeded();
    assert_eq!(well, "24 accounts, 24 ApiAccounts, 24 Secrets: all is well\n");
}
