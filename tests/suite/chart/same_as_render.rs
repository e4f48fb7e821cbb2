//! The chart and `opsadmin render` say the same: the same definition, the same rights and the same Deployment, except
//! for documented differences.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::rendered::{deployment, objects, of_kind, values};
use crate::support::helm::Helm;
use crate::support::opsadmin::Opsadmin;

const IMAGE: &str = "registry.example.com/opsadmin-operator:1.2.3";
const NAMESPACE: &str = "opsadmin-system";

/// Renders the chart so that its objects have the names that `render` uses.
async fn of_chart(name: &str, extra: &[&str]) -> Vec<Value> {
    let own = [
        "--set=image.repository=registry.example.com/opsadmin-operator",
        "--set=image.tag=1.2.3",
        "--set=fullnameOverride=opsadmin-operator",
    ];
    let arguments = [&own[..], extra].concat();
    objects(&Helm::new().await.template("opsadmin-operator", NAMESPACE, &values(name), &arguments).await.succeeded())
}

async fn of_render(extra: &[&str]) -> Vec<Value> {
    let call = Opsadmin::new().args(["render", "--image", IMAGE]).args(extra);
    objects(&call.run().await.succeeded())
}

/// Returns the rights that the roles grant: for each namespace (or everywhere), each rule as text. Roles are
/// comparable whatever their names and however their rules are divided.
fn rights(objects: &[Value]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for role in objects.iter().filter(|object| ["Role", "ClusterRole"].contains(&object["kind"].as_str().unwrap_or("")))
    {
        if role["metadata"]["labels"]
            .as_object()
            .is_some_and(|labels| labels.keys().any(|key| key.contains("aggregate")))
        {
            continue;
        }
        let place = role["metadata"]["namespace"].as_str().unwrap_or("everywhere");
        for rule in role["rules"].as_array().expect("a role has rules") {
            let texts = |field: &str| -> Vec<String> {
                let list = rule[field].as_array().cloned().unwrap_or_default();
                list.iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
            };
            for group in texts("apiGroups") {
                for resource in texts("resources") {
                    for verb in texts("verbs") {
                        all.insert(format!("{place}: {verb} {resource}.{group} {:?}", texts("resourceNames")));
                    }
                }
            }
        }
    }
    all
}

/// Returns whom the bindings of the objects give which role, without names.
fn subjects(objects: &[Value]) -> BTreeSet<String> {
    let bindings =
        objects.iter().filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("Binding")));
    let bindings = bindings.filter(|object| !object["subjects"].is_null());
    let text = |object: &Value| format!("{} {}", object["metadata"]["namespace"], object["subjects"]);
    bindings.map(text).collect()
}

#[tokio::test]
async fn the_chart_grants_the_rights_that_render_grants() {
    let everywhere = (of_chart("postgresql", &[]).await, of_render(&[]).await);
    let chosen = ["--set=watchNamespaces={partners,staging}"];
    let chosen = (of_chart("postgresql", &chosen).await, of_render(&["--watch=partners", "--watch=staging"]).await);
    for (chart, render) in [everywhere, chosen] {
        assert_eq!(rights(&chart), rights(&render));
        assert_eq!(subjects(&chart), subjects(&render));
        assert!(rights(&chart).len() > 10, "{:?}", rights(&chart));
    }
}

#[tokio::test]
async fn a_revocation_lag_that_is_given_counts_and_sqlite_needs_none() {
    let lags = |objects: &[Value]| -> Vec<String> {
        let arguments = comparable(objects, "controller")["spec"]["template"]["spec"]["containers"][0]["args"].clone();
        let arguments = arguments.as_array().expect("a list").iter().map(|argument| argument.as_str().expect("a text"));
        arguments.filter(|argument| argument.starts_with("--revocation-lag")).map(str::to_owned).collect()
    };
    assert_eq!(lags(&of_chart("auth-server", &["--set=controller.revocationLag=3s"]).await), ["--revocation-lag=3s"]);
    assert_eq!(lags(&of_chart("auth-server-sqlite", &[]).await), Vec::<String>::new());
    assert_eq!(lags(&of_chart("postgresql", &[]).await), Vec::<String>::new());
    let server = ["--auth-server=https://auth.example.com", "--auth-server-networks=10.244.0.0/16"];
    let given = [&server[..], &["--controller-arg=--revocation-lag=3s"]].concat();
    assert_eq!(lags(&of_render(&given).await), ["--revocation-lag=3s"]);
    assert_eq!(lags(&of_render(&[]).await), Vec::<String>::new());
}

#[tokio::test]
async fn the_chart_installs_the_definition_that_render_installs() {
    let (chart, render) = (of_chart("default", &[]).await, of_render(&[]).await);
    let definition = |objects: &[Value]| of_kind(objects, "CustomResourceDefinition")[0].clone();
    let (chart, render) = (definition(&chart), definition(&render));
    assert_eq!(chart["spec"], render["spec"]);
    assert_eq!(chart["metadata"]["name"], render["metadata"]["name"]);
    assert_eq!(chart["metadata"]["annotations"], json!({ "helm.sh/resource-policy": "keep" }));
    let gone = of_chart("default", &["--set=crds.keep=false"]).await;
    assert_eq!(definition(&gone)["metadata"]["annotations"], Value::Null);
    assert_eq!(definition(&gone)["spec"], chart["spec"]);
}

