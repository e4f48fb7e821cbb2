//! A cluster, as the command line names it, and its id in the account database.

use crate::account::ClusterId;
use crate::secrets::said::{reason, unusable, with_causes};
use anyhow::{Result, anyhow};
use clap::Args;
use http::header::{HeaderValue, USER_AGENT};
use k8s_openapi::api::core::v1::Namespace;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tower::timeout::TimeoutLayer;

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
    #[arg(long, value_name = "ID", env = "OPSADMIN_CLUSTER_ID")]
    cluster_id: Option<String>,
}

impl KubeArgs {
    /// A client for the cluster.
    pub async fn client(&self) -> Result<Client> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let (used, config) = match (&self.kubeconfig, &self.context) {
            (Some(file), _) => (format!("the kubeconfig {}", file.display()), config_in(file, &options).await),
            (None, Some(context)) => {
                (format!("the context {context} of the kubeconfig"), Config::from_kubeconfig(&options).await)
            }
            // Who names one does not mean the cluster that this may run in.
            (None, None) if std::env::var_os("KUBECONFIG").is_some_and(|files| !files.is_empty()) => {
                ("the kubeconfig in $KUBECONFIG".to_owned(), Config::from_kubeconfig(&options).await)
            }
            (None, None) => match Config::from_kubeconfig(&options).await {
                Err(error) if !matches!(error, KubeconfigError::Parse(_)) => {
                    ("the pod's service account".to_owned(), Ok(in_pod(&error)?))
                }
                config => ("the kubeconfig ~/.kube/config".to_owned(), config),
            },
        };
        let mut config = config.map_err(|error| anyhow!("cannot use {used}: {}", unusable(&error)))?;
        config.headers.push((USER_AGENT, HeaderValue::from_static(concat!("opsadmin/", env!("CARGO_PKG_VERSION")))));
        let client =
            ClientBuilder::try_from(config).map_err(|error| anyhow!("cannot use {used}: {}", reason(&error)))?;
        Ok(client.with_layer(&TimeoutLayer::new(ANSWER_WITHIN)).build())
    }
}

async fn config_in(file: &Path, options: &KubeConfigOptions) -> Result<Config, KubeconfigError> {
    Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, options).await
}

/// What a pod has, where there is no kubeconfig for this reason.
fn in_pod(no_kubeconfig: &KubeconfigError) -> Result<Config> {
    Config::incluster().map_err(|no_pod| {
        anyhow!(
            "no cluster to connect to: give --kubeconfig FILE, or run inside a cluster: {}; {}",
            unusable(no_kubeconfig),
            with_causes(&no_pod)
        )
    })
}

impl ClusterArgs {
    /// A client for the cluster.
    pub async fn client(&self) -> Result<Client> {
        self.kube.client().await
    }

    /// The id that was given, if one was.
    pub fn given(&self) -> Result<Option<ClusterId>> {
        Ok(self.cluster_id.as_deref().map(ClusterId::parse).transpose()?)
    }

    /// The id that was given, or the one that the cluster has.
    pub async fn id(&self, client: &Client) -> Result<ClusterId> {
        match self.given()? {
            Some(id) => Ok(id),
            None => own_id(client, "").await,
        }
    }

    /// The same, with a connection only if it takes one.
    pub async fn id_alone(&self) -> Result<ClusterId> {
        match self.given()? {
            Some(id) => Ok(id),
            None => own_id(&self.client().await?, WITHOUT_CLUSTER).await,
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
