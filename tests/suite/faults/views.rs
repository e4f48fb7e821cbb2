//! Stale views: what the controller sees of the cluster lags, lacks events, or has expired. The controller may do the
//! wrong thing late. It must not touch a foreign object or change a key, and it must catch up.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use opsadmin_operator::api::{FINALIZER, OWNER_ANNOTATION};
use serde_json::json;

use super::stage::{ACME, Stage};
use super::state::{Keys, State};
use crate::controller::scene::{SOON, texts};
use crate::support::proxy::{Call, Fault, To};
use crate::support::wait::eventually;

const SECRET: &str = "acme-opsadmin";

/// Creates a stage with a ready account. Returns the stage, the state and the keys.
async fn ready(test_name: &str) -> (Stage, State, Keys) {
    let stage = Stage::with_controller(test_name).await;
    stage.scene.create(ACME, json!({})).await;
    stage.scene.ready(ACME).await;
    stage.quiet().await;
    let (seen, keys) = stage.look().await;
    (stage, seen, keys)
}

/// Waits until the state and the keys are the same again.
async fn wait_until_same(stage: &Stage, seen: &State, keys: &Keys) {
    stage.becomes(seen).await;
    stage.quiet().await;
    let (now, keys_now) = stage.look().await;
    assert!(now == *seen, "and then it was changed again: {}\n{}", seen.difference(&now), stage.calls());
    assert!(keys_now == *keys, "the keys are not those from before");
}

/// Removes the finalizer, as a user can do, and deletes the resource. So it is gone before the controller acts.
async fn strip_and_delete(stage: &Stage) {
    let none = json!({ "metadata": { "finalizers": null } });
    let accounts = stage.scene.accounts();
    accounts.patch(ACME, &PatchParams::default(), &Patch::Merge(none)).await.expect("the API server takes it");
    accounts.delete(ACME, &DeleteParams::default()).await.expect("the API server takes it");
    stage.resource_gone(ACME).await;
}

