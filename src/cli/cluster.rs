//! The options that name a cluster, the client for the cluster, and the id of the cluster in the account database.

mod kubeconfig;
mod no_proxy;
mod proxy;

use crate::account::ClusterId;
use crate::kube_error::{reason, with_causes, with_login_advice};
use anyhow::{Result, anyhow};
use clap::Args;
use http::header::{HeaderValue, USER_AGENT};
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::Namespace;
use kube::client::{AuthError, ClientBuilder};
use kube::config::ExecConfig;
use kube::{Api, Client, Config};
use kubeconfig::InvalidKubeconfig;
use proxy::Proxy;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;
use thiserror::Error;
use tower::BoxError;
use tower::timeout::TimeoutLayer;
use tower::util::MapErrLayer;

/// The timeout for the start of a response of the API server, including the retries of the client.
///
/// Without a timeout, a request waits for ever when the connection is lost without notice. The timeout is shorter than
/// the 30 seconds that Kubernetes gives a pod to end, so that a running request ends in time.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// The advice for a command that needs nothing from a cluster but its id.
const WITHOUT_CLUSTER: &str =
    "; --cluster-id ID spares asking the cluster, and so does the account's own name without --namespace";

/// The source of a connection that no kubeconfig names.
const POD: &str = "the pod's service account";

/// The options for the connection to a cluster.
#[derive(Debug, Args)]
pub struct KubeArgs {
    /// The kubeconfig file. Default: $KUBECONFIG, ~/.kube/config, or the pod's service account.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig. Default: its current context.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// The options for the connection to a cluster and for its id in the account database.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(flatten)]
    kube: KubeArgs,

    /// The id of the cluster in the account database; each account belongs to a cluster id. Default: the UID of the
    /// namespace kube-system.
    #[arg(long, value_name = "ID", env = "OPSADMIN_CLUSTER_ID", value_parser = ClusterId::parse)]
    cluster_id: Option<ClusterId>,
}

impl KubeArgs {
    /// Creates a client for the cluster.
    pub fn client(&self) -> Result<Client> {
        let (used, config, proxy) = self.connection()?;
        if let Some(proxy) = &proxy {
            tracing::info!("the way to the API server is {proxy}");
        }
        client(&used, config, proxy, TokioExecutor::new())
    }

    /// Creates a client for the cluster whose connections are tasks of this executor.
    fn client_on(&self, executor: impl ConnectionExecutor) -> Result<Client> {
        let (used, config, proxy) = self.connection()?;
        client(&used, config, proxy, executor)
    }

    /// Returns a description of the source of the connection, the connection, and the proxy on its way.
    fn connection(&self) -> Result<(String, Config, Option<Proxy>)> {
        let variable = |name: &str| std::env::var(name).ok();
        let (used, config, mut proxy) = self.configured(&variable)?;
        if proxy.is_none() {
            proxy = Proxy::of_environment(&config.cluster_url, &variable)
                .map_err(|reason| anyhow!("cannot use {used}: {reason}"))?;
        }
        Ok((used, config, proxy))
    }

