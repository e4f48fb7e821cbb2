//! The flow of OpsAdmin's own description: a partner's pod logs in with the keys of its Secret, and what it may do and see
//! is what its account says at that moment.

use serde_json::{Value, json};

use crate::apart::NODE_ADDRESS;
use crate::scene::Scene;
use crate::support::protected_api::{ProtectedApi, Proxy};
use crate::support::wait::eventually;
use crate::world::{SOON, repository};

const NAMESPACE: &str = "logging-in";
const ACCOUNT: &str = "linden-compare";
const POD: &str = "compare";

/// A partner's pod, and the API behind nginx on the node.
struct Stage {
    scene: Scene,
    api: ProtectedApi,
    /// The address of the pod.
    address: String,
}

impl Stage {
    async fn set() -> Self {
        let scene = Scene::set(NAMESPACE).await;
        let release = scene.release;
        release.world.rolled_out(release.installation.namespace, &release.auth_server()).await;
        let internal = format!("{}:8089", release.service(&format!("{}-internal", release.auth_server())).await);
        let api = ProtectedApi::start_at(NODE_ADDRESS.into(), Proxy::Nginx, &internal).await;
        release.opsadmin(&["affiliates", "add", "Linden"]).run().await.succeeded();
        let mut stage = Self { scene, api, address: String::new() };
        stage.declare(partner()).await;
        stage.run_the_pod().await;
        stage
    }

    /// Declares the account, and waits until its status says that it is so.
    async fn declare(&self, spec: Value) {
        let account = json!({
            "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": ACCOUNT }, "spec": spec,
        });
        self.scene.apply(&account.to_string()).await;
        self.scene.ready(ACCOUNT).await;
    }

    /// Runs the partner's pod, which has the keys and the script as files.
    async fn run_the_pod(&mut self) {
        let script = format!("--from-file={}", repository("examples/login/login.sh").display());
        self.scene.kubectl(&["create", "configmap", "login", &script]).await.succeeded();
        let release = self.scene.release;
        // The cluster has no DNS.
        let names =
            json!([{ "ip": release.service(&release.auth_server()).await, "hostnames": [release.auth_server()] }]);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": POD },
            "spec": {
                "hostAliases": names,
                "automountServiceAccountToken": false,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" },
                },
                "containers": [{
                    "name": "app", "image": "registry.example.com/linden/compare:1",
                    "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                    "volumeMounts": [
                        { "name": "opsadmin", "mountPath": "/etc/opsadmin", "readOnly": true },
                        { "name": "login", "mountPath": "/login", "readOnly": true },
                    ],
                }],
                "volumes": [
                    { "name": "opsadmin", "secret": { "secretName": format!("{ACCOUNT}-opsadmin") } },
                    { "name": "login", "configMap": { "name": "login" } },
                ],
            },
        });
        self.scene.apply(&pod.to_string()).await;
        self.scene
            .kubectl(&["wait", "--for=condition=Ready", &format!("pod/{POD}"), "--timeout=50s"])
            .await
            .succeeded();
        let address = self.scene.kubectl(&["get", "pod", POD, "-o", "jsonpath={.status.podIP}"]).await.succeeded();
        self.address = address;
    }

    /// Logs in from the pod.
    ///
    /// # Errors
    /// What the auth server said.
    async fn log_in(&self) -> Result<String, String> {
        let issuer = self.scene.release.issuer();
        let keys = "/etc/opsadmin/OPSADMIN_API_KEY /etc/opsadmin/OPSADMIN_SECRET_KEY";
        let said = self.scene.exec(POD, &format!("bash /login/login.sh {issuer} {keys}")).await;
        let answer: Value = serde_json::from_str(&said.stdout).map_err(|_| format!("{said:?}"))?;
        match answer["access_token"].as_str() {
            Some(token) => Ok(token.to_owned()),
            None => Err(said.stdout),
        }
    }

    /// Calls the API from the pod. Returns the status and the body of the answer.
    async fn call(&self, token: &str, path: &str) -> (u16, Value) {
        let url = format!("{}{path}", self.api.url());
        let curl =
            format!("curl --silent --write-out '\\n%{{http_code}}' --header 'Authorization: Bearer {token}' {url}");
        let said = self.scene.exec(POD, &curl).await.succeeded();
        let (body, status) = said.rsplit_once('\n').expect("the status is in a line of its own");
        (status.parse().expect("it is a status"), serde_json::from_str(body).unwrap_or_default())
    }

    /// Waits until calls with this token have this status. The auth server hears of a change within a second.
    async fn calls_get(&self, token: &str, path: &str, expected: u16, when: &str) {
        eventually(&format!("{expected} for {path} when {when}"), SOON, async || {
            let (status, body) = self.call(token, path).await;
            if status == expected { Ok(()) } else { Err(format!("{status} {body}")) }
        })
        .await;
    }

    async fn opsadmin(&self, arguments: &[&str]) {
        self.scene.release.opsadmin(arguments).run().await.succeeded();
    }
}

