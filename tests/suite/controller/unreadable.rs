//! A resource that this program cannot read, because of a foreign status or a newer definition. The controller reports
//! it, and still reconciles the other resources.

use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::scene::{SOON, Scene};
use crate::support::cluster::Cluster;
use crate::support::opsadmin::Opsadmin;
use crate::support::wait::eventually;

/// An invalid time that the API server accepts.
const NO_TIME: &str = "2026-11-27T09:00:00+99:00";

/// Writes into the status of an account, as a user with rights in its namespace can do.
async fn write_status(scene: &Scene, name: &str, status: Value) {
    let patch = json!({ "status": status }).to_string();
    let arguments = ["patch", "apiaccount", name, "--subresource=status", "--type=merge", "-p", &patch];
    scene.cluster.kubectl(scene.namespace.name(), &arguments).await.succeeded();
}

async fn next_rotation(scene: &Scene, name: &str) -> String {
    let arguments = ["get", "apiaccount", name, "-o", "jsonpath={.status.nextRotation}"];
    scene.cluster.kubectl(scene.namespace.name(), &arguments).await.succeeded()
}

async fn wait_until_rewritten(scene: &Scene, name: &str) {
    eventually("the status to be written anew", SOON, async || match next_rotation(scene, name).await {
        found if found.is_empty() => Ok(()),
        found => Err(format!("{found}\n{}", scene.log())),
    })
    .await;
}

#[tokio::test]
async fn an_unreadable_status_stops_no_other_account_and_is_written_again() {
    let mut scene = Scene::with_controller("unreadable status", &[]).await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;

    // While the controller runs, the next change is reconciled all the same.
    write_status(&scene, "acme", json!({ "nextRotation": NO_TIME })).await;
    scene.change("acme", json!({ "enabled": false })).await;
    scene.ready("acme").await;
    wait_until_rewritten(&scene, "acme").await;

    // The same holds at a start, which lists all resources.
    scene.stop().await;
    write_status(&scene, "acme", json!({ "nextRotation": NO_TIME })).await;
    assert_eq!(next_rotation(&scene, "acme").await, NO_TIME, "the API server takes it");
    let listed = Opsadmin::new().args(["release", "-n", scene.namespace.name()]);
    let listed = listed.args(["--kubeconfig".as_ref(), scene.cluster.kubeconfig().as_os_str()]);
    listed.run().await.succeeded();
    scene.create("other", json!({})).await;
    scene.start(&[]);
    scene.ready("other").await;
    wait_until_rewritten(&scene, "acme").await;
    scene.ready("acme").await;
}

#[tokio::test]
async fn an_unknown_deletion_policy_is_reported_and_deletes_nothing() {
    let cluster = Cluster::of_its_own().await;
    cluster.install_definitions().await;
    let at = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/deletionPolicy/enum/-";
    let newer = json!([{ "op": "add", "path": at, "value": "Archive" }]).to_string();
    let definition = ["patch", "crd", "apiaccounts.ops-admin.com", "--type=json", "-p", &newer];
    cluster.kubectl("", &definition).await.succeeded();
    let mut scene = Scene::set_on(cluster.0, "newer definition").await;
    let sql = scene.sql().await;
    scene.start(&[]);
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    let archive = r#"{"spec":{"deletionPolicy":"Archive"}}"#;
    eventually("the newer definition to be served", SOON, async || {
        let patch = ["patch", "apiaccount", "acme", "--type=merge", "-p", archive];
        let patched = cluster.kubectl(scene.namespace.name(), &patch).await;
        if patched.status.success() { Ok(()) } else { Err(patched.stderr) }
    })
    .await;
    scene.condition("acme", "False", "InvalidSpec").await;

    scene.accounts().delete("acme", &DeleteParams::default()).await.expect("the API server takes the deletion");
    scene.event_with("acme", "InvalidSpec", "until then nothing is deleted").await;
    let kept = scene.condition("acme", "False", "InvalidSpec").await;
    let message = &kept.status.as_ref().expect("it has a status").conditions[0].message;
    assert!(message.starts_with("spec.deletionPolicy: must be Delete or Retain"), "{message}");
    scene.stop().await;
    scene.start(&[]);
    scene.create("other", json!({})).await;
    scene.ready("other").await;
    let enabled = "SELECT name FROM accounts WHERE enabled ORDER BY name";
    let names: Vec<String> = sqlx::query_scalar(enabled).fetch_all(&sql).await.expect("an answer");
    assert_eq!(names, ["acme", "other"]);

    scene.change("acme", json!({ "deletionPolicy": "Delete" })).await;
    eventually("it to go", SOON, async || {
        let names: Vec<String> =
            sqlx::query_scalar(enabled).fetch_all(&sql).await.map_err(|error| error.to_string())?;
        let left = scene.accounts().get_opt("acme").await.map_err(|error| error.to_string())?;
        if names == ["other"] && left.is_none() { Ok(()) } else { Err(format!("{names:?}\n{}", scene.log())) }
    })
    .await;
}

