//! The Kubernetes control plane that all tests share, and control planes for single tests.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::Condition as _;
use kube::{Api, Client, Config};
use tokio::sync::OnceCell;

use super::audit::{self, AuditEvent};
use super::control_plane::{ControlPlane, Site};
use super::namespace::TestNamespace;
use super::process::Folder;
use super::programs::{Programs, installed_kubectl};
use super::run::{Finished, run};
use super::wait::eventually;

/// The user agent of the tests' own client. It distinguishes the tests from the controller in an audit log.
pub const SUITE_USER_AGENT: &str = "opsadmin-suite";

/// The folder of the project's custom resource definitions. They are installed before the first test.
const DEFINITIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(30);
const KUBECTL_WITHIN: Duration = Duration::from_mins(1);

/// A Kubernetes API server and its controllers. It has no nodes, so no pod runs, unless it was created by
/// [`Cluster::for_a_node`].
pub struct Cluster {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    controller_manager: Option<PathBuf>,
    // `None` if the cluster existed before the tests.
    own: Option<ControlPlane>,
    home: Arc<Folder>,
}

/// A cluster that only one test uses. Its programs end when this value is dropped, because even an idle cluster uses
/// CPU time.
pub struct SeparateCluster(pub &'static Cluster);

impl Deref for SeparateCluster {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0
    }
}

impl Drop for SeparateCluster {
    fn drop(&mut self) {
        if let Some(own) = &self.0.own {
            own.end();
        }
    }
}

/// Returns the cluster of this test binary. The first test that calls this function starts it.
///
/// If `OPSADMIN_TEST_KUBECONFIG` is set, it names the kubeconfig of an existing cluster, such as a kind cluster, which
/// is used instead. The user's current kubeconfig is never read.
pub async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Result<Cluster, String>> = OnceCell::const_new();
    match CLUSTER.get_or_init(Cluster::find_or_start).await {
        Ok(cluster) => cluster,
        Err(problem) => panic!("no test cluster: {problem}"),
    }
}

impl Cluster {
    /// Starts a cluster that only this test uses, without the project's definitions. It is for tests that concern all
    /// namespaces and for tests that need the definitions to be missing.
    pub async fn of_its_own() -> SeparateCluster {
        match Self::start_bare(Programs::find, Site::Loopback).await {
            Ok(mut cluster) => {
                cluster.start_controllers();
                SeparateCluster(Box::leak(Box::new(cluster)))
            }
            Err(problem) => panic!("no cluster of its own: {problem}"),
        }
    }

    /// Starts a cluster of the newest release that a node at this address can join, without the project's definitions.
    pub async fn for_a_node(address: Ipv4Addr) -> Result<Self, String> {
        let mut cluster = Self::start_bare(|| Programs::of_release("newest"), Site::Node(address)).await?;
        cluster.start_controllers();
        Ok(cluster)
    }

    /// Installs the project's definitions in the cluster.
    pub async fn install_definitions(&self) {
        if let Err(problem) = install_definitions(&self.client().await).await {
            panic!("{problem}");
        }
    }

    async fn find_or_start() -> Result<Self, String> {
        match env::var_os("OPSADMIN_TEST_KUBECONFIG") {
            Some(kubeconfig) => Self::existing(PathBuf::from(kubeconfig)).await,
            None => Self::start().await,
        }
    }

    async fn existing(kubeconfig: PathBuf) -> Result<Self, String> {
        install_definitions(&client_of(&kubeconfig).await?).await?;
        Ok(Self {
            kubeconfig,
            kubectl: installed_kubectl(),
            controller_manager: None,
            own: None,
            home: Folder::new("home"),
        })
    }

    async fn start() -> Result<Self, String> {
        let mut cluster = Self::start_bare(Programs::find, Site::Loopback).await?;
        install_definitions(&client_of(&cluster.kubeconfig).await?).await?;
        cluster.start_controllers();
        Ok(cluster)
    }

    async fn start_bare(
        find: impl FnOnce() -> Result<Programs, String> + Send + 'static,
        site: Site,
    ) -> Result<Self, String> {
        let programs =
            tokio::task::spawn_blocking(find).await.map_err(|error| format!("looking for the programs: {error}"))??;
        let own = ControlPlane::start(&programs, site).await?;
        let kubeconfig = own.kubeconfig_for("opsadmin-suite", Some("system:masters"));
        Ok(Self {
            kubeconfig,
            kubectl: programs.kubectl,
            controller_manager: programs.controller_manager,
            own: Some(own),
            home: Folder::new("home"),
        })
    }

