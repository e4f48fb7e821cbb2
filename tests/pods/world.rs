//! What all tests here share: a cluster with a node, a database server, and the operator as `deploy/` has it.

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

/// Long enough for anything that a cluster does by itself, on a machine with a lot to do.
pub const SOON: Duration = Duration::from_mins(2);
/// The namespace of the operator, as its manifests have it.
pub const OPERATOR: &str = "opsadmin-system";

/// The world, with the operator in it.
pub struct World {
    pub cluster: Cluster,
    pub client: Client,
    node: Node,
    database: TestDatabase,
    keyring: PathBuf,
    _postgres: Postgres,
    _folder: Arc<Folder>,
}

/// The one world, made by the first test that asks.
pub async fn world() -> &'static World {
    static WORLD: OnceCell<Option<World>> = OnceCell::const_new();
    once(&WORLD, World::make().boxed_local()).await
}

/// Makes what tests share. If that fails, it fails for the first of them, and the others do not try again.
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

    /// As the head of `deploy/controller.yaml` says, in a namespace where only restricted pods may run.
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

    /// Applies a file or folder of the repository.
    pub async fn apply(&self, namespace: &str, path: &str) {
        let path = repository(path).display().to_string();
        self.cluster.kubectl(namespace, &["apply", "--server-side", "-f", &path]).await.succeeded();
    }

    /// Has a namespace refuse pods that do not follow the restricted Pod Security Standard.
    pub async fn restrict(&self, namespace: &str) {
        let strict = "pod-security.kubernetes.io/enforce=restricted";
        self.cluster.kubectl("", &["label", "namespace", namespace, strict]).await.succeeded();
    }

    /// Waits until a Deployment is as declared: every pod of the newest kind, ready, and no other wanted.
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

    /// All that may help to see why something in a namespace is not as it should be.
    pub async fn state(&self, namespace: &str, said: Finished) -> String {
        let pods = self.cluster.kubectl(namespace, &["describe", "pods"]).await.stdout;
        let log = self.operator_log().await;
        format!("{said:?}\n{pods}\nthe operator:\n{log}\n{}", self.node.log())
    }

    /// What the operator's pod has logged.
    pub async fn operator_log(&self) -> String {
        let logs = ["logs", "deployment/opsadmin-operator", "--tail=20"];
        let said = self.cluster.kubectl(OPERATOR, &logs).await;
        said.stdout + &said.stderr
    }

    /// A call of the command line beside the cluster, on the same database.
    pub fn opsadmin(&self, arguments: &[&str]) -> Opsadmin {
        Opsadmin::new().args(arguments).env("OPSADMIN_DATABASE_URL", self.database.url())
    }

    /// The same with the keyring.
    pub fn opsadmin_with_keyring(&self, arguments: &[&str]) -> Opsadmin {
        self.opsadmin(arguments).env("OPSADMIN_KEYRING", &self.keyring)
    }

    /// A test's own connections to the database.
    pub async fn sql(&self) -> PgPool {
        let pool = PgPoolOptions::new().max_connections(2).connect(self.database.url()).await;
        pool.expect("the test database answers")
    }

    /// The accounts of a namespace.
    pub fn accounts(&self, namespace: &str) -> Api<ApiAccount> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Pods reach the node's address, but no address of its loopback interface, where the database server listens.
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

/// A path of this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
