//! A cluster, as the command line names it, and its id in the account database.

mod kubeconfig;
mod no_proxy;
mod proxy;

use crate::account::ClusterId;
use crate::secrets::said::{reason, with_causes};
use anyhow::{Result, anyhow};
use clap::Args;
use http::header::{HeaderValue, USER_AGENT};
use k8s_openapi::api::core::v1::Namespace;
use kube::client::{AuthError, ClientBuilder};
use kube::config::ExecConfig;
use kube::{Api, Client, Config};
use kubeconfig::Unusable;
use proxy::Proxy;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;
use tower::BoxError;
use tower::timeout::TimeoutLayer;
use tower::util::MapErrLayer;

/// How long the API server may take to begin an answer, with all that the client tries again by itself.
///
/// A connection whose other end is gone without a word never says so, and whoever asked would wait for it for ever. It is
/// also less than the 30 seconds that Kubernetes gives a pod to end, in which a call that is under way must end too.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The way out for a command that asks a cluster for nothing but its id.
const WITHOUT_CLUSTER: &str =
    "; --cluster-id ID spares asking the cluster, and so does the account's own name without --namespace";

/// How to reach a cluster.
#[derive(Debug, Args)]
pub struct KubeArgs {
    /// The kubeconfig file. Default: $KUBECONFIG, ~/.kube/config, or the pod's service account.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The kubeconfig's context. Default: its current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// Which cluster, for the account database.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(flatten)]
    kube: KubeArgs,

    /// This cluster's name in the account database; accounts belong to it. Default: the UID of the namespace kube-system.
    #[arg(long, value_name = "ID", env = "OPSADMIN_CLUSTER_ID", value_parser = ClusterId::parse)]
    cluster_id: Option<ClusterId>,
}

impl KubeArgs {
    /// A client for the cluster.
    pub fn client(&self) -> Result<Client> {
        let variable = |name: &str| std::env::var(name).ok();
        let (used, mut config, mut proxy) = self.connection(&variable)?;
        let refused = |reason: String| anyhow!("cannot use {used}: {reason}");
        if proxy.is_none() {
            proxy = Proxy::of_environment(&config.cluster_url, &variable).map_err(&refused)?;
        }
        config.proxy_url = proxy.as_ref().map(|proxy| proxy.url.clone());
        config.headers.push((USER_AGENT, HeaderValue::from_static(concat!("opsadmin/", env!("CARGO_PKG_VERSION")))));
        let login = config.auth_info.exec.clone();
        let client = ClientBuilder::try_from(config).map_err(|error| refused(not_built(&error, login.as_ref())))?;
        let client = client.with_layer(&TimeoutLayer::new(ANSWER_WITHIN));
        Ok(match proxy {
            Some(proxy) => {
                tracing::info!("the way to the API server is {proxy}");
                client.with_layer(&MapErrLayer::new(move |error| through(&proxy, error))).build()
            }
            None => client.build(),
        })
    }

    /// What is used, in words, the connection that it describes, and the proxy that it names itself.
    fn connection(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<(String, Config, Option<Proxy>)> {
        let listed = |files: String| -> Vec<PathBuf> {
            std::env::split_paths(files.trim()).filter(|file| !file.as_os_str().is_empty()).collect()
        };
        // Who names one does not mean the cluster that this may run in.
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
            Err(Unusable::Absent(reason)) if !is_named => {
                Ok(("the pod's service account".to_owned(), in_pod(&used, &reason)?, None))
            }
            Err(error) => Err(anyhow!("cannot use {used}: {}", error.reason())),
        }
    }
}

/// There is neither a kubeconfig nor the service account of a pod.
#[derive(Debug, Error)]
#[error("no cluster to connect to: give --kubeconfig FILE, or run inside a cluster: {0}")]
struct NoCluster(String);

/// What a pod has, where there is no kubeconfig for this reason.
fn in_pod(kubeconfig: &str, reason: &str) -> Result<Config, NoCluster> {
    Config::incluster().map_err(|no_pod| NoCluster(format!("{kubeconfig}: {reason}; {}", with_causes(&no_pod))))
}

/// Why a connection cannot be made from what a kubeconfig says.
fn not_built(error: &kube::Error, login: Option<&ExecConfig>) -> String {
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

/// A call that did not get as far as the API server.
#[derive(Debug, Error)]
#[error("it cannot be reached through {proxy}")]
struct NotThrough {
    proxy: String,
    source: BoxError,
}

/// Tells of a connection that could not be made by which way it was tried.
fn through(proxy: &Proxy, error: BoxError) -> BoxError {
    let is_connect = error
        .downcast_ref::<hyper_util::client::legacy::Error>()
        .is_some_and(hyper_util::client::legacy::Error::is_connect);
    if is_connect { NotThrough { proxy: proxy.to_string(), source: error }.into() } else { error }
}

impl ClusterArgs {
    /// A client for the cluster.
    pub fn client(&self) -> Result<Client> {
        self.kube.client()
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

    /// The id that was given, if one was.
    pub fn given(&self) -> Option<&ClusterId> {
        self.cluster_id.as_ref()
    }

    /// The id that was given, or the one that the cluster has.
    pub async fn id(&self, client: &Client) -> Result<ClusterId> {
        match self.given() {
            Some(id) => Ok(id.clone()),
            None => own_id(client, "").await,
        }
    }

    /// The same, with a connection only if it takes one.
    pub async fn id_alone(&self) -> Result<ClusterId> {
        match self.given() {
            Some(id) => Ok(id.clone()),
            None => own_id(&self.client()?, WITHOUT_CLUSTER).await,
        }
    }

    /// Returns the same, or `None` if no id was given and no kubeconfig and no pod names a cluster.
    ///
    /// # Errors
    /// The cluster that is named cannot be used or does not answer.
    pub async fn id_if_any(&self) -> Result<Option<ClusterId>> {
        if let Some(id) = self.given() {
            return Ok(Some(id.clone()));
        }
        match self.client_if_any()? {
            Some(client) => own_id(&client, WITHOUT_CLUSTER).await.map(Some),
            None => Ok(None),
        }
    }
}

/// What went wrong with a call about ApiAccounts or their Secrets, and what to do about it; `rights`: where it takes a right
/// that is missing.
pub fn in_words(error: &kube::Error, rights: &str) -> String {
    let way_out = match error {
        kube::Error::Api(status) if status.code == 403 => rights,
        kube::Error::Api(status) if status.code == 404 => {
            "install the resource with `opsadmin crd | kubectl apply --server-side -f -`"
        }
        other => return unanswered(other),
    };
    format!("{}; {way_out}", reason(error))
}

/// What went wrong with a call, whatever it was about.
fn unanswered(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            format!("{}; the cluster does not take the credentials of the kubeconfig", reason(error))
        }
        _ => reason(error),
    }
}

/// `otherwise`: what to do where no right is missing.
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
                unanswered(&error)
            )
        })?
        .metadata
        .uid
        .ok_or_else(|| anyhow!("the namespace kube-system has no UID; give --cluster-id"))?;
    Ok(ClusterId::parse(&id)?)
}