/// Removes what is known to differ: labels of Helm, fields that the chart fills with values, and the Lease's name, which
/// the chart names and `render` leaves to the program's default.
fn comparable(objects: &[Value], container: &str) -> Value {
    let mut deployment = deployment(objects, container).clone();
    deployment["metadata"]["labels"].take();
    let spec = &mut deployment["spec"];
    spec["selector"].take();
    spec["template"]["metadata"]["labels"].take();
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("revisionHistoryLimit");
        spec["strategy"].as_object_mut().expect("a strategy").remove("rollingUpdate");
    }
    // The chart restarts the pods when the table of paths changes.
    spec["template"]["metadata"]["annotations"].take();
    let pod = spec["template"]["spec"].as_object_mut().expect("a pod");
    pod.remove("topologySpreadConstraints");
    let container = &mut pod["containers"][0];
    container.as_object_mut().expect("a container").remove("imagePullPolicy");
    let variables = container["env"].as_array_mut().expect("it has variables");
    variables.retain(|variable| variable["name"] != "OPSADMIN_LEASE_NAME");
    variables.sort_by_key(|variable| variable["name"].to_string());
    deployment
}

#[tokio::test]
async fn the_chart_runs_the_deployment_that_render_runs() {
    let chart = comparable(&of_chart("postgresql", &[]).await, "controller");
    let render = comparable(&of_render(&[]).await, "controller");
    assert_eq!(chart, render, "\nchart:  {chart}\nrender: {render}");
    let chosen = comparable(&of_chart("postgresql", &["--set=watchNamespaces={a,b}"]).await, "controller");
    let watched = comparable(&of_render(&["--watch=a", "--watch=b"]).await, "controller");
    assert_eq!(chosen, watched);
}

#[tokio::test]
async fn the_chart_runs_the_auth_server_that_render_runs() {
    let options = ["--auth-server=https://auth.example.com", "--auth-server-networks=10.244.0.0/16"];
    let further = "--auth-server-arg=--trusted-proxies=10.0.0.7,10.0.0.8";
    let without = (of_chart("postgresql", &[]).await, of_render(&[]).await);
    let with = (
        of_chart("auth-server", &["--set=authServer.trustedProxies={10.0.0.7,10.0.0.8}"]).await,
        of_render(&[&options[..], &[further]].concat()).await,
    );
    let arguments = |objects: &[Value]| comparable(objects, "auth-server")["spec"]["template"]["spec"].clone();
    assert_eq!(arguments(&with.0), arguments(&with.1));
    // The controller beside it waits until no auth server lets an account in any more.
    let controller = comparable(&with.0, "controller");
    assert_eq!(controller, comparable(&with.1, "controller"));
    assert!(controller.to_string().contains("\"--revocation-lag=1s\""), "{controller}");
    let (chart, render) = (added(&without.0, &with.0), added(&without.1, &with.1));
    assert_eq!(chart.keys().collect::<Vec<_>>(), render.keys().collect::<Vec<_>>());
    assert!(chart.len() == 6, "{chart:?}");
    for (name, object) in chart {
        assert_eq!(object, render[&name], "{name}");
    }
    assert_eq!(rights(&with.0), rights(&without.0), "the auth server has no right");
    assert_eq!(subjects(&with.0), subjects(&without.0), "the auth server has no right");
}

/// Returns the objects that are only in the second list, by kind and name. Leaves out labels and selectors, which differ,
/// and a Deployment's pods, which `comparable` compares.
fn added(before: &[Value], after: &[Value]) -> BTreeMap<String, Value> {
    let name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
    let known: BTreeSet<String> = before.iter().map(name).collect();
    let of = |object: &Value| {
        let mut object = object.clone();
        object["metadata"].as_object_mut().expect("metadata").remove("labels");
        if object["kind"] == "Deployment" {
            object["spec"].take();
        } else if let Some(spec) = object["spec"].as_object_mut() {
            spec.remove("selector").expect("it selects pods");
        }
        object
    };
    let new = after.iter().filter(|object| !known.contains(&name(object)));
    new.map(|object| (name(object), of(object))).collect()
}

#[test]
fn the_chart_carries_the_table_of_paths_of_the_examples() {
    let (ours, charts) = (
        crate::guides::page("examples/login/paths.yaml"),
        crate::guides::page("charts/opsadmin-operator/files/paths.yaml"),
    );
    assert!(ours == charts, "copy examples/login/paths.yaml to charts/opsadmin-operator/files");
}

#[test]
fn the_chart_carries_the_definition_of_the_repository() {
    let name = "apiaccounts.ops-admin.com.yaml";
    let read = |path: String| std::fs::read_to_string(crate::guides::repository(&path)).expect("it can be read");
    let (ours, charts) = (read(format!("crds/{name}")), read(format!("charts/opsadmin-operator/files/{name}")));
    if std::env::var_os("OPSADMIN_TEST_WRITE").is_some() {
        let path = format!("charts/opsadmin-operator/files/{name}");
        std::fs::write(crate::guides::repository(&path), &ours).expect("it can be written");
    } else {
        assert!(ours == charts, "copy crds/{name} to charts/opsadmin-operator/files, or set OPSADMIN_TEST_WRITE=1");
    }
}
