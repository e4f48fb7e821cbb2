//! The shared parts of all tests: a cluster with a node, a database server, and the operator as in `deploy/`.

use std::io;
use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use kube::{Api, Client};
use opsadmin_operator::api::ApiAccount;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use url::Url;

use crate::apart::NODE_ADDRESS;
use crate::node::Node;
use crate::registry::Registry;
use crate::support::cluster::Cluster;
use crate::support::opsadmin::Opsadmin;
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::process::Folder;
use crate::support::run::Finished;
use crate::support::wait::eventually;

/// A deadline that is long enough for anything that a cluster does by itself, even on a busy machine.
pub const SOON: Duration = Duration::from_mins(2);
/// The namespace of the operator in its manifests.
pub const OPERATOR: &str = "opsadmin-system";

/// The cluster with the operator in it.
pub struct World {
    pub cluster: Cluster,
    pub client: Client,
    node: Node,
    database: TestDatabase,
    keyring: PathBuf,
    _postgres: Postgres,
    _folder: Arc<Folder>,
}

/// Returns the one world. The first test that calls this function creates it.
pub async fn world() -> &'static World {
    static WORLD: OnceCell<Option<World>> = OnceCell::const_new();
    once(&WORLD, World::make().boxed_local()).await
}

/// Creates something that tests share. If this fails, the first test fails with the reason, and the other tests do not
/// try again.
pub async fn once<'a, T>(shared: &'a OnceCell<Option<T>>, make: LocalBoxFuture<'a, T>) -> &'a T {
    let result = shared.get_or_init(async || AssertUnwindSafe(make).catch_unwind().await.ok()).await;
    result.as_ref().expect("what the tests share was made; the first panic says why not")
}

impl World {
    async fn make() -> Self {
        let began = Instant::now();
        let (cluster, postgres, registry) =
            tokio::join!(Cluster::for_a_node(NODE_ADDRESS), Postgres::new(), Registry::filled());
        let cluster = cluster.unwrap_or_else(|problem| panic!("no test cluster: {problem}"));
        let registry = registry.serve().await;
        let node = Node::join(&cluster, registry).await;
        println!("the cluster and its node are ready after {:.1} s", began.elapsed().as_secs_f64());

        let folder = Folder::new("keyring");
        let world = Self {
            client: cluster.client().await,
            cluster,
            node,
            database: postgres.database("pods").await,
            keyring: folder.path().join("opsadmin.keyring"),
            _postgres: postgres,
            _folder: folder,
        };
        world.install_operator().await;
        println!("the operator is ready after {:.1} s", began.elapsed().as_secs_f64());
        world
    }

    /// Installs the operator as the first comment of `deploy/controller.yaml` describes, in a namespace that accepts
    /// only restricted pods.
    async fn install_operator(&self) {
        self.apply("", "crds").await;
        self.apply("", "deploy/rbac.yaml").await;
        self.restrict(OPERATOR).await;
        let url = format!("--from-literal=url={}", self.database_url_for_pods().await);
        let create = ["create", "secret", "generic", "opsadmin-database", &url];
        self.cluster.kubectl(OPERATOR, &create).await.succeeded();
        Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&self.keyring]).run().await.succeeded();
        let keyring = format!("--from-file=keyring={}", self.keyring.display());
        let create = ["create", "secret", "generic", "opsadmin-keyring", &keyring];
        self.cluster.kubectl(OPERATOR, &create).await.succeeded();
        self.apply("", "deploy/controller.yaml").await;
        self.rolled_out(OPERATOR, "opsadmin-operator").await;
    }

    /// Applies a file or a folder of the repository.
    pub async fn apply(&self, namespace: &str, path: &str) {
        let path = repository(path).display().to_string();
        self.cluster.kubectl(namespace, &["apply", "--server-side", "-f", &path]).await.succeeded();
    }

    /// Makes a namespace refuse pods that do not follow the restricted Pod Security Standard.
    pub async fn restrict(&self, namespace: &str) {
        let strict = "pod-security.kubernetes.io/enforce=restricted";
        self.cluster.kubectl("", &["label", "namespace", namespace, strict]).await.succeeded();
    }

    /// Waits until a Deployment is rolled out: every pod is of the newest revision and ready, and no other pod is left.
    pub async fn rolled_out(&self, namespace: &str, deployment: &str) {
        let status = ["rollout", "status", "deployment", deployment, "--watch=false"];
        eventually(&format!("the Deployment {deployment} to be rolled out"), SOON, async || {
            let said = self.cluster.kubectl(namespace, &status).await;
            if said.stdout.contains("successfully rolled out") {
                Ok(())
            } else {
                Err(self.state(namespace, said).await)
            }
        })
        .await;
    }

    /// Returns the state of a namespace's pods and the logs, for a failure message.
    pub async fn state(&self, namespace: &str, said: Finished) -> String {
        let pods = self.cluster.kubectl(namespace, &["describe", "pods"]).await.stdout;
        let log = self.operator_log().await;
        format!("{said:?}\n{pods}\nthe operator:\n{log}\n{}", self.node.log())
    }

    /// Returns the log of the operator's pod.
    pub async fn operator_log(&self) -> String {
        let logs = ["logs", "deployment/opsadmin-operator", "--tail=20"];
        let said = self.cluster.kubectl(OPERATOR, &logs).await;
        said.stdout + &said.stderr
    }

    /// Creates a call of the command line from outside the cluster, with the same database.
    pub fn opsadmin(&self, arguments: &[&str]) -> Opsadmin {
        Opsadmin::new().args(arguments).env("OPSADMIN_DATABASE_URL", self.database.url())
    }

    /// Creates such a call with the keyring.
    pub fn opsadmin_with_keyring(&self, arguments: &[&str]) -> Opsadmin {
        self.opsadmin(arguments).env("OPSADMIN_KEYRING", &self.keyring)
    }

    /// Opens connections to the database for a test.
    pub async fn sql(&self) -> PgPool {
        let pool = PgPoolOptions::new().max_connections(2).connect(self.database.url()).await;
        pool.expect("the test database answers")
    }

    /// Returns the API for the accounts of a namespace.
    pub fn accounts(&self, namespace: &str) -> Api<ApiAccount> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Returns a database URL for pods. Pods cannot reach the loopback interface, where the database server listens. So
    /// this forwards a port of the node's address.
    async fn database_url_for_pods(&self) -> String {
        let mut url = Url::parse(self.database.url()).expect("the database has a URL");
        let port = url.port().expect("the URL has a port");
        let listener = TcpListener::bind((NODE_ADDRESS, 0)).await.expect("a free port");
        let outer = listener.local_addr().expect("it has an address");
        tokio::spawn(async move {
            loop {
                let (pod, _) = listener.accept().await.expect("the listener works");
                tokio::spawn(async move {
                    // A pod that ends resets its connections.
                    if let Err(error) = relay(pod, port).await
                        && error.kind() != io::ErrorKind::ConnectionReset
                    {
                        eprintln!("between a pod and the database: {error}");
                    }
                });
            }
        });
        url.set_ip_host(outer.ip()).expect("it can have a host");
        url.set_port(Some(outer.port())).expect("it can have a port");
        url.into()
    }
}

async fn relay(mut pod: TcpStream, port: u16) -> io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    tokio::io::copy_bidirectional(&mut pod, &mut server).await?;
    Ok(())
}

/// Returns a path in this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
