//! The controller's rights: the roles in `deploy/` are sufficient. A missing right is reported, and the controller
//! recovers when it is granted.

use std::path::PathBuf;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::scene::{SOON, Scene};
use crate::support::audit::AuditEvent;
use crate::support::cluster::Cluster;
use crate::support::names::unique;
use crate::support::opsadmin::spawn_controller;
use crate::support::wait::eventually;

const EVERYWHERE: &str = include_str!("../../../deploy/rbac.yaml");
const IN_SOME_NAMESPACES: &str = include_str!("../../../deploy/rbac-namespaced.yaml");

/// Returns the user name of a service account. The API server accepts it from a certificate.
fn service_account(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

async fn apply(cluster: &Cluster, manifest: &str) {
    cluster.kubectl_with("", &["apply", "-f", "-"], manifest).await.succeeded();
}

/// Makes the controller do everything that it does on a cluster.
async fn do_everything_once(scene: &Scene) {
    scene.create("acme", json!({ "roles": ["Customer"] })).await;
    scene.ready("acme").await;
    let keys = scene.data("acme-opsadmin").await;
    scene.change("acme", json!({ "description": "changed" })).await;
    scene.ready("acme").await;

    let edit = Patch::Merge(json!({ "stringData": { "OPSADMIN_SECRET_KEY": "wrong" } }));
    scene.secrets().patch("acme-opsadmin", &PatchParams::default(), &edit).await.expect("it is patched");
    let right = |secret: &_| super::scene::texts(secret) == keys;
    scene.secret_where("acme-opsadmin", "to be put right", right).await;
    scene.secrets().delete("acme-opsadmin", &DeleteParams::default()).await.expect("it is deleted");
    scene.secret_where("acme-opsadmin", "to come back", right).await;

    scene.change("acme", json!({ "secret": { "name": "moved" } })).await;
    scene.ready("acme").await;
    scene.no_secret("acme-opsadmin").await;
    scene.change("acme", json!({ "deletionPolicy": "Retain" })).await;
    scene.ready("acme").await;
    scene.delete("acme").await;
    assert_eq!(scene.data("moved").await, keys);

    scene.create("other", json!({ "name": "acme" })).await;
    scene.condition("other", "False", "AdoptionRequired").await;
    scene.event("other", "AdoptionRequired").await;
    scene.delete("other").await;
    scene.create("another", json!({})).await;
    scene.ready("another").await;
    scene.delete("another").await;
    scene.event("another", "Disabled").await;
    scene.no_secret("another-opsadmin").await;
}

/// Returns the refused requests of this user, about these namespaces and across all namespaces.
fn refused(cluster: &Cluster, user: &str, namespaces: &[&str]) -> Vec<AuditEvent> {
    let log = namespaces.iter().chain(&[""]).flat_map(|namespace| cluster.audit(namespace).unwrap_or_default());
    log.filter(|call| call.username == user && call.code == 403).collect()
}

/// Waits until this user was refused the list of this resource several times, so that the test would notice a flood of
/// reports.
async fn refused_often(scene: &Scene, user: &str, resource: &str) {
    eventually(&format!("{user} to be refused {resource} again and again"), SOON, async || {
        let refused = refused(scene.cluster, user, &[scene.namespace.name()]);
        let times = refused.iter().filter(|call| call.verb == "list" && call.resource == resource).count();
        if times >= 4 { Ok(()) } else { Err(format!("{times} times\n{}", scene.log())) }
    })
    .await;
}

#[tokio::test]
async fn from_an_empty_cluster_its_role_is_all_that_it_needs() {
    let cluster = Cluster::of_its_own().await;
    let mut scene = Scene::set_on(cluster.0, "cluster-wide rights").await;
    let user = service_account("opsadmin-system", "opsadmin-operator");
    let kubeconfig = cluster.kubeconfig_for(&user, None).expect("it has an authority");
    apply(&cluster, EVERYWHERE).await;
    let elected = ["--leader-election", "on", "--lease-namespace", "opsadmin-system"];
    scene.start_as(&kubeconfig, &[], &elected);
    scene.logged("opsadmin crd | kubectl apply --server-side -f -").await;
    let lists = || {
        let calls = cluster.audit("").unwrap_or_default();
        calls.into_iter().filter(|call| call.resource == "apiaccounts" && call.verb == "list").count()
    };
    eventually("it to be tried again", SOON, async || if lists() >= 4 { Ok(()) } else { Err(scene.log()) }).await;
    let log = scene.log();
    assert_eq!(log.matches("cannot watch").count(), 1, "{log}");

    cluster.install_definitions().await;
    do_everything_once(&scene).await;
    let refused = refused(&cluster, &user, &[scene.namespace.name(), "kube-system", "opsadmin-system"]);
    assert!(refused.is_empty(), "{refused:?}");
    let log = scene.stop().await;
    assert!(log.contains("released the Lease"), "{log}");
    assert!(log.contains("watching ApiAccounts again") && !log.contains("forbidden"), "{log}");
}

/// Returns the namespaced roles, for these namespaces and for an account of this name.
pub fn roles(name: &str, system: &str, namespaces: &[&str]) -> Vec<Value> {
    let parse = |text: &str| serde_saphyr::from_multiple::<Value>(text).expect("it is YAML");
    let here = |text: &str| {
        text.replace("name: opsadmin-operator", &format!("name: {name}")).replace("opsadmin-system", system)
    };
    let mut documents = Vec::new();
    for document in parse(&here(IN_SOME_NAMESPACES)).into_iter().filter(|document| document["kind"] != "Namespace") {
        if document["metadata"]["namespace"] == "partners" {
            for namespace in namespaces {
                let mut document = document.clone();
                document["metadata"]["namespace"] = json!(namespace);
                documents.push(document);
            }
        } else {
            documents.push(document);
        }
    }
    documents
}

pub fn list(documents: &[Value]) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": documents }).to_string()
}