/// What the account declares at first. An account that had a list of addresses keeps it until there is another one.
fn partner() -> Value {
    json!({ "roles": ["PlansAndRates"], "affiliate": "Linden", "allowedIPs": [] })
}

/// Returns the names of the plans in an answer of the API.
fn plans(answer: &Value) -> Vec<&str> {
    answer["plans"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

pub async fn a_pod_logs_in_with_its_secret_and_may_do_what_its_account_says() {
    let stage = Stage::set().await;
    let token = stage.log_in().await.expect("it may log in");
    let (status, answer) = stage.call(&token, "/plans").await;
    assert_eq!((status, plans(&answer)), (200, vec!["Linden Green"]), "{answer}");
    assert_eq!(stage.call(&token, "/my-account").await.0, 403, "the role does not open it");
    assert_eq!(stage.call("opsa_at_unknown", "/plans").await.0, 401);

    let with = |field: &str, value: Value| {
        let mut spec = partner();
        spec[field] = value;
        spec
    };
    // Each of these acts on the token that the pod has already.
    stage.declare(with("allowedIPs", json!(["198.51.100.7/32"]))).await;
    stage.calls_get(&token, "/plans", 401, "another address is allowed").await;
    assert!(stage.log_in().await.unwrap_err().contains("invalid_client"));
    stage.declare(with("enabled", json!(false))).await;
    stage.calls_get(&token, "/plans", 401, "it is disabled").await;
    stage.declare(partner()).await;
    stage.calls_get(&token, "/plans", 200, "it is as before").await;
    stage.opsadmin(&["suspend", ACCOUNT, "--reason", "a test"]).await;
    stage.calls_get(&token, "/plans", 401, "it is suspended").await;
    assert!(stage.log_in().await.unwrap_err().contains("invalid_client"));
    stage.opsadmin(&["resume", ACCOUNT]).await;
    stage.calls_get(&token, "/plans", 200, "it is resumed").await;

    // The affiliate of an administrator limits nothing. Its addresses do: those of the pod, and of the node, from which
    // a Service's pods see their clients here.
    let mut administrator = with("roles", json!(["Administrator"]));
    administrator["allowedIPs"] = json!([format!("{}/32", stage.address), format!("{NODE_ADDRESS}/32")]);
    stage.declare(administrator.clone()).await;
    stage.calls_get(&token, "/my-account", 200, "it is an administrator").await;
    let token = stage.log_in().await.expect("an administrator may log in");
    let (_, answer) = stage.call(&token, "/plans").await;
    assert_eq!(plans(&answer), ["Bright Fixed 12", "Linden Green"], "{answer}");
    administrator["allowedIPs"] = json!(["198.51.100.7/32"]);
    stage.declare(administrator).await;
    stage.calls_get(&token, "/my-account", 401, "an administrator is elsewhere").await;
    stage.declare(partner()).await;

    // The pod has the old keys until the kubelet replaces its files. They work as long as the overlap lasts.
    stage.scene.release.opsadmin_with_keyring(&["rotate", ACCOUNT]).run().await.succeeded();
    let token = stage.log_in().await.expect("the overlap lasts");
    assert_eq!(stage.call(&token, "/plans").await.0, 200);
    stage.scene.kubectl(&["delete", "apiaccount", ACCOUNT]).await.succeeded();
    stage.calls_get(&token, "/plans", 401, "it is deleted").await;
    assert!(stage.log_in().await.unwrap_err().contains("invalid_client"));
    stage.scene.kubectl(&["delete", "pod", POD, "--wait=false"]).await.succeeded();
}