/// Adds to the managed fields of an object, as every user can do who may write the object.
async fn write_managed_fields(scene: &Scene, kind: &str, name: &str, version: &str, time: &str, fields: &str) {
    let entry = format!(
        r#"{{"manager":"somebody","operation":"Update","apiVersion":"{version}","time":"{time}","fieldsType":"FieldsV1","fieldsV1":{fields}}}"#
    );
    let patch = format!(r#"[{{"op":"add","path":"/metadata/managedFields/-","value":{entry}}}]"#);
    let arguments = ["patch", kind, name, "--type=json", "-p", &patch];
    scene.cluster.kubectl(scene.namespace.name(), &arguments).await.succeeded();
}

#[tokio::test]
async fn unreadable_managed_fields_stop_no_other_account() {
    // The test has its own cluster, because other tests could not list these objects.
    let cluster = Cluster::of_its_own().await;
    cluster.install_definitions().await;
    let mut scene = Scene::set_on(cluster.0, "managed fields").await;
    let sql = scene.sql().await;
    scene.start(&[]);
    for name in ["late", "deep", "acme"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    scene.stop().await;
    let deep = format!("{}{{}}{}", r#"{"f:data":"#.repeat(200), "}".repeat(200));
    // The API server accepts this as a time in the year 9999, and then shows it as a time in the year 10000.
    write_managed_fields(&scene, "secret", "late-opsadmin", "v1", "9999-12-31T23:59:59-23:59", "{}").await;
    write_managed_fields(&scene, "secret", "deep-opsadmin", "v1", "2026-11-27T09:00:00Z", &deep).await;
    write_managed_fields(&scene, "apiaccount", "acme", "ops-admin.com/v1", "2026-11-27T09:00:00Z", &deep).await;
    assert!(scene.accounts().get("acme").await.is_err(), "whoever reads all of it cannot");

    let listed = Opsadmin::new().args(["release", "-A"]);
    let listed = listed.args(["--kubeconfig".as_ref(), cluster.kubeconfig().as_os_str()]);
    listed.run().await.succeeded();
    scene.start(&[]);
    scene.create("other", json!({})).await;
    scene.ready("other").await;
    let disable = ["patch", "apiaccount", "acme", "--type=merge", "-p", r#"{"spec":{"enabled":false}}"#];
    cluster.kubectl(scene.namespace.name(), &disable).await.succeeded();
    eventually("it to be disabled", SOON, async || {
        let enabled = "SELECT name FROM accounts WHERE enabled ORDER BY name";
        let names: Vec<String> =
            sqlx::query_scalar(enabled).fetch_all(&sql).await.map_err(|error| error.to_string())?;
        if names == ["deep", "late", "other"] { Ok(()) } else { Err(format!("{names:?}\n{}", scene.log())) }
    })
    .await;
    let log = scene.stop().await;
    assert!(!log.contains("cannot watch"), "{log}");
}

#[tokio::test]
async fn an_unknown_status_field_stays_when_the_status_is_written() {
    let cluster = Cluster::of_its_own().await;
    cluster.install_definitions().await;
    let at = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/newer";
    let newer = json!([{ "op": "add", "path": at, "value": { "type": "string" } }]).to_string();
    let definition = ["patch", "crd", "apiaccounts.ops-admin.com", "--type=json", "-p", &newer];
    cluster.kubectl("", &definition).await.succeeded();
    let mut scene = Scene::set_on(cluster.0, "newer status").await;
    scene.start(&[]);
    scene.create("acme", json!({ "rotation": { "interval": "720h" } })).await;
    scene.ready("acme").await;
    let path = ["get", "apiaccount", "acme", "-o", "jsonpath={.status.newer}"];
    eventually("the newer definition to be served", SOON, async || {
        write_status(&scene, "acme", json!({ "newer": "kept" })).await;
        match cluster.kubectl(scene.namespace.name(), &path).await.succeeded() {
            found if found == "kept" => Ok(()),
            found => Err(found),
        }
    })
    .await;
    assert!(!next_rotation(&scene, "acme").await.is_empty());
    scene.change("acme", json!({ "enabled": false, "rotation": null })).await;
    scene.ready("acme").await;
    assert_eq!(cluster.kubectl(scene.namespace.name(), &path).await.succeeded(), "kept");
    assert_eq!(next_rotation(&scene, "acme").await, "", "and what is known is as it should be");
    scene.stop().await;
}