/// Creates a user without rights on the shared cluster. Returns `None` on an existing cluster.
pub fn user_without_rights(scene: &Scene) -> Option<(String, String, PathBuf)> {
    let name = unique("rights");
    let user = service_account(scene.namespace.name(), &name);
    let kubeconfig = scene.cluster.kubeconfig_for(&user, None)?;
    Some((name, user, kubeconfig))
}

#[tokio::test]
async fn for_some_namespaces_their_roles_are_sufficient() {
    let mut scene = Scene::set("namespaced rights").await;
    let Some((name, user, kubeconfig)) = user_without_rights(&scene) else { return };
    let other = scene.cluster.namespace("namespaced rights too").await;
    let namespaces = [scene.namespace.name().to_owned(), other.name().to_owned()];
    let namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
    let granted = list(&roles(&name, scene.namespace.name(), &namespaces));
    apply(scene.cluster, &granted).await;
    let elected = ["--leader-election", "on", "--lease-namespace", namespaces[0]];
    scene.start_as(&kubeconfig, &namespaces, &elected);
    do_everything_once(&scene).await;

    let refused = refused(scene.cluster, &user, &[namespaces[0], namespaces[1], "kube-system"]);
    assert!(refused.is_empty(), "{refused:?}");
    scene.stop().await;
    scene.cluster.kubectl_with("", &["delete", "-f", "-"], &granted).await.succeeded();
}

#[tokio::test]
async fn a_namespace_listed_later_does_not_remove_other_secrets_from_the_cache() {
    let mut scene = Scene::set("listed later").await;
    let Some((name, _, kubeconfig)) = user_without_rights(&scene) else { return };
    let later = scene.cluster.namespace("listed later too").await;
    let namespaces = [scene.namespace.name().to_owned(), later.name().to_owned()];
    let namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
    apply(scene.cluster, &list(&roles(&name, namespaces[0], &namespaces[..1]))).await;
    scene.start_as(&kubeconfig, &namespaces, &[]);
    scene.logged(&format!("cannot watch Secrets in the namespace {}", later.name())).await;
    scene.create("acme", json!({ "deletionPolicy": "Retain" })).await;
    scene.ready("acme").await;

    let granted = list(&roles(&name, namespaces[0], &namespaces));
    apply(scene.cluster, &granted).await;
    scene.logged(&format!("watching Secrets in the namespace {} again", later.name())).await;
    // If the controller had forgotten the Secret, it would not remove the owner reference, and the Secret would be
    // deleted with its account.
    scene.delete("acme").await;
    let secret = scene.secrets().get("acme-opsadmin").await.expect("the Secret is there");
    assert_eq!(secret.metadata.owner_references, None);
    scene.stop().await;
    scene.cluster.kubectl_with("", &["delete", "-f", "-"], &granted).await.succeeded();
}

