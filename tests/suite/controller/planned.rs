//! `opsadmin plan --on-cluster`: the controller then does what the plan lists, and the plan itself changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::scene::{SOON, Scene};
use crate::support::audit::AuditEvent;
use crate::support::names::unique;
use crate::support::opsadmin::Opsadmin;
use crate::support::run::Finished;
use crate::support::wait::eventually;

/// A user with exactly the rights that `opsadmin render` prints. On an existing cluster, the administrator is used
/// instead, because its certificate authority does not sign certificates for the tests.
pub struct Planner {
    pub user: String,
    pub kubeconfig: PathBuf,
    granted: String,
}

impl Planner {
    /// Creates a user with the rights to plan for the scene's namespace. The rights to read Secrets are optional.
    pub async fn of(scene: &Scene, secrets: bool) -> Self {
        let (name, namespace) = (unique("planner"), scene.namespace.name());
        let user = format!("system:serviceaccount:{namespace}:{name}");
        let call = Opsadmin::new().args(["render", "--plan-rights", namespace, "--namespace", namespace]);
        let call = if secrets { call } else { call.args(["--without-secrets"]) };
        let rights = call.run().await.succeeded().replace("name: opsadmin-plan", &format!("name: {name}"));
        let objects: Vec<Value> = serde_saphyr::from_multiple(&rights).expect("it is YAML");
        let granted = json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string();
        scene.cluster.kubectl_with("", &["apply", "-f", "-"], &granted).await.succeeded();
        let kubeconfig = scene.cluster.kubeconfig_for(&user, None);
        let kubeconfig = kubeconfig.unwrap_or_else(|| scene.cluster.kubeconfig().to_owned());
        Self { user, kubeconfig, granted }
    }

    /// Plans these manifests with a read-only connection to the database.
    pub async fn plan(&self, scene: &Scene, manifests: &str, extra: &[&str]) -> Finished {
        let url = format!("{}?options=-c%20default_transaction_read_only%3Don", scene.database.url());
        let call =
            Opsadmin::new().args(["plan", "--on-cluster", "-f", "-", "-n", scene.namespace.name(), "--kubeconfig"]);
        call.args([&self.kubeconfig]).args(["--database", &url]).args(extra).stdin(manifests).run().await
    }

    pub async fn plan_as_json(&self, scene: &Scene, manifests: &str, extra: &[&str]) -> Value {
        let planned = self.plan(scene, manifests, &[extra, &["-o", "json"]].concat()).await;
        serde_json::from_str(&planned.stdout).unwrap_or_else(|error| panic!("{error}: {planned:?}"))
    }

    /// Returns all requests of this user about the scene's namespace and across all namespaces.
    pub fn calls(&self, scene: &Scene) -> Vec<AuditEvent> {
        let of = |namespace: &str| scene.cluster.audit(namespace).unwrap_or_default();
        let calls = [scene.namespace.name(), ""].into_iter().flat_map(of);
        calls.filter(|call| call.username == self.user).collect()
    }

    pub async fn leave(self, scene: &Scene) {
        scene.cluster.kubectl_with("", &["delete", "-f", "-"], &self.granted).await.succeeded();
    }
}

/// Returns manifests of these accounts, each with its annotations and its spec.
pub fn manifests(accounts: &[(&str, Value, Value)]) -> String {
    let items: Vec<Value> = accounts
        .iter()
        .map(|(name, annotations, spec)| {
            json!({ "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "spec": spec,
                "metadata": { "name": name, "annotations": annotations } })
        })
        .collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

/// Returns the reason of the change that an action of a plan makes.
fn event_of(action: &Value) -> &'static str {
    match action["action"].as_str().expect("an action") {
        "create" => "Created",
        "adopt" => "Adopted",
        "restore" => "Restored",
        "update" => "Updated",
        "rotate" => "Rotated",
        "delete" => "Disabled",
        "retain" => "Retained",
        "write-secret" => "SecretWritten",
        "correct-secret" => "SecretUpdated",
        "release-secret" => "SecretReleased",
        "remove-secret" => "SecretRemoved",
        other => panic!("no account here is to have {other}"),
    }
}

/// Returns the reasons of the events that the controller emits for the actions of a plan. A change of the Secret is in
/// the event of the account's change, if there is one.
fn events_of(actions: &[Value]) -> Vec<&'static str> {
    let (of_secret, mut reasons): (Vec<_>, Vec<_>) =
        actions.iter().map(event_of).partition(|reason| reason.starts_with("Secret"));
    if reasons.is_empty() {
        reasons.extend(of_secret.first());
    }
    reasons.sort_unstable();
    reasons
}

