//! The auth server in the chart: the program accepts what the chart gives it, no right comes with it, and no other
//! component's network rules select its pods.

use serde_json::{Value, json};

use super::rendered::{deployment, objects, of_kind, values};
use crate::support::cluster::cluster;
use crate::support::helm::Helm;
use crate::support::namespace::TestNamespace;
use crate::support::opsadmin::Opsadmin;

const FILES: [&str; 3] = ["auth-server", "auth-server-sqlite", "everything"];

async fn rendered(name: &str) -> Vec<Value> {
    objects(&Helm::new().await.template("ops", "ops", &values(name), &[]).await.succeeded())
}

fn arguments(container: &Value) -> Vec<&str> {
    container["args"].as_array().expect("a list").iter().map(|argument| argument.as_str().expect("a text")).collect()
}

#[tokio::test]
async fn the_values_arrive_in_the_pod_and_the_program_accepts_them() {
    for name in FILES {
        let all = rendered(name).await;
        let server = deployment(&all, "auth-server");
        let pod = &server["spec"]["template"]["spec"];
        let arguments = arguments(&pod["containers"][0]);
        Opsadmin::new().args(&arguments).args(["--help"]).run().await.succeeded();
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        match name {
            "auth-server" => assert_eq!(server["spec"]["replicas"], 2),
            "auth-server-sqlite" => {
                assert_eq!(server["spec"]["replicas"], 1);
                assert_eq!(server["spec"]["strategy"], json!({ "type": "Recreate" }));
                let beside = &pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
                assert_eq!(beside["labelSelector"]["matchLabels"]["app.kubernetes.io/component"], "controller");
                assert!(arguments.contains(&"--internal-networks=10.244.0.0/16,fd00:10:244::/56"), "{arguments:?}");
            }
            _ => {
                for argument in [
                    "--issuer=https://auth.example.com/opsadmin",
                    "--trusted-proxies=10.96.0.10,10.244.7.0/24",
                    "--tls-key=/etc/opsadmin-tls/tls.key",
                    "--internal-tls",
                    "--introspection-token-file=/etc/opsadmin-introspection/token",
                    "--short-token-lifetime=20s",
                ] {
                    assert!(arguments.contains(&argument), "{argument}: {arguments:?}");
                }
                let probes = ["livenessProbe", "readinessProbe"].map(|probe| &pod["containers"][0][probe]["httpGet"]);
                assert!(probes.iter().all(|probe| probe["scheme"] == "HTTPS"), "{probes:?}");
            }
        }
    }
}

#[tokio::test]
async fn the_database_login_is_not_the_controllers() {
    for name in ["auth-server", "everything"] {
        let all = rendered(name).await;
        let login = |container: &str| {
            let pod = &deployment(&all, container)["spec"]["template"]["spec"];
            let variables = pod["containers"][0]["env"].as_array().expect("a list");
            let url = variables.iter().find(|variable| variable["name"] == "OPSADMIN_DATABASE_URL").expect("a URL");
            let volumes = pod["volumes"].as_array().expect("a list");
            let password = volumes.iter().find(|volume| volume["name"] == "database").map(|volume| &volume["secret"]);
            (url.clone(), password.cloned())
        };
        assert_ne!(login("controller").0, login("auth-server").0, "{name}");
        let passwords = (login("controller").1, login("auth-server").1);
        assert!(passwords.0.is_none() || passwords.0 != passwords.1, "{name}");
    }
}

#[tokio::test]
async fn the_table_of_paths_is_one_that_the_program_reads_and_a_change_restarts_the_pods() {
    let mut sums = Vec::new();
    for name in FILES {
        let all = rendered(name).await;
        let maps = of_kind(&all, "ConfigMap");
        let table = maps.iter().find_map(|map| map["data"]["paths.yaml"].as_str()).expect("a table");
        opsadmin_operator::login::PathTable::parse(table).unwrap_or_else(|error| panic!("{name}: {error}"));
        let annotations = &deployment(&all, "auth-server")["spec"]["template"]["metadata"]["annotations"];
        sums.push(annotations["checksum/paths"].clone());
    }
    assert!(sums[0] == sums[1] && sums[0] != sums[2] && sums[0].is_string(), "{sums:?}");
}

