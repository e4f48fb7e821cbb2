//! The policy for grants on the real API server: what it asks for, what it says, and what it lets through.

use serde_json::{Value, json};

use super::office::{Office, account};
use crate::controller::rights::{list, roles, user_without_rights};
use crate::controller::scene::{SOON, Scene};
use crate::support::cluster::cluster;
use crate::support::run::Finished;
use crate::support::wait::eventually;

const DRY_RUN: [&str; 4] = ["create", "--dry-run=server", "-f", "-"];

/// Waits until the API server enforces the policy, and returns what it says.
async fn in_force(office: &Office) -> String {
    eventually("the policy to be in force", SOON, async || {
        let asked = office.kubectl("probe", &DRY_RUN, &account("probe", &json!({}))).await;
        if asked.stderr.contains("may not grant") { Ok(asked.stderr) } else { Err(asked.stderr) }
    })
    .await
}

/// Waits until a call succeeds, because the API server takes up new rights a moment later.
async fn allowed(call: impl AsyncFn() -> Finished) {
    eventually("the right to count", SOON, async || {
        let finished = call().await;
        if finished.status.success() { Ok(()) } else { Err(finished.stderr) }
    })
    .await;
}

#[track_caller]
fn refused(finished: &Finished, what: &str) {
    let expected = format!("may not grant {what} ");
    assert!(!finished.status.success() && finished.stderr.contains(&expected), "{expected:?}: {finished:?}");
}

