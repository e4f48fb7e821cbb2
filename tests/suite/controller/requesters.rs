//! Who requested a change, in the journal: the last field manager of the resource, and the claim of the annotation
//! `ops-admin.com/changed-by`.

use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use opsadmin_operator::api::ApiAccount;
use serde_json::{Value, json};

use super::scene::{SOON, Scene};
use crate::support::opsadmin::Opsadmin;
use crate::support::wait::eventually;

/// Waits until the API server's clock shows a later second than that of the resource's last write. Field managers that
/// write within one second are not told apart.
async fn later_second(scene: &Scene, name: &str) {
    eventually("the next second of the API server", SOON, async || {
        // The answer to a dry run has the API server's time.
        let dry_run = PatchParams { dry_run: true, field_manager: Some("clock".to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": { "labels": { "clock": "read" } } }));
        let answer = scene.accounts().patch(name, &dry_run, &patch).await.map_err(|error| error.to_string())?;
        let times = |is_clock: bool| {
            let entries = answer.managed_fields().iter();
            let entries = entries.filter(move |entry| (entry.manager.as_deref() == Some("clock")) == is_clock);
            entries.filter_map(|entry| entry.time.as_ref()).max()
        };
        if times(true) > times(false) { Ok(()) } else { Err(format!("{:?}", answer.managed_fields())) }
    })
    .await;
}

/// Applies the account with kubectl and these arguments.
async fn apply(scene: &Scene, arguments: &[&str], changed_by: Option<&str>, spec: &Value) -> ApiAccount {
    let mut manifest = json!({
        "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": "acme" }, "spec": spec,
    });
    if let Some(changed_by) = changed_by {
        manifest["metadata"]["annotations"] = json!({ "ops-admin.com/changed-by": changed_by });
    }
    let arguments = [&["apply", "-f", "-"], arguments].concat();
    let input = manifest.to_string();
    scene.cluster.kubectl_with(scene.namespace.name(), &arguments, &input).await.succeeded();
    scene.ready("acme").await
}

async fn kubectl(scene: &Scene, arguments: &[&str]) {
    scene.cluster.kubectl(scene.namespace.name(), arguments).await.succeeded();
}

/// Returns each action of the account's history and who requested it. Checks the time of the write and leaves it out.
async fn requests(scene: &Scene, account: &str) -> Vec<(String, Option<String>)> {
    let call = Opsadmin::new().args(["history", account, "-o", "json"]);
    let said = call.env("OPSADMIN_DATABASE_URL", scene.database.url()).run().await.succeeded();
    let history: Value = serde_json::from_str(&said).expect("it is JSON");
    let journal = Opsadmin::new().args(["journal"]).env("OPSADMIN_DATABASE_URL", scene.database.url());
    let journal = journal.run().await.succeeded();
    let lines = journal.lines().map(|line| serde_json::from_str::<Value>(line).expect("it is JSON"));
    let lines: Vec<Value> = lines.filter(|line| line["account"] == account).collect();
    let entries = history["entries"].as_array().expect("a list");
    assert_eq!(entries.len(), lines.len());
    let request = |(entry, line): (&Value, &Value)| {
        assert_eq!(entry["requestedBy"], line["requestedBy"]);
        let by = entry["requestedBy"].as_str().map(|by| {
            let words = by.split(' ').filter(|word| match word.strip_prefix("wrote=") {
                None => true,
                Some(time) => time.parse::<jiff::Timestamp>().is_err(),
            });
            words.collect::<Vec<_>>().join(" ")
        });
        (entry["action"].as_str().expect("it is text").to_owned(), by)
    };
    entries.iter().zip(&lines).map(request).collect()
}

fn account_id(account: &ApiAccount) -> String {
    account.status.as_ref().and_then(|status| status.account_id.clone()).expect("it is Ready")
}

#[tokio::test]
async fn the_journal_names_who_wrote_the_resource_and_keeps_claims_apart() {
    let mut scene = Scene::with_controller("requesters", &[]).await;
    let hostile = "bob\u{202e}\n\" claim=root";

    let made = apply(&scene, &[], Some("alice@example.com"), &json!({ "description": "one" })).await;
    later_second(&scene, "acme").await;
    kubectl(&scene, &["patch", "apiaccount", "acme", "--type=merge", "-p", r#"{"spec":{"description":"two"}}"#]).await;
    scene.ready("acme").await;
    later_second(&scene, "acme").await;
    let argo = ["--server-side", "--force-conflicts", "--field-manager=argocd-controller"];
    apply(&scene, &argo, Some(hostile), &json!({ "description": "three" })).await;
    later_second(&scene, "acme").await;
    let keys = scene.data("acme-opsadmin").await;
    kubectl(&scene, &["annotate", "apiaccount", "acme", "ops-admin.com/rotate=now"]).await;
    let is_new = |secret: &_| super::scene::texts(secret) != keys;
    scene.secret_where("acme-opsadmin", "to have new keys", is_new).await;
    later_second(&scene, "acme").await;
    apply(&scene, &argo, None, &json!({ "description": "four" })).await;
    later_second(&scene, "acme").await;
    let confirmation = ["ops-admin.com/confirm-deletion=true", "ops-admin.com/changed-by=carol"];
    kubectl(&scene, &[&["annotate", "apiaccount", "acme"], &confirmation[..]].concat()).await;
    scene.delete("acme").await;

    let expected = [
        ("created", "manager=kubectl-client-side-apply claim=alice@example.com"),
        ("updated", "manager=kubectl-patch"),
        ("updated", r#"manager=argocd-controller claim="bob\u{202e}\u{a}\" claim=root""#),
        ("rotated", "manager=kubectl-annotate"),
        ("updated", "manager=argocd-controller"),
        ("deleted", "manager=kubectl-annotate claim=carol"),
    ];
    let expected = expected.map(|(action, by)| (action.to_owned(), Some(by.to_owned())));
    assert_eq!(requests(&scene, &account_id(&made)).await, expected);

    let call = Opsadmin::new().args(["history", &account_id(&made)]);
    let text = call.env("OPSADMIN_DATABASE_URL", scene.database.url()).run().await.succeeded();
    assert!(text.lines().any(|line| line.trim().starts_with("requested by manager=kubectl-patch wrote=")), "{text}");

    let events: Api<k8s_openapi::api::events::v1::Event> =
        Api::namespaced(scene.client.clone(), scene.namespace.name());
    let events = events.list(&ListParams::default()).await.expect("an answer");
    assert!(!format!("{:?}", events.items).contains("alice"), "events are for everybody");
    let log = scene.stop().await;
    let created = log.lines().find(|line| line.contains("created the account and its keys")).expect("a line");
    assert!(created.contains("requested_by=\"manager=kubectl-client-side-apply wrote="), "{created}");
    assert!(created.ends_with(" claim=alice@example.com\""), "{created}");
}

#[tokio::test]
async fn a_deletion_that_nobody_confirmed_names_nobody() {
    let scene = Scene::with_controller("requesters deletion", &[]).await;
    let made = apply(&scene, &["--server-side"], Some("alice"), &json!({})).await;
    scene.delete("acme").await;
    let expected = [("created", Some("manager=kubectl claim=alice")), ("deleted", None)];
    let expected = expected.map(|(action, by)| (action.to_owned(), by.map(str::to_owned)));
    assert_eq!(requests(&scene, &account_id(&made)).await, expected);
}