/// Returns the reason for the same change without its cause.
fn plain(reason: &str) -> &str {
    match reason {
        "DriftCorrected" => "Updated",
        "SecretPutBack" => "SecretUpdated",
        other => other,
    }
}

/// Returns each event by its own name: account, reason, note.
async fn events(scene: &Scene) -> BTreeMap<String, (String, String, String)> {
    let events: Api<Event> = Api::namespaced(scene.client.clone(), scene.namespace.name());
    let events = events.list(&ListParams::default()).await.expect("a list");
    let told = events.items.into_iter().map(|event| {
        let about = event.regarding.and_then(|object| object.name).unwrap_or_default();
        let reason = plain(&event.reason.unwrap_or_default()).to_owned();
        (event.metadata.name.unwrap_or_default(), (about, reason, event.note.unwrap_or_default()))
    });
    told.collect()
}

/// Returns the names and the `resourceVersion`s of all accounts and Secrets, to compare two moments.
async fn versions(scene: &Scene) -> BTreeSet<String> {
    let accounts = scene.accounts().list(&ListParams::default()).await.expect("a list");
    let secrets = scene.secrets().list(&ListParams::default()).await.expect("a list");
    let accounts = accounts.items.into_iter().map(|account| account.metadata);
    let all = accounts.chain(secrets.items.into_iter().map(|secret| secret.metadata));
    all.map(|metadata| format!("{:?} {:?}", metadata.name, metadata.resource_version)).collect()
}

fn before() -> Vec<(&'static str, Value, Value)> {
    let (none, plain) = (|| json!({}), || json!({ "enabled": true }));
    vec![
        ("same", none(), json!({ "roles": ["Customer"] })),
        ("changed", none(), json!({ "roles": ["Customer"], "allowedIPs": ["10.0.0.0/8"] })),
        ("lost-list", none(), json!({ "allowedIPs": ["10.0.0.0/8"] })),
        ("rotated", none(), json!({ "rotation": { "trigger": "one" } })),
        ("asked", none(), plain()),
        ("asked-in-git", json!({ "ops-admin.com/rotate": "one" }), plain()),
        ("moved", none(), plain()),
        ("rearranged", none(), json!({ "secret": { "labels": { "team": "a", "old": "x" } } })),
        ("lost", none(), plain()),
        ("unlabelled", none(), plain()),
        ("paused", none(), plain()),
        ("resumed", json!({ "ops-admin.com/paused": "true" }), plain()),
        ("going-on", none(), plain()),
        ("suspended", none(), plain()),
        ("observed", none(), plain()),
        ("theirs", none(), plain()),
        ("free", none(), plain()),
        ("let-go", none(), plain()),
        ("gone", none(), plain()),
        ("retained", none(), json!({ "deletionPolicy": "Retain" })),
    ]
}

fn after() -> Vec<(&'static str, Value, Value)> {
    let (none, plain) = (|| json!({}), || json!({ "enabled": true }));
    vec![
        ("same", none(), json!({ "roles": ["Customer"] })),
        ("changed", none(), json!({ "roles": ["PlansAndRates"], "enabled": false, "allowedIPs": [] })),
        ("lost-list", none(), json!({ "enabled": false })),
        ("rotated", none(), json!({ "rotation": { "trigger": "two", "overlap": "0s" } })),
        ("asked", none(), plain()),
        ("asked-in-git", json!({ "ops-admin.com/rotate": "two" }), plain()),
        ("moved", none(), json!({ "secret": { "name": "elsewhere" } })),
        ("rearranged", none(), json!({ "secret": { "labels": { "team": "b" }, "keys": { "apiKey": "id" } } })),
        ("lost", none(), plain()),
        ("unlabelled", none(), plain()),
        ("paused", none(), json!({ "enabled": false })),
        ("resumed", none(), plain()),
        ("going-on", json!({ "ops-admin.com/paused": "false" }), json!({ "enabled": false })),
        ("suspended", none(), json!({ "description": "changed" })),
        ("observed", none(), json!({ "managementPolicy": "Observe", "enabled": false })),
        ("fresh", none(), plain()),
        ("blocked", none(), json!({ "secret": { "name": "somebodys" } })),
        ("taken", none(), json!({ "name": "THEIRS" })),
        ("wants", none(), json!({ "name": "free", "roles": ["Customer"] })),
        ("adopts", none(), json!({ "name": "let-go", "adoptionPolicy": "IfUnowned" })),
        ("stranger", none(), json!({ "affiliate": "Nowhere" })),
    ]
}