#[tokio::test]
async fn a_creation_needs_each_right_and_the_message_gives_them() {
    let office = Office::open(cluster().await, "grants create", "deny").await;
    in_force(&office).await;
    let spec = json!({ "roles": ["Customer", "PlansAndRates", "Administrator"] });
    let said = office.create("alice", "all", &spec).await;
    refused(&said, "the role Administrator");
    let needs = "The change needs the right to grant: the role Customer, the role PlansAndRates, the role Administrator, \
                 every affiliate. ";
    assert!(said.stderr.contains(needs), "{said:?}");
    office.grant_as_advised(&said.stderr).await;
    allowed(async || office.create("alice", "all", &spec).await).await;

    // The rights are for alice, and for no other user or namespace.
    refused(&office.create("bob", "other", &spec).await, "the role Administrator");
    refused(&office.create("bob", "other", &json!({ "affiliate": "*" })).await, "every affiliate");
    // An account that is only observed or not enabled could be changed to a working one without adding a role.
    for spec in [json!({ "managementPolicy": "Observe" }), json!({ "enabled": false })] {
        refused(&office.create("bob", "other", &spec).await, "every affiliate");
    }

    // A service account, as Argo CD and Flux use it, and an affiliate whose name has every kind of character.
    let author = format!("system:serviceaccount:{}:argocd", office.namespace.name());
    let odd = json!({ "roles": ["Customer"], "affiliate": r#"Bri"ght/\Energy's 100% é"# });
    let said = office.create(&author, "odd", &odd).await;
    refused(&said, "the role Customer");
    office.grant_as_advised(&said.stderr).await;
    allowed(async || office.create(&author, "odd", &odd).await).await;
    refused(&office.create(&author, "else", &json!({ "affiliate": "Bright" })).await, "the affiliate Bright");
    refused(&office.create(&author, "else", &json!({})).await, "every affiliate");
    let other_role = json!({ "roles": ["PlansAndRates"], "affiliate": odd["affiliate"] });
    refused(&office.create(&author, "else", &other_role).await, "the role PlansAndRates");

    // A generated name, and values that the schema refuses with its own message.
    let generated = account("x", &odd).replace(r#""name":"x""#, r#""generateName":"x-""#);
    office.kubectl(&author, &["create", "-f", "-"], &generated).await.succeeded();
    refused(&office.kubectl("bob", &["create", "-f", "-"], &generated).await, "the role Customer");
    let unknown = office.create("bob", "else", &json!({ "roles": ["Owner"] })).await;
    assert!(unknown.stderr.contains("Unsupported value: \"Owner\""), "{unknown:?}");
    let null = office.create("bob", "else", &json!({ "roles": null })).await;
    assert!(null.stderr.contains("has no value: give it one"), "{null:?}");

    // A cluster administrator may grant everything.
    let everything = account("admin", &spec);
    let admin = office.cluster.kubectl_with(office.namespace.name(), &["create", "-f", "-"], &everything).await;
    admin.succeeded();
    office.close().await;
}

/// The rights of alice: the role Customer and the affiliates Bright and Other.
fn rights_of_alice(namespace: &str) -> String {
    let metadata = json!({ "name": "alice", "namespace": namespace });
    let grant = |resource: &str, names: &[&str]| json!({ "apiGroups": ["ops-admin.com"], "resources": [resource], "resourceNames": names, "verbs": ["grant"] });
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
        "rules": [grant("apiroles", &["Customer"]), grant("affiliates", &["Bright", "Other"])] });
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "alice" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice" }] });
    list(&[role, binding])
}

#[tokio::test]
async fn an_update_needs_rights_only_for_what_it_adds() {
    let office = Office::open(cluster().await, "grants update", "deny").await;
    in_force(&office).await;
    let rights = rights_of_alice(office.namespace.name());
    office.cluster.kubectl_with("", &["apply", "-f", "-"], &rights).await.succeeded();
    for (name, apply) in [("client", &["apply", "-f", "-"][..]), ("server", &["apply", "--server-side", "-f", "-"])] {
        // Server-side apply refuses to change what another field manager has. That is not what this test is about.
        let forced: Vec<&str> =
            apply.iter().copied().chain((name == "server").then_some("--force-conflicts")).collect();
        let run = async |user: &str, spec: Value| office.kubectl(user, &forced, &account(name, &spec)).await;
        let base = json!({ "roles": ["Customer"], "affiliate": "Bright" });
        allowed(async || run("alice", base.clone()).await).await;

        refused(
            &run("alice", json!({ "roles": ["Customer", "PlansAndRates"], "affiliate": "Bright" })).await,
            "the role PlansAndRates",
        );
        refused(
            &run("alice", json!({ "roles": ["Administrator"], "affiliate": "Bright" })).await,
            "the role Administrator",
        );
        refused(&run("alice", json!({ "roles": ["Customer"] })).await, "every affiliate");
        refused(&run("alice", json!({ "roles": ["Customer"], "affiliate": "Third" })).await, "the affiliate Third");
        run("alice", json!({ "roles": ["Customer"], "affiliate": "Other" })).await.succeeded();
        refused(&run("bob", base.clone()).await, "the affiliate Bright");
        run("alice", base.clone()).await.succeeded();

        // bob has no right to grant anything.
        let edited = json!({ "roles": ["Customer"], "affiliate": "Bright", "name": "renamed", "enabled": false,
            "description": "edited", "adoptionPolicy": "IfUnowned", "allowedIPs": [] });
        run("bob", edited).await.succeeded();
        run("bob", json!({ "roles": [], "affiliate": "Bright" })).await.succeeded();
        refused(&run("bob", base.clone()).await, "the role Customer");
        run("alice", base).await.succeeded();
        let resource = format!("apiaccount/{name}");
        office.kubectl("bob", &["label", &resource, "team=blue"], "").await.succeeded();
        office.kubectl("bob", &["delete", &resource], "").await.succeeded();

        // From every affiliate to one of them, nothing is added.
        let admin = account(name, &json!({ "roles": ["Customer"] }));
        office.cluster.kubectl_with(office.namespace.name(), &forced, &admin).await.succeeded();
        run("bob", json!({ "roles": ["Customer"], "affiliate": "Third" })).await.succeeded();
        refused(&run("bob", json!({ "roles": ["Customer"] })).await, "every affiliate");
    }
    office.close().await;
}

#[tokio::test]
async fn in_warn_mode_the_change_is_done_with_a_warning_for_each_missing_right() {
    let office = Office::open(cluster().await, "grants warn", "warn").await;
    in_force(&office).await;
    let said = office.create("alice", "acme", &json!({ "roles": ["Customer"] })).await;
    for what in ["the role Customer", "every affiliate"] {
        assert!(said.stderr.contains(&format!("alice may not grant {what} ")), "{said:?}");
    }
    said.succeeded();
    let said = office.kubectl("alice", &["label", "apiaccount/acme", "team=blue"], "").await;
    assert_eq!(said.stderr, "");
    office.close().await;
}

#[tokio::test]
async fn the_controller_needs_no_right_to_grant() {
    let scene = Scene::set("grants controller").await;
    let Some((name, _, kubeconfig)) = user_without_rights(&scene) else { return };
    let office = Office::open(scene.cluster, "grants controller too", "deny").await;
    in_force(&office).await;
    let here = office.namespace.name().to_owned();
    let granted = list(&roles(&name, scene.namespace.name(), &[&here]));
    scene.cluster.kubectl_with("", &["apply", "-f", "-"], &granted).await.succeeded();
    let mut scene = scene;
    scene.start_as(&kubeconfig, &[&here], &[]);

    let spec = json!({ "roles": ["Customer", "Administrator"] });
    scene.cluster.kubectl_with(&here, &["create", "-f", "-"], &account("acme", &spec)).await.succeeded();
    let wait = ["wait", "apiaccount/acme", "--for=condition=Ready", "--timeout=60s"];
    scene.cluster.kubectl(&here, &wait).await.succeeded();
    // The controller removes its finalizer.
    scene.cluster.kubectl(&here, &["delete", "apiaccount/acme", "--timeout=60s"]).await.succeeded();
    let log = scene.stop().await;
    assert!(!log.contains("may not grant") && !log.contains("forbidden"), "{log}");
    scene.cluster.kubectl_with("", &["delete", "-f", "-", "--ignore-not-found"], &granted).await.succeeded();
    office.close().await;
}
