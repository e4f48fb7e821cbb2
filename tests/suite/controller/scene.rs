//! The environment of one test: its namespace, its database, its keyring and its controller.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use opsadmin_operator::api::{ApiAccount, condition};
use serde_json::{Value, json};
use sqlx::postgres::{PgPool, PgPoolOptions};

use crate::support::cluster::{Cluster, cluster};
use crate::support::namespace::TestNamespace;
use crate::support::opsadmin::{Opsadmin, RunningController, spawn_controller};
use crate::support::postgres::{TestDatabase, postgres};
use crate::support::process::Folder;
use crate::support::wait::eventually;

/// A deadline that is long enough for anything that happens by itself, even on a busy machine.
pub const SOON: Duration = Duration::from_secs(90);

/// The environment of one test. When it is dropped, the controller is killed and everything else is removed.
pub struct Scene {
    pub controller: Option<RunningController>,
    pub cluster: &'static Cluster,
    pub client: Client,
    pub database: TestDatabase,
    pub keyring: PathBuf,
    pub namespace: TestNamespace,
    // Keeps the keyring as long as the scene exists.
    _folder: Arc<Folder>,
}

impl Scene {
    /// Creates a namespace and a PostgreSQL database, without a controller.
    pub async fn set(test_name: &str) -> Self {
        Self::set_on(cluster().await, test_name).await
    }

