//! `opsadmin controller`: keeps the accounts of a cluster in sync with its ApiAccounts.

use super::allow_adoption::OnUnassigned;
use super::cluster::ClusterArgs;
use super::database::{DatabaseArgs, KeyringArgs, OnUnknownAffiliate};
use super::environment::SystemEnvironment;
use super::leader_election::LeaderElectionArgs;
use super::retention::{MinimumIntervalArgs, RetentionArgs, at_least_a_second};
use super::revocation::RevocationArgs;
use super::stop::stopped;
use crate::controller::{Election, Freeze, Settings, run};
use crate::database::{AccountAdmin, Keyring};
use crate::http::Listen;
use crate::reconcile::parse_namespace;
use crate::telemetry::logs::{self, LogFormat};
use crate::telemetry::{self, Telemetry, traces};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Keep the accounts that a cluster declares in sync, until stopped.
///
/// Watches ApiAccounts and their Secrets, keeps the account database and the Secrets as declared, and reports in
/// statuses and events. On SIGTERM or Ctrl-C it finishes running reconciles; a second signal ends it at once.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin controller --database sqlite://opsadmin.db\n  opsadmin controller --namespace partners \\\n    --database postgres://opsadmin@db.example.com/opsadmin \\\n    --keyring opsadmin.keyring"
)]
pub struct Controller {
    /// A namespace to watch; may be given more than once. Default: all namespaces.
    #[arg(short, long = "namespace", value_name = "NAMESPACE", value_parser = parse_namespace)]
    namespaces: Vec<String>,

    #[command(flatten)]
    cluster: ClusterArgs,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    keyring: KeyringArgs,

    /// What to do when OpsAdmin does not know an affiliate.
    #[arg(long, value_name = "ACTION", default_value = "refuse")]
    unknown_affiliate: OnUnknownAffiliate,

    /// Who may adopt an account that was imported for no namespace: nobody (refuse), or the first ApiAccount that
    /// declares its name (adopt).
    #[arg(long, value_name = "ACTION", default_value = "refuse")]
    unassigned_accounts: OnUnassigned,

    /// The number of accounts that are reconciled at the same time, in all namespaces together. The controller opens
    /// half as many connections to PostgreSQL, at least 4 and at most 32.
    #[arg(long, value_name = "NUMBER", default_value = "16", value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: u16,

    /// How often to search the database for accounts that another program changed, such as 30s, 5m or 1h. PostgreSQL
    /// also reports each change at once.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = at_least_a_second)]
    sweep_interval: Duration,

    #[command(flatten)]
    revocation: RevocationArgs,

    #[command(flatten)]
    retention: RetentionArgs,

    #[command(flatten)]
    least_interval: MinimumIntervalArgs,

    /// How long an orphan continues to work: an account whose resource vanished without a deletion. It is reported at
    /// once.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = at_least_a_second)]
    orphan_grace: Duration,

    #[command(flatten)]
    election: LeaderElectionArgs,

    /// Only observe and report: write statuses and events, and nothing else. Accounts, keys, Secrets, finalizers and the
    /// tables of the database stay as they are. For an incident, and for the first start of a new version.
    #[arg(long, env = "OPSADMIN_FREEZE")]
    freeze: bool,

    /// The percentage of all accounts that may lose their access within ten minutes; 5 accounts are always allowed.
    /// Further deletions are held until a user confirms them. 100: no limit.
    #[arg(long, value_name = "PERCENT", default_value = "20", value_parser = clap::value_parser!(u8).range(1..=100))]
    deletion_brake: u8,

    /// The percentage of accounts that may be missing from the database and are still created again; 5 accounts are
    /// always allowed, unless all accounts are missing. More are held until a user confirms them. 100: no limit, in the
    /// database that had the accounts.
    #[arg(long, value_name = "PERCENT", default_value = "20", value_parser = clap::value_parser!(u8).range(1..=100))]
    creation_brake: u8,

    /// The address of /metrics, /livez and /readyz, such as :8080 or 127.0.0.1:8080. Port 0: any free port, which is
    /// logged. off: serve nothing.
    #[arg(long, value_name = "ADDRESS", default_value = ":8080", value_parser = Listen::parse)]
    metrics_address: Listen,

