//! The example's files for Argo CD and Flux are checked against the tools' own definitions on a real API server. The
//! health script runs in the interpreter that Argo CD uses.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use opsadmin_operator::account::{AccountName, AffiliateName};
use opsadmin_operator::api::Reason;
use opsadmin_operator::database::{DatabaseError, KeyringError};
use opsadmin_operator::reconcile::{AdoptionPath, Doubt, FieldError, InvalidSpec, NotReady, Outcome, status};
use opsadmin_operator::secrets::{SecretError, SecretRef};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{documents, text};
use crate::controller::scene::{SOON, Scene};
use crate::support::cluster::{Cluster, SeparateCluster};
use crate::support::process::Folder;
use crate::support::programs::built;
use crate::support::run::run;
use crate::support::wait::eventually;

const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// Returns the folder that `tests/gitops/build.sh` builds.
async fn folder() -> &'static Path {
    static FOLDER: OnceCell<PathBuf> = OnceCell::const_new();
    let build = async || {
        let built = tokio::task::spawn_blocking(|| built("gitops/build.sh", &[])).await.expect("it does not panic");
        built.unwrap_or_else(|problem| panic!("{problem}"))
    };
    FOLDER.get_or_init(build).await
}

/// Returns a cluster with the definitions of Argo CD and Flux. It is a new cluster, because an existing cluster may
/// have other versions of them, which the test must not change.
async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<SeparateCluster> = OnceCell::const_new();
    let start = async || {
        let (cluster, folder) = (Cluster::of_its_own().await, folder().await);
        let definitions = folder.join("crds").display().to_string();
        cluster.kubectl("", &["apply", "--server-side", "-f", &definitions]).await.succeeded();
        cluster.kubectl("", &["wait", "--for=condition=Established", "crd", "--all"]).await.succeeded();
        for namespace in ["argocd", "flux-system"] {
            cluster.kubectl("", &["create", "namespace", namespace]).await.succeeded();
        }
        cluster
    };
    CLUSTER.get_or_init(start).await.0
}

/// Returns copies of a value. Each copy has an unknown field in one of the value's mappings.
fn misspelt(value: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    match value {
        Value::Object(fields) => {
            let mut one = fields.clone();
            one.insert("unheardOf".to_owned(), json!(true));
            all.push(Value::Object(one));
            for (name, field) in fields {
                all.extend(misspelt(field).into_iter().map(|field| {
                    let mut one = fields.clone();
                    one.insert(name.clone(), field);
                    Value::Object(one)
                }));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                all.extend(misspelt(item).into_iter().map(|item| {
                    let mut items = items.clone();
                    items[index] = item;
                    Value::Array(items)
                }));
            }
        }
        _ => {}
    }
    all
}

/// Checks that the tool's own definition has every field of every object in the file. Copies with an unknown field must
/// be refused, which shows that the check works.
async fn every_field_is_known(file: &str, kinds: &[&str]) {
    let cluster = cluster().await;
    let apply = ["apply", "--server-side", "--validate=strict", "-f", "-"];
    let mut found = Vec::new();
    for object in documents(file) {
        cluster.kubectl_with("", &apply, &object.to_string()).await.succeeded();
        for spec in misspelt(&object["spec"]) {
            let mut wrong = object.clone();
            wrong["spec"] = spec;
            let refused = cluster.kubectl_with("", &apply, &wrong.to_string()).await;
            assert!(!refused.status.success() && refused.stderr.contains("unheardOf"), "{wrong}: {refused:?}");
        }
        found.push(text(&object["kind"]).to_owned());
    }
    assert_eq!(found, kinds);
}

#[tokio::test]
async fn the_argo_cd_definition_has_every_field_of_the_application() {
    every_field_is_known("argocd/production.yaml", &["Application"]).await;
}

#[tokio::test]
async fn the_flux_definitions_have_every_field_of_the_example() {
    every_field_is_known("flux/production.yaml", &["GitRepository", "Kustomization", "Kustomization"]).await;
}

/// Returns the health and the message that Argo CD shows for a resource.
async fn health(resource: &Value) -> (String, String) {
    let config_map = documents("argocd/health.yaml").remove(0);
    let script = text(&config_map["data"]["resource.customizations.health.ops-admin.com_ApiAccount"]).to_owned();
    let desk = Folder::new("health");
    let file = desk.path().join("health.lua");
    fs::write(&file, script).expect("it can be written");
    let mut ask = Command::new(folder().await.join("health"));
    ask.arg(&file);
    let answer = run(ask, resource.to_string(), ANSWERS_WITHIN).await.succeeded();
    let answer: Value = serde_json::from_str(&answer).expect("it answers with JSON");
    (text(&answer["status"]).to_owned(), answer["message"].as_str().unwrap_or_default().to_owned())
}

