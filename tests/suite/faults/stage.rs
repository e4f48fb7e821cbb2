//! The stage of a fault: a scene, and a proxy between its controller and its servers.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use opsadmin_operator::api::OWNER_ANNOTATION;

use crate::controller::scene::{SOON, Scene};
use crate::support::process::Folder;
use crate::support::proxy::{Call, Proxy, listed};
use crate::support::wait::eventually;

use super::state::{Keys, Observer, State};

/// The account that most faults concern.
pub const ACME: &str = "acme";

/// The cluster's id in the account database.
pub const CLUSTER: &str = "here";

/// If no call is made for this long, the controller has nothing more to do.
const QUIET: Duration = Duration::from_millis(250);

/// One controller behind a proxy, with its own namespace and its own database.
pub struct Stage {
    // The scene is dropped, and so its controller ended, before the servers that it uses.
    pub scene: Scene,
    pub proxy: Proxy,
    pub observer: Observer,
    database_url: String,
}

impl Stage {
    /// Creates a stage with a PostgreSQL database, without a controller.
    pub async fn set(test_name: &str) -> Self {
        let scene = Scene::set(test_name).await;
        let url = scene.database.url().to_owned();
        Self::around(scene, url).await
    }

    /// Creates a stage with this database.
    pub async fn around(scene: Scene, database_url: String) -> Self {
        let proxy = Proxy::new(scene.cluster.kubeconfig(), &database_url).await;
        Self::behind(scene, proxy, database_url)
    }

    /// Creates a stage with a proxy that the test created.
    pub fn behind(scene: Scene, proxy: Proxy, database_url: String) -> Self {
        let observer = Observer::new(&scene, &database_url);
        Self { scene, proxy, observer, database_url }
    }

    /// Creates a stage with a PostgreSQL database, starts a controller, and waits until it has nothing more to do.
    pub async fn with_controller(test_name: &str) -> Self {
        let mut stage = Self::set(test_name).await;
        stage.start().await;
        stage
    }

    /// Starts a controller, and waits until it has reconciled everything.
    pub async fn start(&mut self) {
        self.launch(&[]);
        self.watching().await;
        self.quiet().await;
    }

    /// Starts a controller with these additional arguments.
    pub fn launch(&mut self, extra: &[&str]) {
        self.proxy.trace.next_controller();
        self.proxy.trace.begin();
        // Otherwise the brake would hold the deletions of these tests.
        let mut arguments = vec!["--cluster-id", CLUSTER, "--deletion-brake", "100"];
        arguments.extend_from_slice(extra);
        self.scene.start_between(self.proxy.kubeconfig(), self.proxy.database_url(), &arguments);
    }

    /// Waits until the controller watches and is connected to its database.
    pub async fn watching(&self) {
        let watches = self.proxy.trace.seen(SOON, |call| call.what == "WATCH apiaccounts" && call.answer == "200");
        assert!(watches.await.is_some(), "it does not watch\n{}\n{}", self.calls(), self.scene.log());
        eventually("the database to be ready", SOON, async || {
            let log = self.scene.log();
            if log.contains("the account database is ready") { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// Creates a stage with an SQLite database in this folder.
    pub async fn on_sqlite(test_name: &str, folder: &Folder) -> Self {
        let url = format!("sqlite://{}", folder.path().join("accounts.db").display());
        Self::around(Scene::set(test_name).await, url).await
    }

    /// Waits until the controller has nothing more to do.
    pub async fn quiet(&self) {
        self.proxy.trace.quiet(QUIET).await;
    }

    /// Waits until this number of events was sent since the record began. An event may come a moment after all else.
    pub async fn events_sent(&self, events: usize) {
        let is_last = |call: &Call| call.what == "POST events" && call.number >= events && !call.answer.is_empty();
        if events > 0 {
            let sent = self.proxy.trace.seen(SOON, is_last).await;
            assert!(sent.is_some(), "fewer than {events} events were sent:\n{}", self.calls());
        }
    }

    /// Kills the controller and starts another one.
    pub async fn restart(&mut self) {
        self.scene.kill().await;
        self.start().await;
    }

    /// Waits until the resource is gone. Its account and its Secrets may remain.
    pub async fn resource_gone(&self, name: &str) {
        eventually(&format!("the account {name} to be gone"), SOON, async || {
            match self.scene.accounts().get_opt(name).await.map_err(|error| error.to_string())? {
                Some(account) => Err(format!("{account:?}\n{}", self.scene.log())),
                None => Ok(()),
            }
        })
        .await;
    }

    /// Waits until the resource is gone, and also its Secrets, unless its account is retained.
    pub async fn gone(&self, name: &str) {
        self.resource_gone(name).await;
        if self.look().await.0.accounts.get(name).is_some_and(|account| account.starts_with("retained")) {
            return;
        }
        eventually(&format!("the Secrets of {name} to be gone"), SOON, async || {
            let secrets = self.scene.secrets().list(&ListParams::default()).await;
            let secrets = secrets.map_err(|error| error.to_string())?.items;
            let is_noted = |noted: &String| noted.ends_with(&format!("/{name}"));
            let owned = secrets.iter().find(|secret| {
                secret.metadata.annotations.as_ref().and_then(|noted| noted.get(OWNER_ANNOTATION)).is_some_and(is_noted)
            });
            owned.map_or(Ok(()), |secret| Err(format!("{:?}", secret.metadata)))
        })
        .await;
    }

    /// Returns the present state and the keys.
    pub async fn look(&self) -> (State, Keys) {
        self.observer.look().await
    }

    /// Returns the reasons of the events that report changes.
    pub async fn told(&self) -> BTreeSet<String> {
        let events: Api<Event> = Api::namespaced(self.scene.client.clone(), self.scene.namespace.name());
        let events = events.list(&ListParams::default()).await.expect("the API server answers");
        let done = events.into_iter().filter(|event| event.type_.as_deref() == Some("Normal"));
        done.filter_map(|event| event.reason).collect()
    }

    /// Waits until the state is `wanted`.
    pub async fn becomes(&self, wanted: &State) {
        eventually("the end state", SOON, async || {
            let (seen, _) = self.look().await;
            if seen == *wanted { Ok(()) } else { Err(wanted.difference(&seen)) }
        })
        .await;
    }

    /// Returns the calls so far, for a failure message.
    pub fn calls(&self) -> String {
        listed(&self.proxy.trace.calls())
    }

    /// Returns the URL of the database itself, without the proxy.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }
}