    /// How to write log lines.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// A file with a filter for log lines, as in `RUST_LOG`. Changes apply within seconds, without a restart. While the
    /// file is missing or empty, `RUST_LOG` applies.
    #[arg(long, value_name = "FILE")]
    log_filter_file: Option<PathBuf>,
}

impl Controller {
    /// Runs the controller until a signal.
    pub async fn run(mut self) -> Result<ExitCode> {
        logs::start(self.log_format, self.log_filter_file.take())?;
        let traces = traces::start()?;
        // Before everything else: as process 1 of a container, the program receives only signals that it has a handler
        // for.
        let stop = stopped()?;
        let (telemetry, pulse) = Telemetry::new();
        // Before the cluster and the database are read, so that probes and metrics also show a slow start.
        if let Some(address) = telemetry::serve(self.metrics_address, Arc::clone(&telemetry)).await? {
            tracing::info!(%address, "serving metrics and probes");
        }
        let result = pulse.run(self.control(telemetry, stop)).await;
        if let Some(traces) = traces {
            traces.stop().await;
        }
        result
    }

    async fn control(self, telemetry: Arc<Telemetry>, stop: impl Future<Output = ()> + Send) -> Result<ExitCode> {
        let mut stop = std::pin::pin!(stop);
        let started = tokio::select! {
            settings = self.settings(telemetry) => Some(settings?),
            () = &mut stop => None,
        };
        if let Some(settings) = started {
            run(settings, stop).await?;
        }
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    }

    /// Loads the keyring. A frozen controller creates none.
    async fn load_keyring(&self, freeze: Freeze, database: &dyn AccountAdmin) -> Result<Keyring> {
        if !freeze.is_on() {
            return self.keyring.load(&self.database, database).await;
        }
        self.keyring.load_read_only(&self.database, Some(database)).await?.context(
            "there is no keyring beside the database file, and a frozen controller creates none; start without --freeze",
        )
    }

    /// Reads what the controller needs from the cluster and the database before it starts.
    async fn settings(self, telemetry: Arc<Telemetry>) -> Result<Settings> {
        let client = self.cluster.client()?;
        let election = Election::new(self.election.lease(&self.cluster, &client, &self.database)?);
        let writing_client = self.cluster.client_on(election.executor())?;
        let cluster = self.cluster.id(&client).await?;
        let freeze = if self.freeze { Freeze::On } else { Freeze::Off };
        if freeze.is_on() && self.database.is_missing_file() {
            bail!(
                "the database file does not exist, and a frozen controller creates none; correct --database, or start without --freeze"
            );
        }
        let database = self.database.open_with(connections(self.concurrency))?;
        let keyring = self.load_keyring(freeze, database.as_ref()).await?;
        let keyring_file = self.keyring.file(&self.database)?.0;
        if freeze.is_on() {
            tracing::warn!(
                "this controller is frozen: it observes and reports, and changes no account, Secret or finalizer; start it without --freeze to end the freeze"
            );
        }
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            %cluster,
            namespaces = if self.namespaces.is_empty() { "all".to_owned() } else { self.namespaces.join(",") },
            "starting"
        );
        Ok(Settings {
            client,
            writing_client,
            election,
            cluster,
            namespaces: self.namespaces,
            freeze,
            database,
            keyring,
            keyring_file,
            unknown_affiliate: self.unknown_affiliate.into(),
            unassigned: self.unassigned_accounts.into(),
            concurrency: self.concurrency,
            sweep_interval: self.sweep_interval,
            revocation_lag: self.revocation.revocation_lag,
            deleted_account_retention: self.retention.deleted_account_retention,
            journal_retention: self.retention.journal_retention,
            orphan_grace: self.orphan_grace,
            deletion_brake: self.deletion_brake,
            creation_brake: self.creation_brake,
            least_interval: self.least_interval.period(),
            environment: Arc::new(SystemEnvironment),
            telemetry,
        })
    }
}

/// Returns the number of connections to a database server for this concurrency. A reconcile uses a connection for less
/// than half of its time, and the server needs connections for the API too.
fn connections(concurrency: u16) -> u32 {
    (u32::from(concurrency) / 2).clamp(4, 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_follow_the_concurrency_within_bounds() {
        assert_eq!([1, 8, 16, 50, 64, 1000].map(connections), [4, 4, 8, 25, 32, 32]);
    }
}
