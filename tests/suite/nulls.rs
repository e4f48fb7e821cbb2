//! A field without a value is refused, by the API server for every client, and by the commands without a cluster.

use http::{Method, Request};
use kube::api::ListParams;
use kube::{Api, Client};
use opsadmin_operator::account::{ClusterId, Period};
use opsadmin_operator::api::{ApiAccount, definition};
use opsadmin_operator::manifests::{self, Options, Source};
use serde_json::{Value, json};

use crate::support::cluster::cluster;

const REFUSED: &str = "has no value: give it one, or leave the field out";

/// A part of the API server's message for a null in an enumeration.
const UNSUPPORTED: &str = "Unsupported value: ";

/// The fields without a default. The API server drops a null there, which gives no account wider access.
const WITHOUT_DEFAULT: [&str; 7] =
    ["name", "rotation", "rotation.interval", "rotation.trigger", "secret.annotations", "secret.labels", "secret.name"];

/// Returns the path of every field of `spec`, and whether the field has a default.
fn fields() -> Vec<(Vec<String>, bool)> {
    let schema = json!(definition().spec.versions[0].schema.as_ref().expect("it has a schema").open_api_v3_schema);
    let mut found = Vec::new();
    collect(&schema["properties"]["spec"], &[], &mut found);
    assert!(found.len() > 15, "{found:?}");
    found
}

fn collect(schema: &Value, above: &[String], found: &mut Vec<(Vec<String>, bool)>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = [above, std::slice::from_ref(name)].concat();
        collect(field, &path, found);
        found.push((path, !field["default"].is_null()));
    }
}

fn is_map(field: &[String]) -> bool {
    field == ["secret"] || field == ["secret", "keys"]
}

/// Returns a resource whose spec has only this field, with the value null.
fn with_null(field: &[String]) -> Value {
    let spec = field.iter().rev().fold(Value::Null, |inner, name| json!({ name: inner }));
    json!({ "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": "acme" }, "spec": spec })
}

#[test]
fn a_field_without_a_value_is_refused_offline() {
    let cluster = ClusterId::parse("test").expect("a cluster id");
    let options = Options { cluster, default_namespace: "default".to_owned(), least_interval: Period::NONE };
    for (field, _) in fields() {
        let manifest = with_null(&field).to_string();
        let invalid = manifests::read(&[Source::Stdin], manifest.as_bytes(), &options).expect_err("it is refused");
        let expected = format!("spec.{}: {REFUSED}", field.join("."));
        assert!(invalid.to_string().contains(&expected), "{expected}: {invalid}");
    }
}

#[test]
fn the_fields_without_a_default_are_those_that_may_be_null() {
    let without = fields().into_iter().filter(|(_, has_default)| !has_default);
    let mut without: Vec<String> = without.map(|(path, _)| path.join(".")).collect();
    without.sort();
    assert_eq!(without, WITHOUT_DEFAULT);
}

#[tokio::test]
async fn a_field_without_a_value_is_refused_at_admission_for_every_client() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("nulls").await;
    let client = cluster.client().await;
    let at = format!("/apis/ops-admin.com/v1/namespaces/{}/apiaccounts", namespace.name());
    let existing = format!("{at}/acme");
    let spec = json!({
        "affiliate": "North", "enabled": false, "useRefreshToken": true, "allowedIPs": ["203.0.113.7"],
        "rotation": { "interval": "720h", "overlap": "0s" },
    });
    let first =
        json!({ "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": "acme" }, "spec": spec });
    let mut made = send(&client, Method::POST, &at, "application/json", &first).await.expect("it is made");
    let unchanged = made["spec"].clone();
    let mut wrong = Vec::new();
    for (field, _) in fields().into_iter().filter(|(_, has_default)| *has_default) {
        let mut manifest = with_null(&field);
        let mut answers = Vec::new();
        let applied = format!("{existing}?fieldManager=test&force=true");
        let apply = send(&client, Method::PATCH, &applied, "application/apply-patch+yaml", &manifest).await;
        if is_map(&field) {
            // Server-side apply treats a null object as an object without fields.
            made = apply.expect("it is taken");
            assert_eq!(made["spec"], unchanged, "{field:?}");
        } else {
            answers.push(("applied", apply));
        }
        manifest["metadata"] = made["metadata"].clone();
        answers.push(("updated", send(&client, Method::PUT, &existing, "application/json", &manifest).await));
        manifest["metadata"] = json!({ "name": "other" });
        answers.push(("created", send(&client, Method::POST, &at, "application/json", &manifest).await));
        for (how, answer) in answers {
            let path = format!("spec.{}", field.join("."));
            match answer {
                Err(message)
                    if message.contains(&path) && (message.contains(REFUSED) || message.contains(UNSUPPORTED)) => {}
                other => wrong.push(format!("{path} {how}: {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let accounts: Api<ApiAccount> = Api::namespaced(client, namespace.name());
    let read = accounts.list(&ListParams::default()).await.expect("they can be read");
    assert_eq!(read.items.len(), 1);
    assert_eq!(read.items[0].spec.allowed_ips, Some(vec!["203.0.113.7".to_owned()]));
}

/// Sends an object to the API server. The error is the API server's message.
async fn send(client: &Client, method: Method, uri: &str, content: &str, object: &Value) -> Result<Value, String> {
    let request = Request::builder().method(method).uri(uri).header("content-type", content);
    let request = request.body(object.to_string().into_bytes()).expect("a request");
    match client.request::<Value>(request).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err(status.message),
        Err(error) => panic!("{uri}: {error}"),
    }
}