    /// Creates such an environment on another cluster than the shared one.
    pub async fn set_on(cluster: &'static Cluster, test_name: &str) -> Self {
        let folder = Folder::new("scene");
        let keyring = folder.path().join("opsadmin.keyring");
        let init = Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]);
        init.run().await.succeeded();
        Self {
            controller: None,
            cluster,
            client: cluster.client().await,
            database: postgres().await.database(test_name).await,
            keyring,
            namespace: cluster.namespace(test_name).await,
            _folder: folder,
        }
    }

    /// Creates such an environment and starts a controller with these additional arguments.
    pub async fn with_controller(test_name: &str, extra: &[&str]) -> Self {
        let mut scene = Self::set(test_name).await;
        scene.start(extra);
        scene
    }

    /// Starts a controller.
    pub fn start(&mut self, extra: &[&str]) {
        let url = self.database.url().to_owned();
        self.start_on(&url, extra);
    }

    /// Starts a controller with another database.
    pub fn start_on(&mut self, url: &str, extra: &[&str]) {
        let cluster = self.cluster;
        self.start_between(cluster.kubeconfig(), url, extra);
    }

    /// Starts a controller with another kubeconfig and another database.
    pub fn start_between(&mut self, kubeconfig: &Path, url: &str, extra: &[&str]) {
        self.controller = Some(spawn_controller(kubeconfig, &[self.namespace.name()], url, &self.keyring, extra));
    }

    /// Starts a controller with another user's rights that watches these namespaces, or all namespaces if there are
    /// none.
    pub fn start_as(&mut self, kubeconfig: &Path, namespaces: &[&str], extra: &[&str]) {
        self.controller = Some(spawn_controller(kubeconfig, namespaces, self.database.url(), &self.keyring, extra));
    }

    /// Kills the controller and returns its log.
    pub async fn kill(&mut self) -> String {
        self.controller.take().expect("a controller is running").kill().await
    }

    /// Returns the controller's log. Empty if no controller runs.
    pub fn log(&self) -> String {
        self.controller.as_ref().map(RunningController::log).unwrap_or_default()
    }

    /// Stops the controller with SIGTERM and returns its log.
    pub async fn stop(&mut self) -> String {
        let controller = self.controller.take().expect("a controller is running");
        let (code, log) = controller.terminate(SOON).await;
        assert_eq!(code, 0, "{log}");
        log
    }

    pub fn accounts(&self) -> Api<ApiAccount> {
        Api::namespaced(self.client.clone(), self.namespace.name())
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), self.namespace.name())
    }

    /// Opens connections to the database for a test.
    pub async fn sql(&self) -> PgPool {
        let pool = PgPoolOptions::new().max_connections(2).connect(self.database.url()).await;
        pool.expect("the test database answers")
    }

    /// Creates an account with this spec.
    pub async fn create(&self, name: &str, spec: Value) -> ApiAccount {
        let account = json!({
            "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": name }, "spec": spec,
        });
        let account = serde_json::from_value(account).expect("it is an ApiAccount");
        self.accounts().create(&PostParams::default(), &account).await.expect("the API server takes the account")
    }

    /// Merges this into the account's spec.
    pub async fn change(&self, name: &str, spec: Value) -> ApiAccount {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let changed = self.accounts().patch(name, &PatchParams::default(), &patch).await;
        changed.expect("the API server takes the change")
    }

    /// Merges these into the account's annotations.
    pub async fn annotate(&self, name: &str, annotations: Value) -> ApiAccount {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        let changed = self.accounts().patch(name, &PatchParams::default(), &patch).await;
        changed.expect("the API server takes the change")
    }

    /// Removes the account's finalizers, as an impatient user does.
    pub async fn strip_finalizers(&self, name: &str) {
        let patch = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        self.accounts().patch(name, &PatchParams::default(), &patch).await.expect("the API server takes the change");
    }

    /// Deletes the account and waits until it is gone.
    pub async fn delete(&self, name: &str) {
        self.accounts().delete(name, &DeleteParams::default()).await.expect("the API server takes the deletion");
        eventually(&format!("the account {name} to be gone"), SOON, async || {
            match self.accounts().get_opt(name).await.map_err(|error| error.to_string())? {
                None => Ok(()),
                Some(account) => Err(format!("{account:?}\n{}", self.log())),
            }
        })
        .await;
    }

    /// Waits until the account's Ready condition is for its newest generation and has this status and reason.
    pub async fn condition(&self, name: &str, status: &str, reason: &str) -> ApiAccount {
        eventually(&format!("the account {name} to be {status}/{reason}"), SOON, async || {
            let account = self.accounts().get(name).await.map_err(|error| error.to_string())?;
            let seen = account.status.as_ref().is_some_and(|seen| {
                seen.observed_generation == account.metadata.generation
                    && seen.conditions.iter().any(|c| {
                        c.type_ == condition::READY
                            && c.status == status
                            && c.reason == reason
                            && c.observed_generation == account.metadata.generation
                    })
            });
            if seen { Ok(account) } else { Err(format!("{:?}\n{}", account.status, self.log())) }
        })
        .await
    }

    /// Waits until the account is Ready.
    pub async fn ready(&self, name: &str) -> ApiAccount {
        self.condition(name, "True", "Reconciled").await
    }

    /// Returns a Secret's data as text.
    pub async fn data(&self, secret: &str) -> std::collections::BTreeMap<String, String> {
        let secret = self.secrets().get(secret).await.expect("the Secret is there");
        texts(&secret)
    }

    /// Waits until `is` returns true for a Secret.
    pub async fn secret_where(&self, name: &str, what: &str, is: impl Fn(&Secret) -> bool) -> Secret {
        eventually(&format!("the Secret {name} {what}"), SOON, async || {
            let secret = self.secrets().get_opt(name).await.map_err(|error| error.to_string())?;
            match secret {
                Some(secret) if is(&secret) => Ok(secret),
                other => Err(format!("{other:?}\n{}", self.log())),
            }
        })
        .await
    }

    /// Waits until a Secret is gone.
    pub async fn no_secret(&self, name: &str) {
        eventually(&format!("the Secret {name} to be gone"), SOON, async || {
            match self.secrets().get_opt(name).await.map_err(|error| error.to_string())? {
                None => Ok(()),
                Some(_) => Err(format!("it is there\n{}", self.log())),
            }
        })
        .await;
    }

    /// Waits until the controller's log contains this text. The controller logs the result of a reconcile after it
    /// writes the status.
    pub async fn logged(&self, text: &str) {
        eventually(&format!("the log to say {text:?}"), SOON, async || {
            let log = self.log();
            if log.contains(text) { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// Waits for an event with this reason about the account, and returns its note.
    pub async fn event(&self, account: &str, reason: &str) -> String {
        self.event_with(account, reason, "").await
    }

    /// Waits for an event with this reason whose note contains this text, and returns the note.
    pub async fn event_with(&self, account: &str, reason: &str, text: &str) -> String {
        let events: Api<Event> = Api::namespaced(self.client.clone(), self.namespace.name());
        eventually(&format!("an event {reason} {text:?} about {account}"), SOON, async || {
            let events = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let mut seen = Vec::new();
            for event in events {
                let about = event.regarding.and_then(|object| object.name).unwrap_or_default();
                let (found, note) = (event.reason.unwrap_or_default(), event.note.unwrap_or_default());
                if about == account && found == reason && note.contains(text) {
                    return Ok(note);
                }
                seen.push(format!("{about}: {found}: {note}"));
            }
            Err(format!("{}\n{}", seen.join("\n"), self.log()))
        })
        .await
    }
}

/// Returns a Secret's data as text.
pub fn texts(secret: &Secret) -> std::collections::BTreeMap<String, String> {
    let data = secret.data.iter().flatten();
    data.map(|(key, value)| (key.clone(), String::from_utf8(value.0.clone()).expect("it is text"))).collect()
}
