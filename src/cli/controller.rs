//! `opsadmin controller`: keeps a cluster's accounts true.

use super::database::{DatabaseArgs, KeyringArgs, OnUnknownAffiliate};
use super::surroundings::Machine;
use crate::account::ClusterId;
use crate::controller::{Settings, run};
use crate::telemetry::logs::{self, LogFormat};
use anyhow::{Context, Result, anyhow};
use clap::Args;
use http::header::{HeaderValue, USER_AGENT};
use k8s_openapi::api::core::v1::Namespace;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tower::timeout::TimeoutLayer;

/// How long the API server may take to begin an answer, with all that the client tries again by itself.
///
/// A connection whose other end is gone without a word never says so, and the resource would wait for it for ever. It is
/// also less than the 30 seconds that Kubernetes gives a pod to end, in which a call that is under way must end too.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Keep the accounts declared on a cluster true, until stopped.
///
/// Watches ApiAccounts and the Secrets made for them, keeps the account database and the Secrets as declared, and says
/// so in statuses and events. On SIGTERM or Ctrl-C it finishes what is in flight; a second signal ends it at once.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin controller --database sqlite://opsadmin.db\n  opsadmin controller --namespace partners --database postgres://opsadmin@db.example.com/opsadmin --keyring opsadmin.keyring"
)]
pub struct Controller {
    /// A namespace to watch; may be given more than once. Default: all of them.
    #[arg(short, long = "namespace", value_name = "NAMESPACE")]
    namespaces: Vec<String>,

    /// The kubeconfig file. Default: $KUBECONFIG, ~/.kube/config, or the pod's service account.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The kubeconfig's context. Default: its current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    keyring: KeyringArgs,

    /// This cluster's name in the account database; accounts belong to it. Default: the UID of the namespace kube-system.
    #[arg(long, value_name = "ID", env = "OPSADMIN_CLUSTER_ID")]
    cluster_id: Option<String>,

    /// What to do about an affiliate that OpsAdmin does not know.
    #[arg(long, value_name = "ACTION", default_value = "refuse")]
    unknown_affiliate: OnUnknownAffiliate,

    /// How many accounts to work on at a time.
    #[arg(long, value_name = "NUMBER", default_value = "16", value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: u16,

    /// How to write log lines.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

impl Controller {
    /// Runs until a signal.
    pub async fn run(self) -> Result<ExitCode> {
        logs::start(self.log_format)?;
        let client = self.client().await?;
        let cluster = self.cluster(&client).await?;
        let database = self.database.open()?;
        let keyring = self.keyring.load(&self.database, database.as_ref()).await?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            %cluster,
            namespaces = if self.namespaces.is_empty() { "all".to_owned() } else { self.namespaces.join(",") },
            "starting"
        );
        let settings = Settings {
            client,
            cluster,
            namespaces: self.namespaces,
            database,
            keyring,
            unknown_affiliate: self.unknown_affiliate.into(),
            concurrency: self.concurrency,
            surroundings: Arc::new(Machine),
        };
        run(settings, stopped()?).await?;
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    }

    async fn client(&self) -> Result<Client> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let mut config = match (&self.kubeconfig, &self.context) {
            (Some(file), _) => {
                let named = || format!("cannot use the kubeconfig {}", file.display());
                let kubeconfig = Kubeconfig::read_from(file).with_context(named)?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.with_context(named)?
            }
            (None, Some(context)) => Config::from_kubeconfig(&options)
                .await
                .with_context(|| format!("cannot use the context {context} of the kubeconfig"))?,
            (None, None) => Config::infer()
                .await
                .context("no cluster to connect to: give --kubeconfig FILE, or run inside a cluster")?,
        };
        config.headers.push((USER_AGENT, HeaderValue::from_static(concat!("opsadmin/", env!("CARGO_PKG_VERSION")))));
        Ok(ClientBuilder::try_from(config)?.with_layer(&TimeoutLayer::new(ANSWER_WITHIN)).build())
    }

    async fn cluster(&self, client: &Client) -> Result<ClusterId> {
        let id = match &self.cluster_id {
            Some(id) => id.clone(),
            None => Api::<Namespace>::all(client.clone())
                .get_metadata("kube-system")
                .await
                .context("cannot read the UID of the namespace kube-system, which names this cluster in the account database; give --cluster-id, or allow `get` on that namespace")?
                .metadata
                .uid
                .ok_or_else(|| anyhow!("the namespace kube-system has no UID; give --cluster-id"))?,
        };
        Ok(ClusterId::parse(&id)?)
    }
}

/// Done at the first SIGTERM or SIGINT; at the second, the process ends at once.
fn stopped() -> Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        // The receiver is gone only when the controller has ended already.
        drop(sender);
        let code = tokio::select! { _ = terminate.recv() => 143, _ = interrupt.recv() => 130 };
        std::process::exit(code);
    });
    Ok(async move { drop(receiver.await) })
}