    /// Returns a description of the source of the connection, the connection, and the proxy that the kubeconfig names.
    fn configured(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<(String, Config, Option<Proxy>)> {
        let listed = |files: String| -> Vec<PathBuf> {
            std::env::split_paths(files.trim()).filter(|file| !file.as_os_str().is_empty()).collect()
        };
        // If a user names a kubeconfig, the pod's service account is not used instead of it.
        let (used, files, is_named) = match (&self.kubeconfig, variable("KUBECONFIG").map(listed).unwrap_or_default()) {
            (Some(file), _) => (format!("the kubeconfig {}", file.display()), vec![file.clone()], true),
            (None, files) if !files.is_empty() => ("the kubeconfig in $KUBECONFIG".to_owned(), files, true),
            (None, _) => {
                let home = std::env::home_dir().map(|home| home.join(".kube/config"));
                ("the kubeconfig ~/.kube/config".to_owned(), home.into_iter().collect(), self.context.is_some())
            }
        };
        let used = match &self.context {
            Some(context) => format!("the context {context} of {used}"),
            None => used,
        };
        match kubeconfig::read(&files).and_then(|found| kubeconfig::connection(found, self.context.as_deref())) {
            Ok((config, proxy)) => Ok((used, config, proxy)),
            Err(InvalidKubeconfig::Absent(reason)) if !is_named => Ok((POD.to_owned(), in_pod(&used, &reason)?, None)),
            Err(error) => Err(anyhow!("cannot use {used}: {}", error.reason())),
        }
    }
}

/// An executor for the connections of a client.
pub trait ConnectionExecutor:
    hyper::rt::Executor<Pin<Box<dyn Future<Output = ()> + Send>>> + Send + Sync + Clone + 'static
{
}

impl<E> ConnectionExecutor for E where
    E: hyper::rt::Executor<Pin<Box<dyn Future<Output = ()> + Send>>> + Send + Sync + Clone + 'static
{
}

/// Creates a client for this connection, which is described by `used`.
fn client(used: &str, mut config: Config, proxy: Option<Proxy>, executor: impl ConnectionExecutor) -> Result<Client> {
    config.proxy_url = proxy.as_ref().map(|proxy| proxy.url.clone());
    config.headers.push((USER_AGENT, HeaderValue::from_static(concat!("opsadmin/", env!("CARGO_PKG_VERSION")))));
    let login = config.auth_info.exec.clone();
    let client = ClientBuilder::try_from((config, executor))
        .map_err(|error| anyhow!("cannot use {used}: {}", client_error(&error, login.as_ref())))?
        .with_layer(&TimeoutLayer::new(CALL_TIMEOUT));
    Ok(match proxy {
        Some(proxy) => client.with_layer(&MapErrLayer::new(move |error| with_proxy(&proxy, error))).build(),
        None => client.build(),
    })
}

/// There is neither a kubeconfig nor the service account of a pod.
#[derive(Debug, Error)]
#[error("no cluster to connect to: give --kubeconfig FILE, or run inside a cluster: {0}")]
struct NoCluster(String);

/// What a pod has, where there is no kubeconfig for this reason.
fn in_pod(kubeconfig: &str, reason: &str) -> Result<Config, NoCluster> {
    Config::incluster().map_err(|no_pod| NoCluster(format!("{kubeconfig}: {reason}; {}", with_causes(&no_pod))))
}

/// Describes why the client cannot be created from a kubeconfig.
fn client_error(error: &kube::Error, login: Option<&ExecConfig>) -> String {
    match (error, login) {
        (kube::Error::Auth(AuthError::AuthExecStart(error)), Some(login)) => {
            let hint = login.install_hint.as_deref().map(str::trim).filter(|hint| !hint.is_empty());
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            let program = login.command.as_deref().unwrap_or_default();
            format!("its login program {program} cannot be started: {error}{hint}")
        }
        _ => reason(error),
    }
}

/// A request that did not reach the API server through the proxy.
#[derive(Debug, Error)]
#[error("it cannot be reached through {proxy}")]
struct ProxyConnectError {
    proxy: String,
    source: BoxError,
}

/// Adds the proxy to the error of a connection that could not be made.
fn with_proxy(proxy: &Proxy, error: BoxError) -> BoxError {
    let is_connect = error
        .downcast_ref::<hyper_util::client::legacy::Error>()
        .is_some_and(hyper_util::client::legacy::Error::is_connect);
    if is_connect { ProxyConnectError { proxy: proxy.to_string(), source: error }.into() } else { error }
}

impl ClusterArgs {
    /// Creates a client for the cluster.
    pub fn client(&self) -> Result<Client> {
        self.kube.client()
    }

    /// Creates a client for the cluster whose connections are tasks of this executor.
    pub fn client_on(&self, executor: impl ConnectionExecutor) -> Result<Client> {
        self.kube.client_on(executor)
    }

    /// Returns a client for the cluster, or `None` if no kubeconfig and no pod names a cluster.
    ///
    /// # Errors
    /// As [`Self::client`] for a cluster that is named and cannot be used.
    pub fn client_if_any(&self) -> Result<Option<Client>> {
        match self.client() {
            Err(error) if error.is::<NoCluster>() => Ok(None),
            client => client.map(Some),
        }
    }

    /// Returns whether the program runs in a pod and uses the pod's service account.
    pub fn is_own_pod(&self) -> bool {
        let variable = |name: &str| std::env::var(name).ok();
        self.kube.configured(&variable).is_ok_and(|(used, ..)| used == POD)
    }

    /// The id that was given, if one was.
    pub fn given_id(&self) -> Option<&ClusterId> {
        self.cluster_id.as_ref()
    }

    /// Returns the value of `--cluster-id`, or reads the id from the cluster.
    pub async fn id(&self, client: &Client) -> Result<ClusterId> {
        match self.given_id() {
            Some(id) => Ok(id.clone()),
            None => own_id(client, "").await,
        }
    }

    /// As [`Self::id`], but connects to the cluster only if `--cluster-id` is not given.
    pub async fn id_without_client(&self) -> Result<ClusterId> {
        match self.given_id() {
            Some(id) => Ok(id.clone()),
            None => own_id(&self.client()?, WITHOUT_CLUSTER).await,
        }
    }

    /// Returns the same, or `None` if no id was given and no kubeconfig and no pod names a cluster.
    ///
    /// # Errors
    /// The cluster that is named cannot be used or does not answer.
    pub async fn id_if_any(&self) -> Result<Option<ClusterId>> {
        if let Some(id) = self.given_id() {
            return Ok(Some(id.clone()));
        }
        match self.client_if_any()? {
            Some(client) => own_id(&client, WITHOUT_CLUSTER).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Reads the UID of the namespace kube-system. `otherwise` is the advice when no right is missing.
async fn own_id(client: &Client, otherwise: &str) -> Result<ClusterId> {
    let namespace = Api::<Namespace>::all(client.clone()).get_metadata("kube-system").await;
    let id = namespace
        .map_err(|error| {
            let way_out = match &error {
                kube::Error::Api(status) if status.code == 403 => "; give --cluster-id, or allow `get` on that namespace",
                _ => otherwise,
            };
            anyhow!(
                "cannot read the UID of the namespace kube-system, which names this cluster in the account database: {}{way_out}",
                with_login_advice(&error)
            )
        })?
        .metadata
        .uid
        .ok_or_else(|| anyhow!("the namespace kube-system has no UID; give --cluster-id"))?;
    Ok(ClusterId::parse(&id)?)
}
