//! Refusals, slow answers and missing answers of the API server. The controller recovers from each. The status reports
//! it if it can be written, and no key changes or is created twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use opsadmin_operator::api::{ApiAccount, FINALIZER};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::operations::{
    ADOPT, CREATE, DELETE, DELETE_SECRET, EDIT_SECRET, MOVE_SECRET, Operation, RENAME_KEYS, RESTORE, RETAIN,
    REVOKE_KEYS, ROTATE_KEYS, Record, TAKE_UP, UPDATE,
};
use super::runs::all;
use super::stage::{ACME, Stage};
use crate::controller::scene::{SOON, Scene};
use crate::support::proxy::{Call, Fault, Proxy, Refusal, To, listed};
use crate::support::wait::eventually;

/// The number of concurrent runs. They spend nearly all of their time waiting.
const AT_ONCE: usize = 12;

/// Returns the first call of each kind in an operation's record.
fn once_each(calls: &[Call]) -> Vec<Call> {
    calls.iter().filter(|call| call.number == 1 && call.to == To::ApiServer).cloned().collect()
}

/// Returns all errors of an API server that is busy, unwell or has a newer version of the object, and finally a slow
/// answer.
fn refusals(call: &Call) -> Vec<Fault> {
    let overtaken = if call.what.starts_with("POST") { "AlreadyExists" } else { "Conflict" };
    let mut faults = if call.is_read() { Vec::new() } else { vec![Fault::refuse(409, overtaken); 3] };
    faults.push(Fault::Refuse(Refusal { code: 429, reason: "TooManyRequests", retry_after: Some(1) }));
    faults.push(Fault::refuse(500, "InternalError"));
    faults.push(Fault::refuse(503, "ServiceUnavailable"));
    faults.push(Fault::refuse(504, "Timeout"));
    faults.push(Fault::Delay(Duration::from_secs(3)));
    faults
}

async fn disturb(operation: &Operation, call: &Call, faults: Vec<Fault>, record: &Record) {
    let end = &record.end;
    // A change whose answer never arrives is later found to be done. Then there is nothing to report.
    let is_told = !call.what.ends_with("events") && !matches!(faults[..], [Fault::KeepAnswer]);
    let stage = operation.stage().await;
    let (_, keys) = stage.look().await;
    let what = call.what.clone();
    stage.proxy.trace.meet(move |call| call.what == what, faults);
    operation.act(&stage).await;
    operation.settled(&stage).await;
    // The controller does not retry an event that is refused.
    if !call.what.ends_with("events") {
        eventually("all of the faults to be met", SOON, async || {
            if stage.proxy.trace.is_waiting() { Err(stage.calls()) } else { Ok(()) }
        })
        .await;
    }
    stage.becomes(end).await;
    stage.quiet().await;
    let (seen, after) = stage.look().await;
    assert!(seen == *end, "and then it was changed again: {}\n{}", end.difference(&seen), stage.calls());
    if operation.keeps_keys {
        assert!(keys == after, "the keys are not those from before");
    }
    // The events are emitted only after the call that is never answered has ended.
    eventually("the changes to be told", SOON, async || {
        let told = stage.told().await;
        let is_all = !is_told || record.told.is_subset(&told);
        if is_all { Ok(()) } else { Err(format!("{told:?} of {:?}\n{}", record.told, stage.calls())) }
    })
    .await;
}

#[tokio::test]
async fn events_that_hang_delay_neither_other_work_nor_the_end() {
    let mut stage = Stage::with_controller("hanging events").await;
    stage.scene.create("kept", json!({})).await;
    stage.scene.create(ACME, json!({})).await;
    stage.scene.ready(ACME).await;
    stage.scene.ready("kept").await;
    stage.quiet().await;
    stage.proxy.trace.meet_all(|call| call.what == "POST events", Fault::Stall);
    let started = Instant::now();
    stage.scene.delete(ACME).await;
    stage.scene.change("kept", json!({ "enabled": false })).await;
    stage.scene.ready("kept").await;
    // This is much less than the timeout of a call that is never answered.
    assert!(started.elapsed() < Duration::from_secs(18), "{}", stage.calls());
    let log = stage.scene.stop().await;
    assert!(log.contains("did not accept all events before the controller stopped"), "{log}");
}

/// Runs the operation once for each kind of its calls and each kind of fault.
async fn disturb_each_call(operation: &'static Operation) {
    let record = Arc::new(operation.record().await);
    let mut runs = Vec::new();
    for call in once_each(&record.calls) {
        for (what, faults) in [
            ("refused", refusals(&call)),
            ("never answered", vec![Fault::Stall]),
            ("done and never answered", vec![Fault::KeepAnswer]),
        ] {
            let (record, call) = (Arc::clone(&record), call.clone());
            runs.push((format!("{call} {what}"), async move || disturb(operation, &call, faults, &record).await));
        }
    }
    all(AT_ONCE, &format!("{}, undisturbed:\n{}", operation.name, listed(&record.calls)), runs).await;
}

