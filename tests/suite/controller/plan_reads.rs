//! What `opsadmin plan --on-cluster` reads, counted from the API server's audit log, and what it reports without the
//! right to read.

use std::fs;

use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::deletions::held;
use super::planned::{Planner, manifests};
use super::scene::Scene;
use crate::support::audit::AuditEvent;
use crate::support::opsadmin::Opsadmin;
use crate::support::process::Folder;

/// Returns manifests of this many accounts without special settings.
fn plain(accounts: usize) -> String {
    let names: Vec<String> = (0..accounts).map(|number| format!("a{number}")).collect();
    manifests(&names.iter().map(|name| (name.as_str(), json!({}), json!({ "enabled": true }))).collect::<Vec<_>>())
}

async fn apply_plain(scene: &Scene, accounts: usize) {
    scene.cluster.kubectl_with(scene.namespace.name(), &["apply", "-f", "-"], &plain(accounts)).await.succeeded();
    for number in 0..accounts {
        scene.ready(&format!("a{number}")).await;
    }
}

fn in_short(calls: &[AuditEvent]) -> Vec<String> {
    let label = |uri: &str| if uri.contains("labelSelector") { " by label" } else { "" };
    calls.iter().map(|call| format!("{} {}{}", call.verb, call.resource, label(&call.uri))).collect()
}

#[tokio::test]
async fn a_plan_reads_any_number_of_accounts_with_a_few_lists() {
    const ACCOUNTS: usize = 60;
    let mut scene = Scene::set("plan reads").await;
    let planner = Planner::of(&scene, true).await;
    scene.start(&[]);
    // The controller has not created the tables yet, and a plan does not create them either.
    scene.create("first", json!({})).await;
    scene.ready("first").await;
    let mut seen = planner.calls(&scene).len();
    let mut asked = async || {
        let calls = planner.calls(&scene).split_off(seen);
        seen += calls.len();
        in_short(&calls)
    };

    let out = planner.plan(&scene, &plain(ACCOUNTS), &[]).await.succeeded();
    assert!(out.ends_with("60 accounts: 60 to create\n"), "{out}");
    let is_audited = scene.cluster.audit("").is_some();
    let lists = ["list apiaccounts", "list secrets by label", "list secrets"];
    assert_eq!(asked().await, lists[..if is_audited { 3 } else { 0 }]);

    apply_plain(&scene, ACCOUNTS).await;
    let keyring = scene.keyring.display().to_string();
    for extra in [&[][..], &["--keyring", &keyring]] {
        let out = planner.plan(&scene, &plain(ACCOUNTS), extra).await.succeeded();
        assert_eq!(out, "60 accounts: nothing to change\n");
        assert_eq!(asked().await, lists[..if is_audited { 2 } else { 0 }], "{extra:?}");
    }
    let out = planner.plan(&scene, &plain(ACCOUNTS + 1), &[]).await.succeeded();
    assert!(out.ends_with("61 accounts: 1 to create, 60 unchanged\n"), "{out}");
    let one_more = ["list apiaccounts", "list secrets by label", "get secrets"];
    assert_eq!(asked().await, one_more[..if is_audited { 3 } else { 0 }]);
    scene.stop().await;
    planner.leave(&scene).await;
}

#[tokio::test]
async fn with_the_keyring_a_plan_sees_wrong_keys_in_a_secret() {
    let mut scene = Scene::with_controller("plan contents", &[]).await;
    let planner = Planner::of(&scene, true).await;
    scene.cluster.kubectl_with(scene.namespace.name(), &["apply", "-f", "-"], &plain(2)).await.succeeded();
    for name in ["a0", "a1"] {
        scene.ready(name).await;
    }
    scene.stop().await;
    let edit = Patch::Merge(json!({ "stringData": { "OPSADMIN_SECRET_KEY": "hush", "more": "hush" } }));
    scene.secrets().patch("a0-opsadmin", &PatchParams::default(), &edit).await.expect("it is patched");
    let unread = planner.plan(&scene, &plain(2), &["--detailed-exitcode"]).await;
    assert_eq!((unread.status.code(), unread.stdout.as_str()), (Some(0), "2 accounts: nothing to change\n"));
    let keyring = scene.keyring.display().to_string();
    let read = planner.plan(&scene, &plain(2), &["--detailed-exitcode", "--keyring", &keyring]).await;
    assert_eq!(read.status.code(), Some(2), "{read:?}");
    let right = "    correct the Secret a0-opsadmin\n      data.OPSADMIN_SECRET_KEY\n      data.more\n2 accounts: 1 to change, 1 unchanged\n";
    assert!(read.stdout.ends_with(right) && !format!("{read:?}").contains("hush"), "{read:?}");
    planner.leave(&scene).await;
}

