//! The cost in API requests: 4 writes for a new account, one of them its event, and 0 for an unchanged one, counted from
//! the API server's audit log.

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use super::deletions::held;
use super::metrics::{counted, create, scraped};
use super::scene::{SOON, Scene};
use crate::support::audit::AuditEvent;
use crate::support::wait::eventually;

/// The write of an event. The API server chooses its name.
pub const EVENT: &str = "create events/ ";

/// Returns the controller's requests about this test's namespace. Without an audit log, returns `None`.
pub fn calls(scene: &Scene) -> Option<Vec<AuditEvent>> {
    let calls = scene.cluster.audit(scene.namespace.name())?;
    Some(calls.into_iter().filter(|call| call.user_agent.starts_with("opsadmin/")).collect())
}

pub fn writes(calls: &[AuditEvent]) -> Vec<String> {
    let shown = |call: &AuditEvent| format!("{} {}/{} {}", call.verb, call.resource, call.subresource, call.name);
    calls.iter().filter(|call| call.is_write()).map(shown).collect()
}

fn gets(calls: &[AuditEvent]) -> Vec<String> {
    calls.iter().filter(|call| call.verb == "get").map(|call| call.uri.clone()).collect()
}

async fn versions(scene: &Scene) -> Vec<Option<String>> {
    let accounts = scene.accounts().list(&ListParams::default()).await.expect("a list");
    accounts.items.into_iter().map(|account| account.metadata.resource_version).collect()
}

