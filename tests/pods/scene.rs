//! A namespace with partners' accounts and pods, and functions that read their state.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, Secret};
use kube::Api;
use kube::api::ListParams;
use opsadmin_operator::api::{ApiAccount, condition};
use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::release::{Release, production};
use crate::support::run::Finished;
use crate::support::wait::eventually;
use crate::world::{SOON, repository};

/// The API key and the secret key of a key pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    pub api_key: String,
    pub secret_key: String,
}

impl Pair {
    /// Returns the keys that a Secret has under these names.
    pub fn of(secret: &Secret, api_key: &str, secret_key: &str) -> Self {
        let data = secret.data.as_ref().expect("it has keys");
        let text = |key: &str| String::from_utf8(data[key].0.clone()).expect("a key is text");
        Self { api_key: text(api_key), secret_key: text(secret_key) }
    }
}

/// The name of a Secret, and the names under which it contains the keys.
#[derive(Clone, Copy)]
pub struct Place {
    pub secret: &'static str,
    pub api_key: &'static str,
    pub secret_key: &'static str,
}

/// A namespace of a release. It accepts only restricted pods.
pub struct Scene {
    pub release: &'static Release,
    pub namespace: &'static str,
}

impl Scene {
    /// Returns one of the namespaces of the release that serves the partners. Each belongs to one test.
    pub async fn set(namespace: &'static str) -> Self {
        Self { release: production().await, namespace }
    }

