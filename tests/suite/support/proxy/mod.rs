//! What stands between a controller and the world: it sees every call to the API server and to PostgreSQL, in one order,
//! and can withhold, refuse, delay or lose any of them, or any event of a watch.

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

/// A way to the API server, and one to the database, for one controller at a time. Ends when it is dropped.
pub struct Proxy {
    /// The calls, and the faults they meet.
    pub trace: Arc<Trace>,
    /// What lists and watches show.
    pub views: Arc<Views>,
    /// What becomes of the Secrets that are written.
    pub policy: Arc<Policy>,
    kubeconfig: PathBuf,
    database_url: String,
    _folder: Arc<Folder>,
    _tasks: JoinSet<()>,
}

/// A way to a database alone, for whoever knows no cluster. Both end when it is dropped.
pub struct DatabaseProxy {
    /// The calls, and the faults they meet.
    pub trace: Arc<Trace>,
    url: String,
    _tasks: JoinSet<()>,
    _database: TestDatabase,
}

impl DatabaseProxy {
    /// Stands before this database.
    pub async fn new(database: TestDatabase) -> Self {
        let (trace, mut tasks) = (Arc::new(Trace::new()), JoinSet::new());
        let url = stand_before(database.url(), &trace, &mut tasks).await;
        Self { trace, url, _tasks: tasks, _database: database }
    }

    /// What a program is to be given instead of the database's URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Proxy {
    /// Stands before the API server of this kubeconfig and the database of this URL, if that is a server's.
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

    /// What the controller is to be given instead of the cluster's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// What the controller is to be given instead of the database's URL.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }
}

/// The way to the database of this URL, if that is a server's, and otherwise the URL as it is.
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

/// Plain HTTP on loopback, without any credentials: the proxy is who the API server knows.
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