#[tokio::test]
async fn a_new_account_takes_four_writes_and_no_read_and_an_unchanged_one_none() {
    const ACCOUNTS: usize = 20;
    let mut scene = Scene::with_controller("writes", &[]).await;
    create(&scene, ACCOUNTS).await;
    // Stopping completes the reconciles that the controller's own writes have caused, and sends the last events.
    scene.stop().await;
    let Some(first) = calls(&scene) else {
        return;
    };
    let mut seen = writes(&first);
    seen.sort();
    let mut expected = vec![EVENT.to_owned(); ACCOUNTS];
    for number in 0..ACCOUNTS {
        expected.push(format!("create secrets/ a{number}-opsadmin"));
        expected.push(format!("patch apiaccounts/ a{number}"));
        expected.push(format!("patch apiaccounts/status a{number}"));
    }
    expected.sort();
    assert_eq!(seen, expected);
    assert_eq!(gets(&first), Vec::<String>::new());

    let before = versions(&scene).await;
    scene.start(&[]);
    // The controller reconciles a new account after those in the first list.
    scene.create("last", json!({})).await;
    scene.ready("last").await;
    scene.stop().await;
    let all = calls(&scene).expect("there is an audit log");
    let second = &all[first.len()..];
    assert_eq!(
        writes(second),
        ["patch apiaccounts/ last", "create secrets/ last-opsadmin", "patch apiaccounts/status last", EVENT],
        "the event comes after the status"
    );
    assert_eq!(gets(second), Vec::<String>::new());
    let lists = second.iter().filter(|call| call.verb == "list").map(|call| call.resource.as_str());
    let mut lists: Vec<_> = lists.collect();
    lists.sort_unstable();
    assert_eq!(lists, ["apiaccounts", "secrets"], "a restart reads each list once");
    let mut after = versions(&scene).await;
    after.truncate(before.len());
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_new_account_is_reconciled_once_and_again_when_somebody_removes_its_finalizer() {
    let scene = Scene::with_controller("one look", &[]).await;
    // What exists when the database becomes ready is reconciled again then.
    scene.logged("the account database is ready").await;
    for name in ["first", "second"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    let changed = r#"opsadmin_reconciles_total{result="changed",reason="Reconciled"}"#;
    counted(&scene, changed, 2.0).await;
    let before = reconciles(&scene).await;
    create(&scene, 10).await;
    // When this one is Ready, the watch has shown what the controller wrote to those before.
    scene.create("last", json!({})).await;
    scene.ready("last").await;
    counted(&scene, changed, 13.0).await;
    let new = reconciles(&scene).await - before;
    assert!((new - 11.0).abs() < f64::EPSILON, "{new} reconciles\n{}", scene.log());

    scene.strip_finalizers("a0").await;
    eventually("the finalizer to be back", SOON, async || {
        let account = scene.accounts().get("a0").await.map_err(|error| error.to_string())?;
        if account.metadata.finalizers.is_some() { Ok(()) } else { Err(scene.log()) }
    })
    .await;
}

#[tokio::test]
async fn an_edit_takes_one_write_and_one_event_and_one_read_of_the_secret() {
    let mut scene = Scene::with_controller("edit", &[]).await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    scene.event("acme", "Created").await;
    let created = calls(&scene).map(|calls| calls.len());
    scene.change("acme", json!({ "description": "changed" })).await;
    scene.ready("acme").await;
    scene.stop().await;
    let (Some(created), Some(calls)) = (created, calls(&scene)) else {
        return;
    };
    assert_eq!(writes(&calls[created..]), ["patch apiaccounts/status acme", EVENT]);
    // A changed spec may need a changed Secret.
    assert_eq!(gets(&calls).len(), 1, "{:?}", gets(&calls));
}

#[tokio::test]
async fn a_deletion_takes_one_write_for_the_secret_one_for_the_resource_and_one_event() {
    let mut scene = Scene::with_controller("deletion", &[]).await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    let created = scene.event("acme", "Created").await;
    assert_eq!(created, "created the account and its keys; wrote the keys to the Secret acme-opsadmin");
    let before = calls(&scene).map(|calls| calls.len());
    scene.delete("acme").await;
    scene.stop().await;
    let (Some(before), Some(calls)) = (before, calls(&scene)) else {
        return;
    };
    let deleted = ["delete secrets/ acme-opsadmin", "patch apiaccounts/ acme", EVENT];
    assert_eq!(writes(&calls[before..]), deleted);
    let told = scene.event("acme", "Disabled").await;
    assert!(told.contains("deleted the Secret acme-opsadmin"), "{told}");
}

#[tokio::test]
async fn held_deletions_cause_no_requests_after_a_restart() {
    let mut scene = Scene::with_controller("held writes", &[]).await;
    create(&scene, 40).await;
    let deleted = scene.accounts().delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    deleted.expect("the API server takes the deletion");
    let held = held(&scene, 32).await.len();
    scene.stop().await;
    let (first, before, told) = (calls(&scene), versions(&scene).await, told(&scene).await);
    assert_eq!(told.len(), held, "each is told once");

    scene.start(&[]);
    let looks = u32::try_from(held).expect("they are few");
    counted(&scene, r#"opsadmin_reconciles_total{result="refused",reason="DeletionHeld"}"#, looks.into()).await;
    scene.stop().await;
    if let (Some(first), Some(all)) = (first, calls(&scene)) {
        assert_eq!(writes(&all[first.len()..]), Vec::<String>::new());
    }
    assert_eq!(versions(&scene).await, before);
    assert_eq!(self::told(&scene).await, told);
}

/// Returns the sum of the controller's counts of reconciles.
async fn reconciles(scene: &Scene) -> f64 {
    let metrics = scraped(scene).await;
    let counts = metrics.lines().filter_map(|line| line.strip_prefix("opsadmin_reconciles_total{")?.rsplit_once(' '));
    counts.map(|(_, count)| count.parse::<f64>().expect("it is a number")).sum()
}

/// Returns the `resourceVersion`s of the events about held deletions.
async fn told(scene: &Scene) -> Vec<Option<String>> {
    let events: Api<Event> = Api::namespaced(scene.client.clone(), scene.namespace.name());
    let events = events.list(&ListParams::default()).await.expect("a list").items.into_iter();
    let held = events.filter(|event| event.reason.as_deref() == Some("DeletionHeld"));
    held.map(|event| event.metadata.resource_version).collect()
}
