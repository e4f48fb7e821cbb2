//! The policy that puts the finalizer on at creation: a write less, and nothing else changes.

use serde_json::json;

use super::office::{account, rendered};
use crate::controller::scene::{SOON, Scene};
use crate::controller::writes::{EVENT, calls, writes};
use crate::support::wait::eventually;

const FINALIZER: &str = "ops-admin.com/account";

#[tokio::test]
async fn a_new_account_takes_three_writes_and_both_kinds_of_apply_keep_the_finalizer() {
    let mut scene = Scene::set("finalizer policy").await;
    let here = scene.namespace.name().to_owned();
    let kinds = ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"];
    let policy = rendered(&here, &["--finalizer-policy"], &kinds).await;
    let cluster = scene.cluster;
    let applied = cluster.kubectl_with("", &["apply", "-f", "-"], &policy).await;
    let served = cluster.kubectl("", &["get", "--raw", "/apis/admissionregistration.k8s.io/v1"]).await.succeeded();
    if !served.contains("MutatingAdmissionPolicy") {
        assert!(applied.stderr.contains("no matches for kind \"MutatingAdmissionPolicy\""), "{applied:?}");
        return;
    }
    applied.succeeded();
    let finalizers = ["-o", "jsonpath={.metadata.finalizers[*]}"];
    let create = ["create", "--dry-run=server", finalizers[0], finalizers[1], "-f", "-"];
    eventually("the policy to be in force", SOON, async || {
        let seen = cluster.kubectl_with(&here, &create, &account("probe", &json!({}))).await;
        if seen.stdout == FINALIZER { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    let observed = account("probe", &json!({ "managementPolicy": "Observe" }));
    assert_eq!(cluster.kubectl_with(&here, &create, &observed).await.succeeded(), "");

    scene.start(&[]);
    let spec = json!({ "description": "new", "affiliate": "*" });
    for (name, option) in [("client", "--server-side=false"), ("server", "--server-side")] {
        let manifest = account(name, &spec);
        cluster.kubectl_with(&here, &["apply", option, "-f", "-"], &manifest).await.succeeded();
        scene.ready(name).await;
        // Exit code 1 would mean that a tool for GitOps sees a difference.
        cluster.kubectl_with(&here, &["diff", option, "-f", "-"], &manifest).await.succeeded();
        let changed = account(name, &json!({ "description": "changed", "affiliate": "*" }));
        cluster.kubectl_with(&here, &["apply", option, "-f", "-"], &changed).await.succeeded();
        let account = scene.ready(name).await;
        assert_eq!(account.metadata.finalizers.as_deref(), Some(&[FINALIZER.to_owned()][..]));
    }
    scene.stop().await;
    if let Some(calls) = calls(&scene) {
        let mut expected = Vec::new();
        for name in ["client", "server"] {
            expected.push(format!("create secrets/ {name}-opsadmin"));
            // One of each for the new account, one for the edit.
            expected.extend([(); 2].map(|()| format!("patch apiaccounts/status {name}")));
            expected.extend([(); 2].map(|()| EVENT.to_owned()));
        }
        let mut seen = writes(&calls);
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected);
    }

    scene.start(&[]);
    for name in ["client", "server"] {
        scene.delete(name).await;
    }
    scene.stop().await;
    cluster.kubectl_with("", &["delete", "-f", "-"], &policy).await.succeeded();
}
