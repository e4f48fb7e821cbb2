//! Each environment on a real API server: its accounts are validated, planned and applied, they become Ready, and its
//! Deployments find their keys.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{built, text};
use crate::controller::scene::Scene;
use crate::support::opsadmin::Opsadmin;
use crate::support::run::Finished;

/// One environment of the example, in a namespace that only this test uses.
struct Environment {
    scene: Scene,
    name: &'static str,
    namespace: &'static str,
}

impl Environment {
    async fn built(&self, part: &str) -> String {
        let text = built(self.scene.cluster, &format!("overlays/{}/{part}", self.name)).await;
        let (declared, here) = (format!("namespace: {}\n", self.namespace), self.scene.namespace.name());
        assert!(text.contains(&declared), "{text}");
        text.replace(&declared, &format!("namespace: {here}\n"))
    }

    async fn kubectl(&self, arguments: &[&str], input: &str) -> Finished {
        self.scene.cluster.kubectl_with(self.scene.namespace.name(), arguments, input).await
    }

    async fn plan(&self, manifests: &str) -> Finished {
        let call = Opsadmin::new().args(["plan", "-f", "-", "--prune", "--detailed-exitcode", "-o", "json"]);
        let call = call.args(["--on-cluster", "--kubeconfig"]).args([self.scene.cluster.kubeconfig()]);
        let call = call.args(["--database", self.scene.database.url()]);
        call.stdin(manifests).run().await
    }

    /// Registers the affiliates that the accounts name, as OpsAdmin staff do.
    async fn affiliates(&self, manifests: &str) {
        Opsadmin::new().args(["migrate", "--database", self.scene.database.url()]).run().await.succeeded();
        for line in manifests.lines() {
            if let Some(affiliate) = line.strip_prefix("  affiliate: ") {
                let added = sqlx::query("INSERT INTO affiliates (name, created_at) VALUES ($1, 0)").bind(affiliate);
                added.execute(&self.scene.sql().await).await.expect("it is new");
            }
        }
    }
}

async fn becomes_ready_as_planned(name: &'static str, namespace: &'static str, names: &[&str]) {
    let scene = Scene::set(&format!("example-{name}")).await;
    let mut environment = Environment { scene, name, namespace };
    let accounts = environment.built("accounts").await;
    let valid = Opsadmin::new().args(["validate", "-f", "-"]).stdin(accounts.as_str()).run().await.succeeded();
    assert_eq!(valid, format!("{} accounts are valid\n", names.len()));

    environment.affiliates(&accounts).await;
    let planned = environment.plan(&accounts).await;
    assert_eq!(planned.status.code(), Some(2), "{planned:?}");
    let planned: Value = serde_json::from_str(&planned.stdout).expect("it is JSON");
    assert_eq!(planned["summary"]["create"], names.len(), "{planned:#}");

    environment.kubectl(&["apply", "--server-side", "-f", "-"], &accounts).await.succeeded();
    environment.scene.start(&[]);
    let mut secrets = BTreeMap::new();
    for name in names {
        let account = environment.scene.ready(name).await;
        let secret = account.status.and_then(|status| status.secret_name).expect("it has a Secret");
        secrets.insert(secret.clone(), environment.scene.data(&secret).await);
    }
    let planned = environment.plan(&accounts).await;
    assert_eq!(planned.status.code(), Some(0), "what was planned was done: {planned:?}");

    environment.deployments_find_their_keys(&secrets).await;
}

/// Returns the Secrets that a pod reads keys from, each with the name of the data key.
fn keys_read_by(pod: &Value) -> Vec<(&str, &str)> {
    let mut asked = Vec::new();
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        let items = volume["secret"]["items"].as_array().into_iter().flatten();
        asked.extend(items.map(|item| (text(&volume["secret"]["secretName"]), text(&item["key"]))));
    }
    for container in pod["containers"].as_array().expect("a list") {
        let variables = container["env"].as_array().into_iter().flatten().map(|one| &one["valueFrom"]["secretKeyRef"]);
        asked.extend(variables.filter(|one| one.is_object()).map(|one| (text(&one["name"]), text(&one["key"]))));
    }
    asked
}

impl Environment {
    async fn deployments_find_their_keys(&self, secrets: &BTreeMap<String, BTreeMap<String, String>>) {
        let strict = "pod-security.kubernetes.io/enforce=restricted";
        let namespace = self.scene.namespace.name();
        self.kubectl(&["label", "namespace", namespace, strict], "").await.succeeded();
        let partners = self.built("partners").await;
        let arguments = ["apply", "--server-side", "--dry-run=server", "-o", "json", "-f", "-"];
        let taken = self.kubectl(&arguments, &partners).await.succeeded();
        let taken: Value = serde_json::from_str(&taken).expect("kubectl prints JSON");
        let objects = taken["items"].as_array().expect("a list");
        let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);

        let policy = of_kind("NetworkPolicy").next().expect("a NetworkPolicy");
        let clients = policy["spec"]["podSelector"]["matchLabels"].as_object().expect("labels");
        for deployment in of_kind("Deployment") {
            let template = &deployment["spec"]["template"];
            let asked = keys_read_by(&template["spec"]);
            assert_eq!(asked.len(), 2, "both halves: {asked:?}");
            for (secret, key) in asked {
                let data = secrets.get(secret).unwrap_or_else(|| panic!("no account writes the Secret {secret}"));
                assert!(data.contains_key(key), "the Secret {secret} has {:?}, and no {key}", data.keys());
            }
            let reloaded = &deployment["metadata"]["annotations"]["secret.reloader.stakater.com/reload"];
            assert!(reloaded.is_null() || secrets.contains_key(text(reloaded)), "{reloaded}");
            assert_eq!(deployment["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"], "1");
            for (label, value) in clients {
                assert_eq!(&template["metadata"]["labels"][label], value, "the NetworkPolicy is not for these pods");
            }
            let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" } });
            pod["spec"] = template["spec"].clone();
            let pod = self.kubectl(&["create", "--dry-run=server", "-f", "-"], &pod.to_string()).await;
            pod.succeeded();
        }
        assert_eq!(of_kind("Deployment").count(), 2);
    }
}

#[tokio::test]
async fn staging_becomes_ready_as_planned() {
    let names = ["halden-app", "kestrel-billing", "linden-compare", "sandbox"];
    becomes_ready_as_planned("staging", "partners-staging", &names).await;
}

#[tokio::test]
async fn production_becomes_ready_as_planned() {
    becomes_ready_as_planned("production", "partners", &["halden-app", "kestrel-billing", "linden-compare"]).await;
}