macro_rules! each_call {
    ($($name:ident: $operation:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                disturb_each_call(&$operation).await;
            }
        )*
    };
}

each_call! {
    creating: CREATE,
    updating: UPDATE,
    moving_the_secret: MOVE_SECRET,
    renaming_the_keys: RENAME_KEYS,
    repairing_the_secret: EDIT_SECRET,
    writing_the_secret_again: DELETE_SECRET,
    deleting: DELETE,
    retaining: RETAIN,
    restoring: RESTORE,
    taking_up: TAKE_UP,
    rotating: ROTATE_KEYS,
    revoking: REVOKE_KEYS,
    adopting: ADOPT,
}

fn api<K>(stage: &Stage) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(stage.scene.client.clone(), stage.scene.namespace.name())
}

async fn make<K>(stage: &Stage, object: Value) -> K
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let object = serde_json::from_value(object).expect("it is such an object");
    api(stage).create(&PostParams::default(), &object).await.expect("the API server takes it")
}

fn message(account: &ApiAccount) -> String {
    account.status.as_ref().expect("it has a status").conditions[0].message.clone()
}

/// Checks that there is exactly one account with one key pair, and one line in its journal.
async fn check_created_once(stage: &Stage) {
    let (seen, _) = stage.look().await;
    assert_eq!(seen.rows, (1, 1), "{seen:?}");
    assert_eq!(seen.journal[ACME].len(), 1, "{seen:?}");
}

#[tokio::test]
async fn a_secret_that_the_api_server_refuses_is_reported() {
    let stage = Stage::with_controller("Secret not taken").await;
    stage.proxy.trace.meet_all(|call| call.what == "POST secrets", Fault::refuse(500, "InternalError"));
    stage.scene.create(ACME, json!({})).await;
    let account = stage.scene.condition(ACME, "False", "SecretUnavailable").await;
    let conditions = &account.status.as_ref().expect("it has a status").conditions;
    assert!(conditions.iter().any(|c| c.type_ == "Reconciling" && c.status == "True"), "{conditions:?}");
    assert!(message(&account).contains("refused by the test with 500"), "{}", message(&account));
    let (_, keys) = stage.look().await;
    stage.proxy.trace.heal();
    stage.scene.ready(ACME).await;
    assert!(stage.look().await.1 == keys, "the keys that were made first are the ones in the Secret");
    check_created_once(&stage).await;
}

#[tokio::test]
async fn an_exhausted_quota_is_reported_and_a_higher_quota_is_used() {
    let stage = Stage::with_controller("quota").await;
    // This cluster has no controller of quotas. So the test writes the status of the quota.
    let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "none" },
        "spec": { "hard": { "count/secrets": "0" } } });
    make::<ResourceQuota>(&stage, quota).await;
    let quotas: Api<ResourceQuota> = api(&stage);
    let status = json!({ "status": { "hard": { "count/secrets": "0" }, "used": { "count/secrets": "0" } } });
    let patched = quotas.patch_status("none", &PatchParams::default(), &Patch::Merge(status)).await;
    let hard = patched.expect("the API server takes it").status.and_then(|status| status.hard);
    assert_eq!(hard, Some(BTreeMap::from([("count/secrets".to_owned(), Quantity("0".to_owned()))])));
    refused_by_quota(&stage).await;

    stage.scene.create(ACME, json!({})).await;
    let account = stage.scene.condition(ACME, "False", "SecretUnavailable").await;
    assert!(message(&account).contains("exceeded quota"), "{}", message(&account));
    let conditions = &account.status.as_ref().expect("it has a status").conditions;
    assert!(
        conditions.iter().any(|c| c.type_ == "Stalled" && c.status == "True"),
        "a person has to act: {conditions:?}"
    );

    quotas.delete("none", &DeleteParams::default()).await.expect("it is deleted");
    stage.scene.ready(ACME).await;
    check_created_once(&stage).await;
}

/// Waits until the API server enforces the quota.
async fn refused_by_quota(stage: &Stage) {
    eventually("the quota to be in force", SOON, async || {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "probe" } });
        let secret = serde_json::from_value(secret).expect("it is a Secret");
        match stage.scene.secrets().create(&PostParams { dry_run: true, ..PostParams::default() }, &secret).await {
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

const MAY_DO_ALL_BUT_STATUS: &str = r#"[
    { "apiGroups": ["ops-admin.com"], "resources": ["apiaccounts"], "verbs": ["get", "list", "watch", "patch"] },
    { "apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"] },
    { "apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"] }
]"#;