#[tokio::test]
async fn what_it_may_not_list_is_said_with_the_way_out() {
    let mut scene = Scene::with_controller("plan rights", &[]).await;
    scene.create("first", json!({})).await;
    scene.ready("first").await;
    scene.stop().await;
    let planner = Planner::of(&scene, false).await;
    if planner.kubeconfig == scene.cluster.kubeconfig() {
        return;
    }
    let refused = planner.plan(&scene, &plain(1), &[]).await;
    let place = format!("cannot list the Secrets of the namespace {}: ", scene.namespace.name());
    for said in [place.as_str(), "secrets is forbidden", "opsadmin render --plan-rights", "--without-secrets"] {
        assert!(refused.stderr.contains(said), "{said}: {refused:?}");
    }
    assert_eq!((refused.status.code(), refused.stdout.as_str()), (Some(1), ""));
    planner.plan(&scene, &plain(1), &["--without-secrets"]).await.succeeded();
    let elsewhere = plain(2).replacen(r#""name":"a1""#, r#""name":"a1","namespace":"default""#, 1);
    let refused = planner.plan(&scene, &elsewhere, &["--without-secrets"]).await;
    assert!(refused.stderr.contains("cannot list the ApiAccounts of the namespace default: "), "{refused:?}");
    assert!(!refused.stderr.contains("Secrets"), "that is another right: {refused:?}");
    let release = Opsadmin::new().args(["release", "-n", "default", "--kubeconfig"]).args([&planner.kubeconfig]);
    let refused = release.run().await;
    let words = refused.stderr.strip_prefix("opsadmin: cannot list the ApiAccounts: ").expect("it says what failed");
    assert_eq!(words.matches("is forbidden").count(), 1, "once, and as the API server said it: {words}");
    assert!(words.ends_with("; this needs the right to list them\n") && !words.contains("Status {"), "{words}");
    planner.leave(&scene).await;
}

#[tokio::test]
async fn a_manifest_without_a_namespace_is_planned_for_that_of_the_context() {
    let scene = Scene::with_controller("plan context", &[]).await;
    scene.create("a0", json!({ "enabled": true })).await;
    scene.ready("a0").await;
    let text = fs::read_to_string(scene.cluster.kubeconfig()).expect("it can be read");
    let mut kubeconfig: Value = serde_saphyr::from_str(&text).expect("it is YAML");
    for context in kubeconfig["contexts"].as_array_mut().expect("it has contexts") {
        context["context"]["namespace"] = scene.namespace.name().into();
    }
    let folder = Folder::new("context");
    let file = folder.path().join("kubeconfig");
    fs::write(&file, kubeconfig.to_string()).expect("it can be written");
    let call = Opsadmin::new().args(["plan", "--on-cluster", "-f", "-", "--kubeconfig"]);
    let call = call.args([&file]).args(["--database", scene.database.url()]).stdin(plain(1));
    assert_eq!(call.run().await.succeeded(), "1 account: nothing to change\n");
}

#[tokio::test]
async fn while_a_deletion_is_held_a_plan_holds_every_further_one() {
    let mut scene = Scene::with_controller("plan gripped", &[]).await;
    let planner = Planner::of(&scene, true).await;
    apply_plain(&scene, 8).await;
    for number in 0..5 {
        scene.delete(&format!("a{number}")).await;
    }
    let deleted = scene.accounts().delete("a5", &DeleteParams::default()).await;
    deleted.expect("the API server takes the deletion");
    scene.condition("a5", "False", "DeletionHeld").await;
    scene.stop().await;
    let kept = manifests(&[("a6", json!({}), json!({}))]);
    let report = planner.plan_as_json(&scene, &kept, &["--prune"]).await;
    let accounts = report["accounts"].as_array().expect("a list");
    let pruned = accounts.iter().find(|account| account["name"] == "a7").expect("it is pruned");
    assert_eq!(pruned["condition"]["reason"], "DeletionHeld", "{report}");
    scene.start(&[]);
    let deleted = scene.accounts().delete("a7", &DeleteParams::default()).await;
    deleted.expect("the API server takes the deletion");
    let refused = scene.condition("a7", "False", "DeletionHeld").await;
    let message = &refused.status.expect("it has a status").conditions[0].message;
    assert_eq!(pruned["condition"]["message"], **message);
    for name in ["a5", "a7"] {
        scene.strip_finalizers(name).await;
    }
    planner.leave(&scene).await;
}

#[tokio::test]
async fn a_resource_that_is_being_deleted_is_planned_as_deleted_despite_its_manifest() {
    let mut scene = Scene::with_controller("plan deletions", &[]).await;
    let planner = Planner::of(&scene, true).await;
    apply_plain(&scene, 8).await;
    let pruned = planner.plan_as_json(&scene, &plain(2), &["--prune"]).await;
    assert_eq!((&pruned["summary"]["refuse"], &pruned["summary"]["unchanged"]), (&json!(6), &json!(2)));
    let held_back = &pruned["accounts"][7]["condition"];
    assert_eq!(held_back["reason"], "DeletionHeld");
    let deleted = scene.accounts().delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    deleted.expect("the API server takes the deletion");
    let held = held(&scene, 3).await;
    scene.stop().await;
    let confirm = json!({ "ops-admin.com/confirm-deletion": "true" });
    scene.annotate(&held[0], confirm).await;
    let report = planner.plan_as_json(&scene, &plain(8), &[]).await;
    let accounts = report["accounts"].as_array().expect("a list");
    let result = |name: &str| accounts.iter().find(|account| account["name"] == name).expect("it is declared");
    let messages = async |name: &str| {
        let account = scene.accounts().get(name).await.expect("it is there");
        account.status.expect("it has a status").conditions[0].message.clone()
    };
    assert_eq!(result(&held[0])["result"], "delete");
    for name in &held[1..] {
        let account = result(name);
        assert_eq!((&account["result"], &account["condition"]["reason"]), (&json!("refuse"), &json!("DeletionHeld")));
        assert_eq!(account["condition"]["message"], messages(name).await);
        assert_eq!(held_back["message"], messages(name).await);
    }
    assert_eq!(report["summary"]["restore"], 5, "those that are gone come back");
    let other = manifests(&[("other", json!({}), json!({}))]);
    let pruned = planner.plan_as_json(&scene, &other, &["--prune"]).await;
    let (declared, rest) = pruned["accounts"].as_array().expect("a list").split_first().expect("other is declared");
    assert_eq!(declared["result"], "create");
    for account in rest {
        assert_eq!(account["actions"], result(account["name"].as_str().expect("a name"))["actions"], "as if declared");
        assert_eq!(account["result"] == "delete", account["name"] == held[0]);
    }
    assert_eq!(rest.len(), 3);
    for name in held {
        scene.strip_finalizers(&name).await;
    }
    planner.leave(&scene).await;
}

#[tokio::test]
async fn a_deletion_that_is_confirmed_or_ends_no_access_is_not_held() {
    let mut scene = Scene::with_controller("plan brake", &[]).await;
    let planner = Planner::of(&scene, true).await;
    apply_plain(&scene, 7).await;
    for name in ["retained", "retained-too"] {
        scene.create(name, json!({ "deletionPolicy": "Retain" })).await;
        scene.ready(name).await;
    }
    scene.create("confirmed", json!({})).await;
    scene.ready("confirmed").await;
    scene.annotate("confirmed", json!({ "ops-admin.com/confirm-deletion": "true" })).await;
    scene.stop().await;
    let results = async |manifests: &str| {
        let report = planner.plan_as_json(&scene, manifests, &["--prune"]).await;
        let accounts = report["accounts"].as_array().expect("a list").iter();
        let in_short = |account: &Value| format!("{} {}", account["name"], account["result"]).replace('"', "");
        accounts.map(in_short).collect::<Vec<_>>()
    };
    let unasked = ["confirmed delete", "retained change", "retained-too change"].map(str::to_owned);
    let all = |result: &str| (2..7).map(|number| format!("a{number} {result}")).collect::<Vec<_>>();
    let pruned = results(&plain(2)).await;
    assert_eq!(pruned[..2], ["a0 unchanged", "a1 unchanged"]);
    assert_eq!((&pruned[2..7], &pruned[7..]), (&*all("delete"), &unasked[..]));

    // A deletion that has begun is the sixth.
    for name in ["a1", "retained", "confirmed"] {
        scene.accounts().delete(name, &DeleteParams::default()).await.expect("the API server takes it");
    }
    let pruned = results(&plain(2)).await;
    assert_eq!(pruned[..2], ["a0 unchanged", "a1 refuse"]);
    assert_eq!((&pruned[2..7], &pruned[7..]), (&*all("refuse"), &unasked[..]));

    scene.start(&[]);
    let deleted = scene.accounts().delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    deleted.expect("the API server takes the deletion");
    for name in held(&scene, 2).await {
        assert!(plain(7).contains(&format!("{name:?}")), "{name}");
        scene.strip_finalizers(&name).await;
    }
    planner.leave(&scene).await;
}
