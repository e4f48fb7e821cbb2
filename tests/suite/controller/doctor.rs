//! `opsadmin doctor --on-cluster`: the checks that need a cluster.

use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::planned::Planner;
use super::scene::Scene;
use crate::support::opsadmin::Opsadmin;
use crate::support::run::Finished;
use crate::support::statements::by_hand;

async fn doctor(scene: &Scene, kubeconfig: &std::path::Path, extra: &[&str]) -> Finished {
    let call = Opsadmin::new().args(["doctor", "--on-cluster", "-n", scene.namespace.name(), "--kubeconfig"]);
    let call = call.args([kubeconfig]).args(["--database", scene.database.url(), "--keyring"]);
    call.args([&scene.keyring]).args(extra).run().await
}

#[tokio::test]
async fn doctor_reports_what_a_partly_restored_cluster_lacks() {
    let mut scene = Scene::with_controller("doctor", &[]).await;
    for name in ["whole", "no-secret", "no-account", "orphan"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    scene.stop().await;
    let well = doctor(&scene, scene.cluster.kubeconfig(), &[]).await.succeeded();
    assert_eq!(well, "4 accounts, 4 ApiAccounts, 4 Secrets: all is well\n");

    scene.secrets().delete("no-secret-opsadmin", &DeleteParams::default()).await.expect("it is deleted");
    scene.no_secret("no-secret-opsadmin").await;
    let lose = "DELETE FROM account_keys WHERE account_id = (SELECT id FROM accounts WHERE name = 'no-account'); \
         DELETE FROM accounts WHERE name = 'no-account'";
    by_hand(&scene.database, lose).await;
    scene.accounts().delete("orphan", &DeleteParams::default()).await.expect("it is deleted");
    scene.strip_finalizers("orphan").await;
    let found = doctor(&scene, scene.cluster.kubeconfig(), &["-o", "json"]).await;
    assert_eq!(found.status.code(), Some(2), "{found:?}");
    let report: Value = serde_json::from_str(&found.stdout).expect("it is JSON");
    let problems = report["findings"].to_string();
    for expected in [
        "its Secret",
        "no-secret-opsadmin does not exist",
        "its ApiAccount no longer exists",
        "lacks the account",
        "has no account of",
    ] {
        assert!(problems.contains(expected), "{expected}: {report:#}");
    }

    // For a user who may only plan, the command reports which rights a controller needs in addition.
    let planner = Planner::of(&scene, false).await;
    let few = doctor(&scene, &planner.kubeconfig, &[]).await;
    assert_eq!(few.status.code(), Some(2), "{few:?}");
    assert!(few.stdout.contains("may not delete secrets"), "{few:?}");
    assert!(few.stderr.contains("could not be checked"), "{few:?}");
    planner.leave(&scene).await;
}