#[tokio::test]
async fn without_the_right_to_write_statuses_the_work_is_done_once_and_reported_later() {
    let scene = Scene::set("no status").await;
    let user = scene.namespace.name().to_owned();
    let Some(kubeconfig) = scene.cluster.kubeconfig_for(&user, None) else { return };
    let url = scene.database.url().to_owned();
    let proxy = Proxy::new(&kubeconfig, &url).await;
    let mut stage = Stage::behind(scene, proxy, url);
    let rules: Value = serde_json::from_str(MAY_DO_ALL_BUT_STATUS).expect("it is JSON");
    make::<Role>(&stage, json!({ "metadata": { "name": "some" }, "rules": rules })).await;
    let bound = |role: &str| {
        json!({ "metadata": { "name": role },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role },
            "subjects": [{ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user }] })
    };
    make::<RoleBinding>(&stage, bound("some")).await;

    stage.start().await;
    stage.proxy.trace.begin();
    stage.scene.create(ACME, json!({})).await;
    let is_refused = |call: &Call| call.what == "PATCH apiaccounts/status" && call.answer == "403" && call.number == 3;
    assert!(stage.proxy.trace.seen(SOON, is_refused).await.is_some(), "{}", stage.calls());
    let writes = stage.proxy.trace.calls().into_iter().filter(|call| call.what == "POST secrets").count();
    assert_eq!(writes, 1, "it is not done again\n{}", stage.calls());
    assert!(stage.scene.log().contains("forbidden"), "the log tells instead: {}", stage.scene.log());
    let (_, keys) = stage.look().await;

    let rules = json!([{ "apiGroups": ["ops-admin.com"], "resources": ["apiaccounts/status"], "verbs": ["patch"] }]);
    make::<Role>(&stage, json!({ "metadata": { "name": "rest" }, "rules": rules })).await;
    make::<RoleBinding>(&stage, bound("rest")).await;
    stage.scene.ready(ACME).await;
    assert!(stage.look().await.1 == keys, "the keys stay");
    check_created_once(&stage).await;
}

#[tokio::test]
async fn a_deleted_namespace_ends_the_access_of_its_accounts() {
    let stage = Stage::with_controller("namespace ends").await;
    stage.scene.create(ACME, json!({})).await;
    stage.scene.ready(ACME).await;
    // A foreign finalizer keeps the resource, and so the namespace, in its last state.
    let theirs = json!({ "metadata": { "finalizers": [FINALIZER, "example.com/theirs"] } });
    let accounts = stage.scene.accounts();
    accounts.patch(ACME, &PatchParams::default(), &Patch::Merge(theirs)).await.expect("the API server takes it");
    let namespaces: Api<Namespace> = Api::all(stage.scene.client.clone());
    let namespace = stage.scene.namespace.name().to_owned();
    namespaces.delete(&namespace, &DeleteParams::default()).await.expect("the API server takes it");

    eventually("our finalizer to be gone", SOON, async || {
        let account = accounts.get(ACME).await.map_err(|error| error.to_string())?;
        let finalizers = account.metadata.finalizers.unwrap_or_default();
        if finalizers == ["example.com/theirs"] { Ok(()) } else { Err(format!("{finalizers:?}")) }
    })
    .await;
    let (seen, _) = stage.look().await;
    assert!(seen.accounts[ACME].contains("deleted") && seen.accounts[ACME].contains("enabled: false"), "{seen:?}");
    stage.quiet().await;
    let none = json!({ "metadata": { "finalizers": null } });
    accounts.patch(ACME, &PatchParams::default(), &Patch::Merge(none)).await.expect("the API server takes it");
    eventually("the namespace to be gone", SOON, async || {
        match namespaces.get_opt(&namespace).await.map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(namespace) => Err(format!("{:?}", namespace.status)),
        }
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_restored_does_not_keep_a_deleted_namespace() {
    let stage = Stage::with_controller("namespace ends early").await;
    stage.scene.create(ACME, json!({})).await;
    stage.scene.ready(ACME).await;
    // The API server refuses new objects as soon as the namespace is marked, and it deletes in its own order. So either
    // the API server refuses the Secret, or the controller first sees the deletion of the resource.
    stage.proxy.views.freeze("apiaccounts");
    let namespaces: Api<Namespace> = Api::all(stage.scene.client.clone());
    let namespace = stage.scene.namespace.name().to_owned();
    namespaces.delete(&namespace, &DeleteParams::default()).await.expect("the API server takes it");
    let asked = |call: &Call| call.what == "LIST apiaccounts" && call.name == ACME && call.answer == "200";
    assert!(stage.proxy.trace.seen(SOON, asked).await.is_some(), "{}", stage.calls());
    stage.proxy.views.thaw("apiaccounts");
    eventually("the namespace to be gone", SOON, async || {
        match namespaces.get_opt(&namespace).await.map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(namespace) => Err(format!("{:?}", namespace.status)),
        }
    })
    .await;
    let (seen, _) = stage.look().await;
    assert!(seen.accounts[ACME].contains("deleted"), "{seen:?}");
}
