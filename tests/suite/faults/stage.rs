//! The stage of a fault: a scene, and a proxy between its controller and the world.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use opsadmin_operator::api::OWNER_ANNOTATION;

use crate::controller::scene::{SOON, Scene};
use crate::support::process::Folder;
use crate::support::proxy::{Proxy, listed};
use crate::support::wait::eventually;

use super::state::{Keys, Observer, State};

/// The account that most faults meet.
pub const ACME: &str = "acme";

/// The cluster's name in the account database.
pub const CLUSTER: &str = "here";

/// Nothing is asked for this long: the controller has nothing more to do.
const QUIET: Duration = Duration::from_millis(250);

/// One controller with a proxy before it, in a namespace and on a database of its own.
pub struct Stage {
    // Dropped, and with it ended, before what it talks to.
    pub scene: Scene,
    pub proxy: Proxy,
    pub observer: Observer,
    database_url: String,
}

impl Stage {
    /// On a PostgreSQL database, without a controller yet.
    pub async fn set(test_name: &str) -> Self {
        let scene = Scene::set(test_name).await;
        let url = scene.database.url().to_owned();
        Self::around(scene, url).await
    }

    /// On this database.
    pub async fn around(scene: Scene, database_url: String) -> Self {
        let proxy = Proxy::new(scene.cluster.kubeconfig(), &database_url).await;
        Self::behind(scene, proxy, database_url)
    }

    /// With a proxy that the test made.
    pub fn behind(scene: Scene, proxy: Proxy, database_url: String) -> Self {
        let observer = Observer::new(&scene, &database_url);
        Self { scene, proxy, observer, database_url }
    }

    /// The same with a controller that has come to rest.
    pub async fn with_controller(test_name: &str) -> Self {
        let mut stage = Self::set(test_name).await;
        stage.start().await;
        stage
    }

    /// Starts a controller, and waits until it has looked at everything that there is.
    pub async fn start(&mut self) {
        self.launch(&[]);
        self.watching().await;
        self.quiet().await;
    }

    /// Starts a controller, with these further arguments.
    pub fn launch(&mut self, extra: &[&str]) {
        self.proxy.trace.next_controller();
        self.proxy.trace.begin();
        // The brake would hold what these tests delete on purpose.
        let mut arguments = vec!["--cluster-id", CLUSTER, "--deletion-brake", "100"];
        arguments.extend_from_slice(extra);
        self.scene.start_between(self.proxy.kubeconfig(), self.proxy.database_url(), &arguments);
    }

    /// Waits until the controller watches and has its database.
    pub async fn watching(&self) {
        let watches = self.proxy.trace.seen(SOON, |call| call.what == "WATCH apiaccounts" && call.answer == "200");
        assert!(watches.await.is_some(), "it does not watch\n{}\n{}", self.calls(), self.scene.log());
        eventually("the database to be ready", SOON, async || {
            let log = self.scene.log();
            if log.contains("the account database is ready") { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// On an SQLite database, which is in this folder.
    pub async fn on_sqlite(test_name: &str, folder: &Folder) -> Self {
        let url = format!("sqlite://{}", folder.path().join("accounts.db").display());
        Self::around(Scene::set(test_name).await, url).await
    }

    /// Waits until the controller has nothing more to do.
    pub async fn quiet(&self) {
        self.proxy.trace.quiet(QUIET).await;
    }

    /// Ends the controller on the spot, and starts another.
    pub async fn restart(&mut self) {
        self.scene.kill().await;
        self.start().await;
    }

    /// Waits until the resource is gone, whatever is left of it.
    pub async fn resource_gone(&self, name: &str) {
        eventually(&format!("the account {name} to be gone"), SOON, async || {
            match self.scene.accounts().get_opt(name).await.map_err(|error| error.to_string())? {
                Some(account) => Err(format!("{account:?}\n{}", self.scene.log())),
                None => Ok(()),
            }
        })
        .await;
    }

    /// Waits until the resource is gone, and with it every Secret that it owned, unless its account is retained.
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

    /// What there is now.
    pub async fn look(&self) -> (State, Keys) {
        self.observer.look().await
    }

    /// The reasons of the events that tell what was done.
    pub async fn told(&self) -> BTreeSet<String> {
        let events: Api<Event> = Api::namespaced(self.scene.client.clone(), self.scene.namespace.name());
        let events = events.list(&ListParams::default()).await.expect("the API server answers");
        let done = events.into_iter().filter(|event| event.type_.as_deref() == Some("Normal"));
        done.filter_map(|event| event.reason).collect()
    }

    /// Waits until what there is is this.
    pub async fn becomes(&self, wanted: &State) {
        eventually("the end state", SOON, async || {
            let (seen, _) = self.look().await;
            if seen == *wanted { Ok(()) } else { Err(wanted.difference(&seen)) }
        })
        .await;
    }

    /// The calls so far, for a failure's message.
    pub fn calls(&self) -> String {
        listed(&self.proxy.trace.calls())
    }

    /// The database, not by way of the proxy.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }
}
