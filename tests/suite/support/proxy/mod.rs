//! A proxy between a controller and its servers. It records every call to the API server and to PostgreSQL in one
//! order. It can hold, refuse, delay or lose any call and any event of a watch.

mod api;
mod policy;
mod sql;
mod trace;
mod views;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use url::Url;

use super::cluster::bare_client_of;
use super::postgres::TestDatabase;
use super::process::Folder;

pub use policy::Policy;
pub use trace::{Call, Fault, Refusal, To, Trace, listed};
pub use views::Views;

/// A proxy for the API server and a proxy for the database, for one controller at a time. Both end when this value is
/// dropped.
pub struct Proxy {
    /// The calls, and the faults that they meet.
    pub trace: Arc<Trace>,
    /// What lists and watches show.
    pub views: Arc<Views>,
    /// The changes to the Secrets that the controller writes.
    pub policy: Arc<Policy>,
    kubeconfig: PathBuf,
    database_url: String,
    _folder: Arc<Folder>,
    _tasks: JoinSet<()>,
}

/// A proxy for a database only, for a program without a cluster. The proxy and the database end when this value is
/// dropped.
pub struct DatabaseProxy {
    /// The calls, and the faults that they meet.
    pub trace: Arc<Trace>,
    url: String,
    _tasks: JoinSet<()>,
    _database: TestDatabase,
}

impl DatabaseProxy {
    /// Starts a proxy for this database.
    pub async fn new(database: TestDatabase) -> Self {
        let (trace, mut tasks) = (Arc::new(Trace::new()), JoinSet::new());
        let url = stand_before(database.url(), &trace, &mut tasks).await;
        Self { trace, url, _tasks: tasks, _database: database }
    }

    /// Returns the URL of the proxy, for a program to use instead of the database's URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Proxy {
    /// Starts proxies for the API server of this kubeconfig and for the database of this URL. An SQLite database has no
    /// proxy.
    pub async fn new(kubeconfig: &Path, database_url: &str) -> Self {
        let (trace, views, policy) = (Arc::new(Trace::new()), Arc::new(Views::default()), Arc::new(Policy::default()));
        let mut tasks = JoinSet::new();

        let client = bare_client_of(kubeconfig).await.unwrap_or_else(|problem| panic!("{problem}"));
        let (listener, port) = listen().await;
        tasks.spawn(api::serve(listener, client, Arc::clone(&trace), Arc::clone(&views), Arc::clone(&policy)));
        let folder = Folder::new("proxy");
        let kubeconfig = folder.write("kubeconfig", self::kubeconfig(port));

        let database_url = stand_before(database_url, &trace, &mut tasks).await;
        Self { trace, views, policy, kubeconfig, database_url, _folder: folder, _tasks: tasks }
    }

    /// Returns the kubeconfig for the controller to use instead of the cluster's.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns the database URL for the controller to use instead of the database's own.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }
}

/// Starts a proxy for the database of this URL and returns the proxy's URL. Returns an SQLite URL unchanged.
async fn stand_before(database_url: &str, trace: &Arc<Trace>, tasks: &mut JoinSet<()>) -> String {
    let mut url = Url::parse(database_url).expect("the database has a URL");
    if url.scheme() == "postgres" {
        let (listener, port) = listen().await;
        let server = format!("127.0.0.1:{}", url.port().expect("the test server's URL names its port"));
        tasks.spawn(sql::serve(listener, server, Arc::clone(trace)));
        url.set_port(Some(port)).expect("the URL has a host");
        url.set_query(Some("sslmode=disable"));
    }
    url.into()
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("the system gives a loopback port");
    let port = listener.local_addr().expect("a listener has an address").port();
    (listener, port)
}

/// Uses plain HTTP on loopback without credentials. The proxy authenticates at the API server.
fn kubeconfig(port: u16) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "proxy",
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        "clusters": [{"name": "proxy", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
        "users": [{"name": "proxy", "user": {}}],
    })
    .to_string()
}