    fn start_controllers(&mut self) {
        if let (Some(own), Some(controller_manager)) = (&mut self.own, &self.controller_manager) {
            own.start_controllers(controller_manager);
        }
    }

    /// Returns the control plane. `None` if the cluster existed before the tests.
    pub fn control_plane(&self) -> Option<&ControlPlane> {
        self.own.as_ref()
    }

    /// Returns the kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns the `kubectl` of the cluster's release.
    pub fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// Creates a client with an administrator's rights. It belongs to the runtime of the test that calls this function.
    pub async fn client(&self) -> Client {
        match client_of(&self.kubeconfig).await {
            Ok(client) => client,
            Err(problem) => panic!("{problem}"),
        }
    }

    /// Returns the kubeconfig of a user who has only the rights that the test grants. Returns `None` on an existing
    /// cluster, because its certificate authority does not sign certificates for the tests.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> Option<PathBuf> {
        self.own.as_ref().map(|own| own.kubeconfig_for(user, group))
    }

    /// Creates a namespace that only this test uses. It is deleted when the value is dropped.
    pub async fn namespace(&self, test_name: &str) -> TestNamespace {
        TestNamespace::create(&self.kubeconfig, test_name).await
    }

    /// Returns every request about objects in `namespace` that the API server has answered so far. `""` selects
    /// requests across all namespaces. Returns `None` on an existing cluster, because its audit log cannot be read.
    pub fn audit(&self, namespace: &str) -> Option<Vec<AuditEvent>> {
        self.own.as_ref().map(|own| audit::read(own.audit_log(), namespace))
    }

    /// Runs `kubectl` in a namespace of this cluster. With `""`, the arguments or the input select the namespace.
    pub async fn kubectl(&self, namespace: &str, arguments: &[&str]) -> Finished {
        self.kubectl_with(namespace, arguments, "").await
    }

    /// Runs `kubectl` in a namespace of this cluster, with `input` as its standard input.
    pub async fn kubectl_with(&self, namespace: &str, arguments: &[&str], input: &str) -> Finished {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args((!namespace.is_empty()).then(|| format!("--namespace={namespace}")))
            .args(arguments)
            .env_remove("KUBECONFIG")
            .env("HOME", self.home.path());
        run(kubectl, input, KUBECTL_WITHIN).await
    }
}

/// Creates a client for a kubeconfig file.
pub async fn client_of(kubeconfig: &Path) -> Result<Client, String> {
    let mut config = config_of(kubeconfig).await?;
    config.headers.push((USER_AGENT, HeaderValue::from_static(SUITE_USER_AGENT)));
    Client::try_from(config).map_err(|error| format!("{}: {error}", kubeconfig.display()))
}

/// Creates a client that adds no header to a request and does not retry a request.
pub async fn bare_client_of(kubeconfig: &Path) -> Result<Client, String> {
    let mut config = config_of(kubeconfig).await?;
    config.default_retry = false;
    Client::try_from(config).map_err(|error| format!("{}: {error}", kubeconfig.display()))
}

async fn config_of(kubeconfig: &Path) -> Result<Config, String> {
    let because = |error: &dyn std::error::Error| format!("{}: {error}", kubeconfig.display());
    let contents = Kubeconfig::read_from(kubeconfig).map_err(|error| because(&error))?;
    let config = Config::from_custom_kubeconfig(contents, &KubeConfigOptions::default()).await;
    config.map_err(|error| because(&error))
}

/// Applies every definition in the `crds` folder and waits until the API server serves it.
async fn install_definitions(client: &Client) -> Result<(), String> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for (path, definition) in definitions()? {
        let because = |error: kube::Error| format!("{}: {error}", path.display());
        let name = definition.metadata.name.clone().unwrap_or_default();
        let untyped: Api<DynamicObject> =
            Api::all_with(client.clone(), &kube::api::ApiResource::erase::<CustomResourceDefinition>(&()));
        let params = PatchParams::apply(SUITE_USER_AGENT).force();
        untyped.patch(&name, &params, &Patch::Apply(&definition)).await.map_err(because)?;
        eventually(&format!("{name} to be served"), ESTABLISHED_WITHIN, async || {
            let seen = api.get_opt(&name).await.map_err(because)?;
            if is_crd_established().matches_object(seen.as_ref()) { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }
    Ok(())
}

fn definitions() -> Result<Vec<(PathBuf, DynamicObject)>, String> {
    let folder = Path::new(DEFINITIONS);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).map_err(|error| format!("{DEFINITIONS}: {error}"))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("{DEFINITIONS}: {error}"))?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let definition = serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            found.push((path, definition));
        }
    }
    Ok(found)
}