/// Creates the initial state: reconciled accounts, a stopped controller, and later changes by other clients.
async fn create_initial_state(scene: &mut Scene, apply: &[&str]) {
    let namespace = scene.namespace.name().to_owned();
    scene.start(&[]);
    scene.cluster.kubectl_with(&namespace, apply, &manifests(&before())).await.succeeded();
    for (name, annotations, _) in before() {
        if annotations["ops-admin.com/paused"] == "true" {
            scene.condition(name, "Unknown", "Paused").await;
        } else {
            scene.ready(name).await;
        }
    }
    scene.stop().await;
    scene.annotate("asked", json!({ "ops-admin.com/rotate": "now" })).await;
    for name in ["paused", "going-on"] {
        scene.annotate(name, json!({ "ops-admin.com/paused": "true" })).await;
    }
    scene.secrets().delete("lost-opsadmin", &DeleteParams::default()).await.expect("it is deleted");
    let no_label = Patch::Merge(json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": null } } }));
    scene.secrets().patch("unlabelled-opsadmin", &PatchParams::default(), &no_label).await.expect("it is patched");
    let create = ["create", "secret", "generic", "somebodys", "--from-literal=password=hush"];
    scene.cluster.kubectl(&namespace, &create).await.succeeded();
    for name in ["theirs", "free", "let-go"] {
        scene.accounts().delete(name, &DeleteParams::default()).await.expect("it is deleted");
        scene.strip_finalizers(name).await;
        let secret = format!("{name}-opsadmin");
        scene.secrets().delete(&secret, &DeleteParams::default()).await.expect("it is deleted");
    }
    for statement in [
        "SET suspended_at = 1790000000000000, suspended_reason = 'unpaid' WHERE name = 'suspended'",
        "SET owner_cluster = 'elsewhere' WHERE name = 'theirs'",
        "SET retained_at = 5 WHERE name IN ('free', 'let-go')",
    ] {
        let statement = sqlx::AssertSqlSafe(format!("UPDATE accounts {statement}"));
        sqlx::raw_sql(statement).execute(&scene.sql().await).await.expect("it is updated");
    }
}

/// Waits until the controller has reported what was planned for an account. Fails if it has done anything else.
async fn is_as_planned(scene: &Scene, account: &Value, seen: &BTreeSet<String>) {
    let name = account["name"].as_str().expect("a name");
    let actions = account["actions"].as_array().expect("a list");
    let (reason, message) = match &account["condition"] {
        Value::Null => ("Reconciled", None),
        condition => (condition["reason"].as_str().expect("a reason"), condition["message"].as_str()),
    };
    let is_declared = account.get("manifest").is_some();
    if is_declared {
        let status = if reason == "Reconciled" {
            "True"
        } else if reason == "Paused" {
            "Unknown"
        } else {
            "False"
        };
        let found = scene.condition(name, status, reason).await;
        let conditions = found.status.expect("it has a status").conditions;
        if let Some(message) = message {
            assert_eq!(conditions[0].message, message, "{name}");
        }
    }
    let planned = events_of(actions);
    eventually(&format!("the events of {name} to be {planned:?}"), SOON, async || {
        let events = events(scene).await;
        let new = events.iter().filter(|(event, (about, ..))| about == name && !seen.contains(*event));
        let mut new: Vec<(String, String)> = new.map(|(_, (_, reason, note))| (reason.clone(), note.clone())).collect();
        new.retain(|(found, _)| !is_declared || *found != reason);
        new.sort();
        let reasons: Vec<&str> = new.iter().map(|(reason, _)| reason.as_str()).collect();
        if reasons != planned {
            return Err(format!("{new:#?}\n{}", scene.log()));
        }
        for action in actions {
            let parts = action["parts"].as_array().into_iter().flatten().map(|part| part.as_str().expect("a part"));
            let changes = action["changes"].as_array().into_iter().flatten();
            let changes = changes.map(|change| format!("{}: {} → {}", change["field"], change["old"], change["new"]));
            let words = parts.map(str::to_owned).chain(changes.map(|change| change.replace('"', "")));
            for word in words {
                let is_told = new.iter().any(|(_, note)| note.replace('"', "").contains(&word.replace('\\', "")));
                assert!(is_told, "{name}: {word} in {new:#?}");
            }
        }
        Ok(())
    })
    .await;
    for action in actions {
        let secret = || action["secret"].as_str().expect("a name");
        match action["action"].as_str() {
            Some("write-secret" | "correct-secret" | "release-secret") => {
                scene.secret_where(secret(), "to be there", |_| true).await;
            }
            Some("remove-secret") => scene.no_secret(secret()).await,
            _ => {}
        }
    }
}

async fn what_is_planned_is_what_then_happens(test_name: &str, apply: &[&str]) {
    let mut scene = Scene::set(test_name).await;
    let (all, few) = (Planner::of(&scene, true).await, Planner::of(&scene, false).await);
    create_initial_state(&mut scene, apply).await;
    let manifests = manifests(&after());
    let (seen, untouched) = (events(&scene).await.into_keys().collect(), versions(&scene).await);

    let planned = all.plan_as_json(&scene, &manifests, &["--prune"]).await;
    let keyring = scene.keyring.display().to_string();
    let closely = all.plan_as_json(&scene, &manifests, &["--prune", "--keyring", &keyring]).await;
    assert_eq!(planned, closely, "no contents were changed by anybody");
    let blindly = few.plan_as_json(&scene, &manifests, &["--prune", "--without-secrets"]).await;
    assert_eq!(versions(&scene).await, untouched);
    for planner in [&all, &few] {
        let calls = planner.calls(&scene);
        assert!(
            calls
                .iter()
                .all(|call| ["get", "list"].contains(&call.verb.as_str()) && (call.code == 200 || call.code == 404)),
            "{calls:#?}"
        );
        assert!(planner.user != few.user || calls.iter().all(|call| call.resource == "apiaccounts"), "{calls:#?}");
    }
    let results: Vec<String> = planned["accounts"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|account| {
            let reason = account["condition"]["reason"].as_str().unwrap_or_default();
            format!("{} {} {reason}", account["name"], account["result"]).replace('"', "").trim_end().to_owned()
        })
        .collect();
    assert_eq!(
        results,
        [
            "same unchanged",
            "changed change",
            "lost-list refuse AllowedIPsMissing",
            "rotated rotate",
            "asked rotate",
            "asked-in-git rotate",
            "moved change",
            "rearranged change",
            "lost change",
            "unlabelled change",
            "paused unchanged Paused",
            "resumed create",
            "going-on change",
            "suspended change Suspended",
            "observed unchanged Drifted",
            "fresh create",
            "blocked refuse SecretConflict",
            "adopts adopt",
            "stranger refuse UnknownAffiliate",
            "gone delete",
            "retained change",
            "taken refuse OwnedElsewhere",
            "wants refuse AdoptionRequired",
        ]
    );
    // Without the right to read Secrets, a plan lacks only the differences inside Secrets.
    for (account, blind) in
        planned["accounts"].as_array().expect("a list").iter().zip(blindly["accounts"].as_array().expect("a list"))
    {
        if !["lost", "unlabelled", "blocked"].contains(&account["name"].as_str().expect("a name")) {
            assert_eq!(account, blind);
        }
    }

    scene.cluster.kubectl_with(scene.namespace.name(), apply, &manifests).await.succeeded();
    let delete = ["delete", "apiaccount", "gone", "retained", "--wait=false"];
    scene.cluster.kubectl(scene.namespace.name(), &delete).await.succeeded();
    scene.start(&[]);
    for account in planned["accounts"].as_array().expect("a list") {
        is_as_planned(&scene, account, &seen).await;
    }
    let mut again = all.plan_as_json(&scene, &manifests, &["--prune"]).await;
    let accounts = again["accounts"].as_array_mut().expect("a list");
    accounts.retain(|account| account["actions"] != json!([]));
    assert_eq!(again["accounts"], json!([]));
    scene.stop().await;
    all.leave(&scene).await;
    few.leave(&scene).await;
}

#[tokio::test]
async fn a_plan_is_carried_out_for_manifests_that_kubectl_applies() {
    what_is_planned_is_what_then_happens("planned", &["apply", "-f", "-"]).await;
}

#[tokio::test]
async fn a_plan_is_carried_out_for_manifests_applied_server_side() {
    what_is_planned_is_what_then_happens("planned too", &["apply", "--server-side", "--force-conflicts", "-f", "-"])
        .await;
}
