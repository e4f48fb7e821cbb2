//! The parts that all tests share: a cluster with a node, Helm, and volumes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use kube::Client;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::apart::NODE_ADDRESS;
use crate::node::Node;
use crate::registry::Registry;
use crate::support::cluster::Cluster;
use crate::support::helm::Helm;
use crate::support::process::Folder;
use crate::support::wait::eventually;

/// A deadline that is long enough for anything that a cluster does by itself, even on a busy machine.
pub const SOON: Duration = Duration::from_mins(2);
/// The operator's image, without tag.
pub const IMAGE: &str = "registry.example.com/opsadmin-operator";
/// The label of the operator's pods. The hook's pod has another one.
pub const CONTROLLERS: &str = "app.kubernetes.io/component=controller";
/// The default `StorageClass`.
const STORAGE_CLASS: &str = "standard";
/// What the API server answers as long as it cannot apply a kind whose definition is new.
const KIND_IS_NEW: &str = "There can be a delay between when CustomResourceDefinitions are created";

/// The cluster. It has no release of the operator by itself.
pub struct World {
    pub cluster: Cluster,
    pub client: Client,
    pub helm: Helm,
    node: Node,
    volumes: Arc<Folder>,
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
        let (cluster, registry) = tokio::join!(Cluster::for_a_node(NODE_ADDRESS), Registry::filled());
        let cluster = cluster.unwrap_or_else(|problem| panic!("no test cluster: {problem}"));
        let registry = registry.serve().await;
        let node = Node::join(&cluster, registry).await;
        let (client, helm) = (cluster.client().await, Helm::of(&cluster).await);
        let world = Self { cluster, client, helm, node, volumes: Folder::new("volumes") };
        world.create_storage_class().await;
        println!("the cluster and its node are ready after {:.1} s", began.elapsed().as_secs_f64());
        world
    }

    /// Creates a default `StorageClass`. Nothing provisions its volumes, so [`World::volume`] creates each one.
    async fn create_storage_class(&self) {
        let class = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {
                "name": STORAGE_CLASS, "annotations": { "storageclass.kubernetes.io/is-default-class": "true" },
            },
            "provisioner": "kubernetes.io/no-provisioner",
        });
        self.apply("", &class.to_string()).await;
    }

    /// Creates a volume for a claim of the default `StorageClass`: a folder that everybody may write to, as provisioners
    /// of local folders create it.
    pub async fn volume(&self, namespace: &str, claim: &str) {
        let name = format!("{namespace}-{claim}");
        let folder = self.volumes.path().join(&name);
        fs::create_dir(&folder).expect("a new folder");
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).expect("it is our folder");
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": name },
            "spec": {
                "capacity": { "storage": "1Gi" },
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": STORAGE_CLASS,
                "claimRef": { "namespace": namespace, "name": claim },
                "hostPath": { "path": folder },
            },
        });
        self.apply("", &volume.to_string()).await;
    }

    /// Applies manifests.
    pub async fn apply(&self, namespace: &str, manifests: &str) {
        self.apply_from(namespace, &["-f", "-"], manifests).await;
    }

    /// Applies the manifests that these arguments name, or that the input has. Waits for the API server, which cannot
    /// apply a kind in the first moments after its definition is established.
    pub async fn apply_from(&self, namespace: &str, source: &[&str], input: &str) {
        let apply = [&["apply", "--server-side"], source].concat();
        let finished = eventually("the API server to know each kind", SOON, async || {
            let finished = self.cluster.kubectl_with(namespace, &apply, input).await;
            if finished.stderr.contains(KIND_IS_NEW) { Err(finished.stderr) } else { Ok(finished) }
        });
        finished.await.succeeded();
    }

    /// Creates a namespace that refuses pods that do not follow the restricted Pod Security Standard.
    pub async fn create_namespace(&self, name: &str) {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "labels": { "pod-security.kubernetes.io/enforce": "restricted" } },
        });
        self.apply("", &namespace.to_string()).await;
    }

    /// Waits until a Deployment is rolled out: every pod is of the newest revision and ready, and no other pod is left.
    pub async fn rolled_out(&self, namespace: &str, deployment: &str) {
        let status = ["rollout", "status", "deployment", deployment, "--watch=false"];
        eventually(&format!("the Deployment {deployment} to be rolled out"), SOON, async || {
            let said = self.cluster.kubectl(namespace, &status).await;
            if said.stdout.contains("successfully rolled out") {
                Ok(())
            } else {
                Err(format!("{said:?}\n{}", self.state(namespace).await))
            }
        })
        .await;
    }

    /// Waits until no pod of the operator is left in a namespace, not even one that is ending.
    pub async fn controllers_gone(&self, namespace: &str) {
        let gone = ["wait", "pods", "-l", CONTROLLERS, "--for=delete", "--timeout=50s"];
        self.cluster.kubectl(namespace, &gone).await.succeeded();
    }

    /// Returns the state of a namespace's pods, the operator's log if it runs there, and the node's log, for a failure
    /// message.
    pub async fn state(&self, namespace: &str) -> String {
        let pods = self.cluster.kubectl(namespace, &["describe", "pods"]).await.stdout;
        format!("{pods}\nthe operator:\n{}\n{}", self.controllers_log(namespace).await, self.node.log())
    }

    /// Returns the last log lines of the operator's pods in a namespace.
    pub async fn controllers_log(&self, namespace: &str) -> String {
        let said = self.cluster.kubectl(namespace, &["logs", "-l", CONTROLLERS, "--prefix", "--tail=20"]).await;
        said.stdout + &said.stderr
    }
}

/// Returns a path in this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