/// Returns an obstacle for every reason that a condition may have, except for a reconciled account.
fn refusals() -> Vec<NotReady> {
    let name = || AccountName::parse("Acme").expect("a name");
    let at = || SecretRef { namespace: "partners".to_owned(), name: "acme-opsadmin".to_owned() };
    let words = || "somebody".to_owned();
    vec![
        InvalidSpec { errors: vec![FieldError { field: "spec.roles".to_owned(), message: words() }] }.into(),
        NotReady::NameTaken { name: name(), holder: words() },
        NotReady::AdoptionRequired { name: name(), difference: String::new(), way: AdoptionPath::Policy },
        NotReady::OwnedElsewhere { name: name(), holder: words() },
        NotReady::AllowedIpsMissing { kept: vec!["203.0.113.7/32".to_owned()] },
        NotReady::UnknownAffiliate { affiliate: AffiliateName::parse("Bright").expect("a name") },
        NotReady::SecretConflict { at: at(), holder: words() },
        NotReady::SecretRewritten { at: at(), parts: vec!["label team".to_owned()] },
        SecretError::Unavailable { at: at(), reason: words() }.into(),
        SecretError::Refused { at: at(), reason: words() }.into(),
        DatabaseError::Unavailable { reason: words() }.into(),
        DatabaseError::NotStored { parts: Vec::new() }.into(),
        NotReady::RepeatedDrift { parts: vec!["roles".to_owned()] },
        KeyringError::LacksKey { missing: vec![words()] }.into(),
        NotReady::NoKeys { account: words() },
        NotReady::NoRandomness(words()),
        NotReady::Contended,
        NotReady::DeletionHeld { percent: 20 },
        NotReady::CreationHeld { account: words(), doubt: Doubt::Many },
        NotReady::Suspended { since: Timestamp::UNIX_EPOCH, reason: words() },
        NotReady::Paused,
        NotReady::Drifted { fields: vec!["roles".to_owned()] },
        NotReady::Frozen { pending: vec!["roles".to_owned()] },
        NotReady::Panicked,
    ]
}

/// Returns a resource that was reconciled with this outcome.
fn reconciled(outcome: &Outcome) -> Value {
    let status = status(Some(2), "acme-opsadmin", outcome, None, Timestamp::UNIX_EPOCH);
    let metadata = json!({ "name": "acme", "generation": 2 });
    json!({ "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": metadata, "status": status })
}

#[tokio::test]
async fn argo_cd_shows_the_right_health_for_every_condition() {
    let well = health(&reconciled(&Outcome::default())).await;
    assert_eq!(well, ("Healthy".to_owned(), "account and Secret are as declared".to_owned()));
    let mut seen = BTreeSet::from([Reason::Reconciled.as_str()]);
    for refusal in refusals() {
        let (reason, message) = (refusal.reason(), refusal.to_string());
        let expected = match refusal {
            NotReady::Paused => "Suspended",
            _ if refusal.needs_a_person() => "Degraded",
            _ => "Progressing",
        };
        let mut resource = reconciled(&Outcome::blocked(refusal));
        let conditions = resource["status"]["conditions"].as_array().expect("conditions").clone();
        assert_eq!(health(&resource).await, (expected.to_owned(), message.clone()), "{resource:#}");
        resource["status"]["conditions"] = conditions.into_iter().rev().collect();
        assert_eq!(health(&resource).await, (expected.to_owned(), message), "in another order: {resource:#}");
        seen.insert(reason.as_str());
    }
    assert_eq!(seen, Reason::ALL.map(Reason::as_str).into());

    // A status of an earlier generation does not apply to this generation.
    let mut edited = reconciled(&Outcome::default());
    edited["metadata"]["generation"] = json!(3);
    let mut new = edited.clone();
    new.as_object_mut().expect("an object").remove("status");
    for resource in [edited, new] {
        assert_eq!(health(&resource).await.0, "Progressing", "{resource:#}");
    }
}

#[tokio::test]
async fn argo_cd_health_follows_an_account_on_a_cluster() {
    let mut scene = Scene::set("argo health").await;
    scene.create("acme", json!({})).await;
    scene.create("other", json!({ "affiliate": "Nobody" })).await;
    assert_eq!(health_of(&scene, "acme").await.0, "Progressing", "nobody has looked at it");
    scene.start(&[]);
    for (name, expected, told) in [("acme", "Healthy", "as declared"), ("other", "Degraded", "no affiliate \"Nobody\"")]
    {
        eventually(&format!("{name} to be {expected}"), SOON, async || {
            let (health, message) = health_of(&scene, name).await;
            if health == expected && message.contains(told) { Ok(()) } else { Err(format!("{health}: {message}")) }
        })
        .await;
    }
}

/// Returns the health and the message of an account of this scene.
async fn health_of(scene: &Scene, name: &str) -> (String, String) {
    let shown = scene.cluster.kubectl(scene.namespace.name(), &["get", "apiaccount", name, "-o", "json"]).await;
    health(&serde_json::from_str(&shown.succeeded()).expect("kubectl prints JSON")).await
}