/// Returns whether a selector of any form selects pods with these labels.
fn selects(selector: &Value, labels: &Value) -> bool {
    let of = |field: &str| selector[field].as_object().cloned();
    let exact = of("matchLabels").or_else(|| selector.as_object().cloned()).unwrap_or_default();
    let expressions = selector["matchExpressions"].as_array().cloned().unwrap_or_default();
    exact.iter().filter(|(_, value)| value.is_string()).all(|(key, value)| labels[key] == *value)
        && expressions.iter().all(|one| {
            assert_eq!(one["operator"], "In", "{one}");
            let key = one["key"].as_str().expect("a key");
            one["values"].as_array().is_some_and(|values| values.contains(&labels[key]))
        })
}

#[tokio::test]
async fn each_object_selects_the_pods_of_one_component() {
    let all = rendered("everything").await;
    let labels = |container: &str| deployment(&all, container)["spec"]["template"]["metadata"]["labels"].clone();
    let (controller, server) = (labels("controller"), labels("auth-server"));
    let mut selected = (0, 0);
    for object in &all {
        let spec = &object["spec"];
        let selector = match object["kind"].as_str().expect("a kind") {
            "NetworkPolicy" => &spec["podSelector"],
            "Service" | "PodDisruptionBudget" | "PodMonitor" | "Deployment" => &spec["selector"],
            _ => continue,
        };
        let found = (selects(selector, &controller), selects(selector, &server));
        assert!(found.0 != found.1, "{} {} selects {found:?}", object["kind"], object["metadata"]["name"]);
        selected = (selected.0 + i32::from(found.0), selected.1 + i32::from(found.1));
    }
    // A NetworkPolicy, a PodDisruptionBudget, a PodMonitor and a Deployment each, with one and with two Services.
    assert_eq!(selected, (5, 6));
}

#[tokio::test]
async fn the_internal_listener_is_open_to_chosen_pods_only() {
    let all = rendered("everything").await;
    let policies = of_kind(&all, "NetworkPolicy");
    let policy = policies.iter().find(|policy| policy["metadata"]["name"] == "ops-operator-auth-server").expect("one");
    let rules = policy["spec"]["ingress"].as_array().expect("a list");
    let ports: Vec<&Value> = rules.iter().map(|rule| &rule["ports"][0]["port"]).collect();
    assert_eq!(ports, [8088, 8089]);
    let chosen = rules[1]["from"].as_array().expect("it lists who may ask");
    assert_eq!(chosen.len(), 2, "the proxies and Prometheus: {chosen:?}");
    let open = ["--set=networkPolicy.enabled=true", "--set=authServer.networkPolicy.internalFrom[0].podSelector.a=b"];
    let minimal = Helm::new().await.template("ops", "ops", &values("auth-server"), &open).await.succeeded();
    let minimal = objects(&minimal);
    let policies = of_kind(&minimal, "NetworkPolicy");
    let policy = policies.iter().find(|policy| policy["metadata"]["name"] == "ops-opsadmin-operator-auth-server");
    let ingress = &policy.expect("one")["spec"]["ingress"];
    assert_eq!((&ingress[0]["from"], ingress[1]["from"].as_array().map(Vec::len)), (&Value::Null, Some(1)));
}

#[tokio::test]
async fn a_restricted_namespace_accepts_the_pod() {
    let cluster = cluster().await;
    let namespace = TestNamespace::create(cluster.kubeconfig(), "auth-restricted").await;
    let strict = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl("", &["label", "namespace", namespace.name(), strict]).await.succeeded();
    for name in ["auth-server", "auth-server-sqlite"] {
        let all = rendered(name).await;
        let mut spec = deployment(&all, "auth-server")["spec"]["template"]["spec"].clone();
        spec["serviceAccountName"] = "default".into();
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": spec }).to_string();
        let create = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
        cluster.kubectl_with(namespace.name(), &create, &pod).await.succeeded();
    }
}

#[tokio::test]
async fn the_notes_say_how_to_log_in() {
    let helm = Helm::new().await;
    let file = values("auth-server").display().to_string();
    let chart = crate::support::helm::chart();
    let arguments = ["install", "ops", &chart, "--dry-run=client", "--values", &file];
    let notes = helm.run(&arguments).await.succeeded();
    let (_, notes) = notes.split_once("NOTES:").expect("it has notes");
    assert!(notes.contains("bash examples/login/login.sh https://auth.example.com api-key secret-key"), "{notes}");
    assert!(notes.contains("ops-opsadmin-operator-auth-server-internal.default.svc:8089"), "{notes}");
}