fn foreign() -> Secret {
    Secret {
        metadata: ObjectMeta { name: Some(SECRET.to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([("password".to_owned(), ByteString(b"theirs".to_vec()))])),
        ..Secret::default()
    }
}

/// Waits until the controller has begun another watch of this resource, in addition to `before` watches.
async fn watched_again(stage: &Stage, resource: &str, before: usize) {
    let what = format!("WATCH {resource}");
    let again = stage.proxy.trace.seen(SOON, |call| call.what == what && call.answer == "200" && call.number > before);
    assert!(again.await.is_some(), "it does not watch again\n{}", stage.calls());
}

fn watches(stage: &Stage, resource: &str) -> usize {
    let what = format!("WATCH {resource}");
    stage.proxy.trace.calls().iter().filter(|call| call.what == what).count()
}

#[tokio::test]
async fn a_resource_created_again_behind_a_frozen_watch_keeps_its_keys() {
    let (stage, seen, keys) = ready("frozen recreated").await;
    stage.proxy.views.freeze("apiaccounts");
    strip_and_delete(&stage).await;
    stage.scene.create(ACME, json!({})).await;
    // The controller sees that the Secret is gone, but its cache still has the old resource. So it asks the API server.
    stage.scene.secrets().delete(SECRET, &DeleteParams::default()).await.expect("the API server takes it");
    let asked = |call: &Call| call.what == "LIST apiaccounts" && call.name == ACME && call.answer == "200";
    assert!(stage.proxy.trace.seen(SOON, asked).await.is_some(), "{}", stage.calls());
    let wrote = |call: &Call| call.what == "POST secrets" && call.number == 2;
    assert!(!stage.proxy.trace.calls().iter().any(wrote), "it writes for a resource that is gone\n{}", stage.calls());
    stage.proxy.views.thaw("apiaccounts");
    stage.scene.ready(ACME).await;
    wait_until_same(&stage, &seen, &keys).await;
}

#[tokio::test]
async fn a_resource_created_again_without_a_visible_deletion_keeps_its_keys() {
    let (stage, seen, keys) = ready("coalesced").await;
    let old = stage.scene.accounts().get(ACME).await.expect("it is there").metadata.uid;
    stage.proxy.views.hide("apiaccounts", move |_, object| object["metadata"]["uid"].as_str() == old.as_deref());
    strip_and_delete(&stage).await;
    stage.scene.create(ACME, json!({})).await;
    stage.scene.ready(ACME).await;
    wait_until_same(&stage, &seen, &keys).await;
}

#[tokio::test]
async fn after_many_changes_seen_as_one_the_last_one_is_reached() {
    let (stage, _, keys) = ready("burst").await;
    stage.proxy.views.freeze("apiaccounts");
    for enabled in [false, true, false, true, false] {
        stage.scene.change(ACME, json!({ "enabled": enabled, "description": format!("{enabled}") })).await;
    }
    stage.proxy.views.thaw("apiaccounts");
    stage.scene.ready(ACME).await;
    stage.quiet().await;
    let (seen, keys_now) = stage.look().await;
    assert!(seen.accounts[ACME].contains("enabled: false"), "{seen:?}");
    assert!(keys_now == keys, "the keys are not those from before");
}

#[tokio::test]
async fn a_deletion_missed_by_the_watch_is_done_when_a_list_shows_it() {
    let (stage, _, _) = ready("deletion unseen").await;
    stage.proxy.views.hide("apiaccounts", |_, _| true);
    stage.scene.accounts().delete(ACME, &DeleteParams::default()).await.expect("the API server takes it");
    stage.quiet().await;
    let (seen, _) = stage.look().await;
    assert!(seen.resources[ACME].starts_with("leaving"), "it waits for its finalizer: {seen:?}");
    stage.proxy.views.show("apiaccounts");
    stage.proxy.views.expire("apiaccounts");
    stage.gone(ACME).await;
    let (seen, _) = stage.look().await;
    assert!(seen.accounts[ACME].starts_with("deleted"), "{seen:?}");
}

#[tokio::test]
async fn changes_during_an_expired_watch_are_reconciled() {
    let (stage, _, keys) = ready("expired").await;
    stage.proxy.views.hide("apiaccounts", |_, _| true);
    stage.scene.change(ACME, json!({ "enabled": false })).await;
    let before = watches(&stage, "apiaccounts");
    stage.proxy.views.expire_next("apiaccounts", 2);
    stage.proxy.views.expire("apiaccounts");
    stage.scene.ready(ACME).await;
    watched_again(&stage, "apiaccounts", before + 2).await;
    stage.proxy.views.show("apiaccounts");
    stage.scene.change(ACME, json!({ "enabled": true })).await;
    stage.scene.ready(ACME).await;
    assert!(stage.look().await.1 == keys, "the keys are not those from before");
}

#[tokio::test]
async fn a_secret_deleted_during_an_expired_watch_is_restored() {
    let (stage, seen, keys) = ready("Secret expired").await;
    stage.proxy.views.hide("secrets", |_, _| true);
    stage.scene.secrets().delete(SECRET, &DeleteParams::default()).await.expect("it is deleted");
    stage.proxy.views.expire("secrets");
    wait_until_same(&stage, &seen, &keys).await;
}

#[tokio::test]
async fn a_secret_edited_during_an_expired_watch_is_restored() {
    let (stage, seen, keys) = ready("Secret edited unseen").await;
    stage.proxy.views.hide("secrets", |_, _| true);
    let edit = Patch::Merge(json!({ "stringData": { "OPSADMIN_SECRET_KEY": "wrong" } }));
    stage.scene.secrets().patch(SECRET, &PatchParams::default(), &edit).await.expect("it is edited");
    stage.proxy.views.expire("secrets");
    wait_until_same(&stage, &seen, &keys).await;
}

#[tokio::test]
async fn a_list_that_expires_between_two_pages_is_started_again() {
    let mut stage = Stage::set("mid-page").await;
    for view in ["apiaccounts", "secrets"] {
        stage.proxy.views.page(view, 2);
    }
    stage.start().await;
    let names: Vec<String> = (0..5).map(|number| format!("a{number}")).collect();
    for name in &names {
        stage.scene.create(name, json!({})).await;
    }
    for name in &names {
        stage.scene.ready(name).await;
    }
    stage.quiet().await;
    let (seen, keys) = stage.look().await;
    // This is the second page of each list. For the Secrets it fails twice, so that there is time to act on half a
    // list.
    let is_second = |call: &Call| match call.what.as_str() {
        "LIST secrets" => call.number == 2 || call.number == 4,
        "LIST apiaccounts" => call.number == 2,
        _ => false,
    };
    let expired = Fault::refuse(410, "Expired");
    stage.scene.kill().await;
    stage.proxy.trace.meet(is_second, vec![expired; 3]);
    stage.start().await;
    assert!(!stage.proxy.trace.is_waiting(), "each of the pages was refused\n{}", stage.calls());
    let writes: Vec<Call> = stage.proxy.trace.calls().into_iter().filter(|call| !call.is_read()).collect();
    assert!(writes.is_empty(), "half a list is believed\n{}", stage.calls());
    wait_until_same(&stage, &seen, &keys).await;
    // The controller still knows all accounts and reconciles them.
    for name in &names {
        stage.scene.change(name, json!({ "enabled": false })).await;
    }
    for name in &names {
        stage.scene.ready(name).await;
    }
    assert!(stage.look().await.1 == keys, "the keys are not those from before");
}

#[tokio::test]
async fn both_lists_are_read_at_the_same_time_and_nothing_is_written_before_the_secrets_are_known() {
    let (mut stage, seen, keys) = ready("lists at the same time").await;
    stage.scene.kill().await;
    stage.proxy.trace.meet_all(|call| call.what == "LIST secrets", Fault::Hold);
    stage.launch(&[]);
    stage.watching().await;
    let calls = stage.proxy.trace.calls();
    let is_look = |call: &Call| call.what.starts_with("SELECT id, version, name");
    assert!(calls.iter().all(|call| call.is_read() && !is_look(call)), "it acts too early\n{}", stage.calls());
    stage.proxy.trace.heal();
    assert!(stage.proxy.trace.seen(SOON, is_look).await.is_some(), "the account is not read\n{}", stage.calls());
    stage.quiet().await;
    let calls = stage.proxy.trace.calls();
    assert_eq!(calls.iter().filter(|call| is_look(call)).count(), 1, "it is read once\n{}", stage.calls());
    assert!(calls.iter().all(Call::is_read), "nothing has changed\n{}", stage.calls());
    wait_until_same(&stage, &seen, &keys).await;
}

#[tokio::test]
async fn an_empty_list_ends_no_account() {
    let (mut stage, seen, keys) = ready("empty lists").await;
    for at_start in [false, true] {
        for view in ["apiaccounts", "secrets"] {
            stage.proxy.views.empty_next(view, 1);
        }
        if at_start {
            stage.restart().await;
        } else {
            let before = watches(&stage, "secrets");
            stage.proxy.views.expire("apiaccounts");
            stage.proxy.views.expire("secrets");
            watched_again(&stage, "secrets", before).await;
        }
        stage.quiet().await;
        let (now, _) = stage.look().await;
        assert!(now == seen, "at the start: {at_start}: {}", seen.difference(&now));
        // The next list is complete again.
        stage.proxy.views.expire("apiaccounts");
        stage.proxy.views.expire("secrets");
        wait_until_same(&stage, &seen, &keys).await;
    }
    stage.scene.change(ACME, json!({ "enabled": false })).await;
    stage.scene.ready(ACME).await;
    assert!(stage.look().await.1 == keys, "the keys are not those from before");
}

#[tokio::test]
async fn a_foreign_secret_in_the_place_of_ours_is_not_touched_even_if_seen_late() {
    let (stage, seen, keys) = ready("foreign behind frozen").await;
    stage.proxy.views.freeze("secrets");
    stage.scene.secrets().delete(SECRET, &DeleteParams::default()).await.expect("it is deleted");
    let theirs = stage.scene.secrets().create(&PostParams::default(), &foreign()).await.expect("it is made");
    // The controller has a reason to write the Secret, and its cache still has its own Secret.
    stage.scene.change(ACME, json!({ "secret": { "labels": { "team": "b" } } })).await;
    stage.scene.condition(ACME, "False", "SecretConflict").await;
    stage.proxy.views.thaw("secrets");
    stage.quiet().await;
    let found = stage.scene.secrets().get(SECRET).await.expect("it is there");
    assert_eq!(found.metadata.resource_version, theirs.metadata.resource_version);
    assert_eq!(texts(&found)["password"], "theirs");
    // The deletion of a resource does not delete a foreign Secret.
    stage.scene.change(ACME, json!({ "secret": { "labels": null } })).await;
    stage.scene.secrets().delete(SECRET, &DeleteParams::default()).await.expect("it is deleted");
    wait_until_same(&stage, &seen, &keys).await;
}

#[tokio::test]
async fn a_secret_with_a_new_owner_behind_a_frozen_watch_is_not_removed() {
    let (stage, _, keys) = ready("changed hands").await;
    stage.proxy.views.freeze("secrets");
    let theirs = json!({ "metadata": { "ownerReferences": null, "annotations": { OWNER_ANNOTATION: null } } });
    let taken = stage.scene.secrets().patch(SECRET, &PatchParams::default(), &Patch::Merge(theirs)).await;
    let taken = taken.expect("it is edited");
    // The keys move, and the controller's cache still shows the old Secret as its own.
    stage.scene.change(ACME, json!({ "secret": { "name": "moved" } })).await;
    stage.scene.ready(ACME).await;
    stage.proxy.views.thaw("secrets");
    stage.quiet().await;
    let found = stage.scene.secrets().get(SECRET).await.expect("it is there");
    assert_eq!(found.metadata.resource_version, taken.metadata.resource_version);
    assert_eq!(texts(&found), stage.scene.data("moved").await);
    assert!(stage.look().await.1 == keys, "the keys are not those from before");
}

#[tokio::test]
async fn a_foreign_edit_behind_a_frozen_watch_is_not_overwritten() {
    let (stage, seen, keys) = ready("edit behind frozen").await;
    stage.proxy.views.freeze("secrets");
    let theirs = Patch::Merge(json!({ "metadata": { "labels": { "theirs": "1" } }, "data": { "EXTRA": "eA==" } }));
    stage.scene.secrets().patch(SECRET, &PatchParams::default(), &theirs).await.expect("it is edited");
    stage.scene.change(ACME, json!({ "secret": { "labels": { "team": "b" } } })).await;
    stage.scene.ready(ACME).await;
    stage.scene.change(ACME, json!({ "secret": { "labels": null } })).await;
    stage.scene.ready(ACME).await;
    stage.proxy.views.thaw("secrets");
    wait_until_same(&stage, &seen, &keys).await;
    let labels = stage.scene.secrets().get(SECRET).await.expect("it is there").metadata.labels.unwrap_or_default();
    assert_eq!(labels["theirs"], "1", "labels of others stay");
}

#[tokio::test]
async fn a_foreign_finalizer_missed_by_the_watch_stays() {
    let stage = Stage::with_controller("finalizer unseen").await;
    let is_ours = |call: &Call| call.what == "PATCH apiaccounts";
    stage.proxy.trace.meet(is_ours, [Fault::Delay(Duration::from_secs(2))]);
    stage.scene.create(ACME, json!({})).await;
    assert!(stage.proxy.trace.seen(SOON, is_ours).await.is_some(), "{}", stage.calls());
    let finalizers = |finalizers: &[&str]| Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
    let (accounts, params) = (stage.scene.accounts(), PatchParams::default());
    accounts.patch(ACME, &params, &finalizers(&["example.com/theirs"])).await.expect("the API server takes it");
    let account = stage.scene.ready(ACME).await;
    assert_eq!(account.metadata.finalizers.unwrap_or_default(), ["example.com/theirs", FINALIZER]);
    accounts.patch(ACME, &params, &finalizers(&[FINALIZER])).await.expect("the API server takes it");
}

#[tokio::test]
async fn an_edit_between_reading_and_writing_is_not_overwritten() {
    let (stage, seen, keys) = ready("edit between").await;
    let is_write = |call: &Call| call.what == "PUT secrets";
    stage.proxy.trace.begin();
    stage.proxy.trace.meet(is_write, [Fault::Delay(Duration::from_secs(2))]);
    stage.scene.change(ACME, json!({ "secret": { "labels": { "team": "b" } } })).await;
    assert!(stage.proxy.trace.seen(SOON, is_write).await.is_some(), "{}", stage.calls());
    let theirs = Patch::Merge(json!({ "metadata": { "labels": { "theirs": "1" } } }));
    stage.scene.secrets().patch(SECRET, &PatchParams::default(), &theirs).await.expect("it is edited");
    stage.scene.ready(ACME).await;
    let labels = stage.scene.secrets().get(SECRET).await.expect("it is there").metadata.labels.unwrap_or_default();
    assert_eq!((labels["theirs"].as_str(), labels["team"].as_str()), ("1", "b"), "\n{}", stage.calls());
    stage.scene.change(ACME, json!({ "secret": { "labels": null } })).await;
    stage.scene.ready(ACME).await;
    wait_until_same(&stage, &seen, &keys).await;
}

#[tokio::test]
async fn a_new_watch_without_changes_causes_only_lists() {
    let (stage, seen, keys) = ready("relist silent").await;
    stage.proxy.trace.begin();
    let before = watches(&stage, "secrets");
    stage.proxy.views.expire("secrets");
    stage.proxy.views.expire("apiaccounts");
    watched_again(&stage, "secrets", before).await;
    watched_again(&stage, "apiaccounts", 0).await;
    wait_until_same(&stage, &seen, &keys).await;
    // A sweep may happen in the meantime. It reads no account.
    let is_look = |call: &Call| call.to == To::ApiServer || call.what.starts_with("SELECT id, version");
    let is_view = |call: &Call| ["LIST ", "WATCH "].iter().any(|verb| call.what.starts_with(verb));
    let calls = stage.proxy.trace.calls();
    let more = calls.iter().any(|call| !call.is_read() || (is_look(call) && !is_view(call)));
    assert!(!more, "it asked for more than the lists\n{}", stage.calls());
    eventually("the lists to be read", SOON, async || {
        let lists = stage.proxy.trace.calls().iter().filter(|call| call.what.starts_with("LIST")).count();
        if lists == 2 { Ok(()) } else { Err(stage.calls()) }
    })
    .await;
}

#[tokio::test]
async fn a_list_that_stalls_in_the_middle_is_reported_and_started_again() {
    for resource in ["apiaccounts", "secrets"] {
        let mut stage = Stage::set(&format!("stalled {resource}")).await;
        let what = format!("LIST {resource}");
        stage.proxy.trace.meet(move |call| call.what == what, [Fault::HalfAnswer]);
        stage.launch(&[]);
        stage.scene.create(ACME, json!({})).await;
        stage.scene.logged("sent no more of it").await;
        stage.scene.ready(ACME).await;
        stage.scene.kill().await;
    }
}