#[tokio::test]
async fn accounts_of_a_namespace_that_cannot_be_listed_are_not_orphans() {
    let mut scene = Scene::set("not listed").await;
    let Some((name, _, kubeconfig)) = user_without_rights(&scene) else { return };
    let hidden = scene.cluster.namespace("not listed either").await;
    let namespaces = [scene.namespace.name().to_owned(), hidden.name().to_owned()];
    let namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
    let everything = roles(&name, namespaces[0], &namespaces);
    apply(scene.cluster, &list(&everything)).await;
    let arguments = ["--cluster-id", "here", "--sweep-interval", "1s", "--orphan-grace", "1s"];
    scene.start_as(&kubeconfig, &namespaces, &arguments);
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    let account = json!({ "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": "there" },
        "spec": { "name": "there" } });
    scene.cluster.kubectl_with(hidden.name(), &["apply", "-f", "-"], &account.to_string()).await.succeeded();
    let wait = ["wait", "apiaccount/there", "--for=condition=Ready", "--timeout=60s"];
    scene.cluster.kubectl(hidden.name(), &wait).await.succeeded();
    scene.stop().await;

    let is_hidden = |document: &&Value| document["metadata"]["namespace"] == hidden.name();
    let lost: Vec<_> = everything.iter().filter(is_hidden).cloned().collect();
    scene.cluster.kubectl_with("", &["delete", "-f", "-"], &list(&lost)).await.succeeded();
    scene.start_as(&kubeconfig, &namespaces, &arguments);
    scene.logged(&format!("in the namespace {}", hidden.name())).await;
    let sql = scene.sql().await;
    // Each of these changes is found by a later sweep than the one before. The grace period ends after the third sweep
    // at the latest.
    for number in 0..8 {
        let edit = format!("UPDATE accounts SET description = '{number}' WHERE owner_name = 'acme'");
        let silently = "ALTER TABLE accounts DISABLE TRIGGER accounts_tell";
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("{silently}; {edit}"))).execute(&sql).await.expect("it is edited");
        scene.event_with("acme", "DriftCorrected", &format!(r#""{number}" → """#)).await;
    }
    let enabled: bool = sqlx::query_scalar("SELECT enabled FROM accounts WHERE name = 'there'")
        .fetch_one(&sql)
        .await
        .expect("one account");
    assert!(enabled, "{}", scene.log());
    scene.stop().await;
    scene.cluster.kubectl_with("", &["delete", "-f", "-", "--ignore-not-found"], &list(&everything)).await.succeeded();
}

#[tokio::test]
async fn a_missing_right_is_reported_once_and_the_work_is_done_when_it_is_granted() {
    let mut scene = Scene::set("missing rights").await;
    let Some((name, user, kubeconfig)) = user_without_rights(&scene) else { return };
    let here = scene.namespace.name().to_owned();
    let all = roles(&name, &here, &[&here]);
    let is_of_here = |document: &&Value| document["metadata"]["namespace"] == here;
    let (role, binding) = {
        let find = |kind: &str| all.iter().find(|d| is_of_here(d) && d["kind"] == kind).expect("it is there").clone();
        (find("Role"), find("RoleBinding"))
    };
    let lacking = |resource: &str| {
        let mut role = role.clone();
        let rules = role["rules"].as_array_mut().expect("it has rules");
        rules.retain(|rule| rule["resources"][0] != resource);
        role
    };

    // The user has no rights at all, not even to read the cluster's id.
    let controller = spawn_controller(&kubeconfig, &[&here], scene.database.url(), &scene.keyring, &[]);
    let (code, log) = controller.wait(SOON).await;
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("cannot read the UID of the namespace kube-system") && log.contains("--cluster-id"), "{log}");

    // The user has all rights but those to Secrets.
    scene.start_as(&kubeconfig, &[&here], &["--cluster-id", "here"]);
    refused_often(&scene, &user, "secrets").await;
    apply(scene.cluster, &list(&[lacking("secrets"), binding])).await;
    scene.create("acme", json!({})).await;
    let account = scene.condition("acme", "False", "SecretUnavailable").await;
    let conditions = account.status.expect("it has a status").conditions;
    let message = &conditions[0].message;
    assert!(message.contains("secrets is forbidden") && message.contains("`list` and `watch`"), "{message}");
    assert!(conditions.iter().any(|c| c.type_ == "Stalled" && c.status == "True"), "{conditions:?}");
    // The controller logs the problem after it writes the status.
    scene.logged("SecretUnavailable").await;
    let log = scene.log();
    assert_eq!(log.matches("cannot watch Secrets in the namespace").count(), 1, "{log}");
    assert!(log.matches("cannot watch ApiAccounts in the namespace").count() <= 1, "{log}");
    assert_eq!(log.matches("SecretUnavailable").count(), 1, "{log}");
    scene.delete("acme").await;

    scene.create("acme", json!({})).await;
    scene.condition("acme", "False", "SecretUnavailable").await;
    apply(scene.cluster, &list(std::slice::from_ref(&role))).await;
    scene.ready("acme").await;
    scene.logged("watching Secrets in the namespace").await;

    // The user may list Secrets but not read one. The account's access does not depend on that.
    let mut unreadable = role.clone();
    for rule in unreadable["rules"].as_array_mut().expect("it has rules") {
        if rule["resources"][0] == "secrets" {
            rule["verbs"] = json!(["list", "watch"]);
        }
    }
    apply(scene.cluster, &list(&[unreadable])).await;
    scene.change("acme", json!({ "enabled": false, "secret": { "keys": { "apiKey": "id" } } })).await;
    scene.condition("acme", "False", "SecretUnavailable").await;
    let enabled: bool =
        sqlx::query_scalar("SELECT enabled FROM accounts").fetch_one(&scene.sql().await).await.expect("one account");
    assert!(!enabled);
    apply(scene.cluster, &list(&[role])).await;
    scene.ready("acme").await;
    assert!(scene.data("acme-opsadmin").await.contains_key("id"));
    scene.stop().await;
    scene.cluster.kubectl_with("", &["delete", "-f", "-", "--ignore-not-found"], &list(&all)).await.succeeded();
}