    /// Runs `kubectl` in the namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> Finished {
        self.release.world.cluster.kubectl(self.namespace, arguments).await
    }

    /// Applies manifests.
    pub async fn apply(&self, manifests: &str) {
        self.release.world.apply(self.namespace, manifests).await;
    }

    /// Applies a folder of the platform example, as `kubectl apply -k` does.
    pub async fn apply_example(&self, folder: &str) {
        let folder = repository("examples/platform").join(folder).display().to_string();
        self.release.world.apply_from(self.namespace, &["-k", &folder], "").await;
    }

    /// Waits until the account is ready for its newest generation.
    pub async fn ready(&self, name: &str) -> ApiAccount {
        let accounts = self.release.accounts(self.namespace);
        eventually(&format!("the account {name} to be ready"), SOON, async || {
            let account = accounts.get(name).await.map_err(|error| error.to_string())?;
            if is_ready(&account) {
                Ok(account)
            } else {
                Err(format!("{:?}\n{}", account.status, self.release.log().await))
            }
        })
        .await
    }

    /// Returns the Secret.
    pub async fn secret(&self, place: Place) -> Secret {
        let secrets: Api<Secret> = Api::namespaced(self.release.world.client.clone(), self.namespace);
        secrets.get(place.secret).await.unwrap_or_else(|error| panic!("the Secret {}: {error}", place.secret))
    }

    /// Returns the keys in a Secret.
    pub async fn in_secret(&self, place: Place) -> Pair {
        Pair::of(&self.secret(place).await, place.api_key, place.secret_key)
    }

    /// Waits until a Secret contains other keys than `before`, and returns them.
    pub async fn rotated(&self, place: Place, before: &Pair) -> Pair {
        eventually(&format!("other keys in the Secret {}", place.secret), SOON, async || {
            let seen = self.in_secret(place).await;
            if seen == *before { Err(self.release.log().await) } else { Ok(seen) }
        })
        .await
    }

    /// Returns the active keys of an account in the account database, decrypted.
    pub async fn in_database(&self, account: &str) -> Pair {
        let get = self.release.opsadmin_with_keyring(&["get", account, "--show-secret", "-o", "json"]);
        let said = get.run_on_terminal().await.succeeded();
        let said: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        let keys = said["keys"].as_array().expect("a list of keys");
        let active = keys.iter().find(|key| key["state"] == "Active").expect("one is to be used");
        let text = |half: &str| active[half].as_str().expect("a text").to_owned();
        Pair { api_key: text("apiKey"), secret_key: text("secretKey") }
    }

    /// Returns whether OpsAdmin's API servers would accept an API key, by the SQL statement in `docs/database.md`.
    pub async fn logs_in(&self, api_key: &str) -> bool {
        let page = fs::read_to_string(repository("docs/database.md")).expect("the page is there");
        let (_, statement) = page.split_once("```sql\n-- Who logs in").expect("the page has the statement");
        let (statement, _) = statement.split_once("```").expect("the statement ends");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_micros();
        let query = sqlx::query(AssertSqlSafe(format!("-- Who logs in{statement}")));
        let query = query.bind(api_key.to_owned()).bind(i64::try_from(now).expect("it fits"));
        let rows = query.fetch_all(&self.release.sql().await).await.expect("the database answers");
        !rows.is_empty()
    }

    /// Returns the pods of a Deployment that are not being deleted, each with the status of its container.
    pub async fn pods(&self, app: &str) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.release.world.client.clone(), self.namespace);
        let params = ListParams::default().labels(&format!("app.kubernetes.io/name={app}"));
        let pods = pods.list(&params).await.expect("the API server answers");
        pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
    }

    /// Waits until an event reports, with this reason, that pods of a Deployment cannot start.
    pub async fn waits(&self, app: &str, reason: &str) {
        eventually(&format!("{app} to wait: {reason}"), SOON, async || {
            let ready = |pod: &Pod| container(pod).is_some_and(|container| container.ready);
            assert!(!self.pods(app).await.iter().any(ready), "{app} runs, without {reason}");
            let events =
                ["get", "events", "-o", r#"jsonpath={range .items[*]}{.involvedObject.name}: {.message}{"\n"}"#];
            let events = self.kubectl(&events).await.succeeded();
            let told = events.lines().any(|event| event.starts_with(app) && event.contains(reason));
            if told { Ok(()) } else { Err(events) }
        })
        .await;
    }

    /// Runs a script in a pod, as the user of its program.
    pub async fn exec(&self, pod: &str, script: &str) -> Finished {
        self.kubectl(&["exec", pod, "--", "sh", "-e", "-c", script]).await
    }

    /// Returns the keys in the files of a folder in a pod. Both are from the same moment, because the kubelet replaces
    /// the link `..data`.
    pub async fn in_files(&self, pod: &str, folder: &str, place: Place) -> Result<Pair, String> {
        let Place { api_key, secret_key, .. } = place;
        let script = format!("cd {folder}/$(readlink {folder}/..data); cat {api_key}; echo; cat {secret_key}");
        let said = self.exec(pod, &script).await;
        match said.stdout.split_once('\n') {
            Some((api_key, secret_key)) if said.status.success() => {
                Ok(Pair { api_key: api_key.to_owned(), secret_key: secret_key.to_owned() })
            }
            _ => Err(format!("{said:?}")),
        }
    }

    /// Returns the keys that a pod's program got as environment variables when it was started.
    pub async fn in_variables(&self, pod: &str) -> Pair {
        let environment = self.exec(pod, "tr '\\0' '\\n' </proc/1/environ").await.succeeded();
        let value = |name: &str| {
            let value = environment.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_else(|| panic!("no {name} in {environment}")).to_owned()
        };
        Pair { api_key: value("OPSADMIN_API_KEY"), secret_key: value("OPSADMIN_SECRET_KEY") }
    }
}

/// Returns whether an account is ready for its newest generation.
pub fn is_ready(account: &ApiAccount) -> bool {
    let conditions = account.status.iter().flat_map(|status| &status.conditions);
    let mut ready = conditions.filter(|c| c.type_ == condition::READY && c.status == "True");
    ready.any(|c| c.observed_generation == account.metadata.generation)
}

/// Returns the status of a pod's only container, if it was created.
pub fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// Returns the name of a pod.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().expect("a pod has a name")
}

/// Returns a value that changes when the pod is replaced, or when its container is replaced or restarted.
pub fn identity(pod: &Pod) -> (Option<&str>, Option<&str>, i32) {
    let container = container(pod).expect("it has a container");
    (pod.metadata.uid.as_deref(), container.container_id.as_deref(), container.restart_count)
}

/// Returns the duration from now to this time. Zero if the time has passed.
pub fn until(time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time) -> Duration {
    let then = Duration::from_micros(u64::try_from(time.0.as_microsecond()).expect("it is after 1970"));
    then.saturating_sub(SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970"))
}
