//! One fleet of accounts: created before the controller starts, made by the controller, and looked over after a restart.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::accounts;
use super::processes::{Memory, memory, processor_time};
use super::support::cluster::{Cluster, SUITE_USER_AGENT, SeparateCluster};
use super::support::http::get;
use super::support::opsadmin::{Opsadmin, spawn_controller};
use super::support::postgres::Postgres;
use super::support::process::Folder;
use super::support::wait::eventually;

const CONTROLLER: &str = "opsadmin";
const NAMESPACE: &str = "partners";

/// How long the controller may take for one account. Only a broken controller takes longer.
const FOR_ONE: Duration = Duration::from_millis(200);
const STARTED_WITHIN: Duration = Duration::from_mins(1);
const ENDED_WITHIN: Duration = Duration::from_mins(1);

/// The most API writes for a new account, events included.
const WRITES_FOR_A_NEW_ACCOUNT: usize = 4;

/// The head of the table whose lines [`Measured`] prints.
pub const HEADER: &str = "\
| accounts | all are Ready after | accounts a second | writes for each | controller's CPU for each | \
memory at the peak | memory at rest | after a restart: looked over in | peak | writes | database |
|---|---|---|---|---|---|---|---|---|---|---|";

/// The figures of one fleet.
pub struct Measured {
    accounts: usize,
    new: Phase,
    restart: Phase,
    database_bytes: i64,
}

/// What the controller did from its start until nothing was left to do.
struct Phase {
    time: Duration,
    writes: usize,
    processor_time: BTreeMap<String, Duration>,
    memory: Memory,
}

impl Measured {
    /// Returns whether no more was written than promised.
    pub fn is_within_bounds(&self) -> bool {
        self.new.writes <= WRITES_FOR_A_NEW_ACCOUNT * self.accounts && self.restart.writes == 0
    }

    /// Returns the processor time of each program, for the new accounts and after the restart.
    pub fn processor_times(&self) -> String {
        format!("CPU for {}: {}; after a restart: {}", self.accounts, self.new.times(), self.restart.times())
    }
}

impl Phase {
    /// Returns the processor time of each program that needed more than a moment.
    fn times(&self) -> String {
        let times = self.processor_time.iter().filter(|(_, time)| **time > Duration::from_millis(200));
        times.map(|(name, time)| format!("{name} {:.1} s", time.as_secs_f64())).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accounts, new, restart, database_bytes } = self;
        #[allow(clippy::cast_precision_loss, reason = "the figures are for people")]
        let (count, database) = (*accounts as f64, *database_bytes as f64 / (1024.0 * 1024.0));
        let processor_time = new.processor_time.get(CONTROLLER).copied().unwrap_or_default();
        let rate = count / new.time.as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "the figures are for people")]
        let writes = new.writes as f64 / count;
        write!(
            f,
            "| {accounts} | {:.1} s | {rate:.0} | {writes:.2} | {:.2} ms | {} | {} | {:.1} s | {} | {} | {database:.0} MiB |",
            new.time.as_secs_f64(),
            processor_time.as_secs_f64() * 1000.0 / count,
            mib(new.memory.peak),
            mib(new.memory.resident),
            restart.time.as_secs_f64(),
            mib(restart.memory.peak),
            restart.writes,
        )
    }
}

fn mib(kib: u64) -> String {
    format!("{} MiB", kib.div_ceil(1024))
}

/// Measures a fleet of this size.
pub async fn fleet(accounts: usize) -> Measured {
    let world = World::start().await;
    eprintln!("creating {accounts} ApiAccounts");
    accounts::create(world.cluster.client().await, NAMESPACE, accounts).await;
    eprintln!("starting the controller");
    let new = world.phase(|metrics| value(metrics, r#"opsadmin_accounts{reason="Reconciled"}"#) == accounts, accounts);
    let new = new.await;
    eprintln!("restarting the controller");
    let looked_over = |metrics: &str| unchanged(metrics) >= accounts;
    let restart = world.phase(looked_over, accounts).await;
    Measured { accounts, new, restart, database_bytes: world.database_bytes().await }
}

/// Returns the sum of all series of reconciles that had nothing to do.
fn unchanged(metrics: &str) -> usize {
    let series = metrics.lines().filter(|line| line.starts_with(r#"opsadmin_reconciles_total{result="unchanged""#));
    series.map(number_at_the_end).sum()
}

/// Returns the value of a series, and 0 if there is none.
fn value(metrics: &str, series: &str) -> usize {
    metrics.lines().find(|line| line.starts_with(series)).map_or(0, number_at_the_end)
}

fn number_at_the_end(line: &str) -> usize {
    let number = line.rsplit(' ').next().and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("{line:?} has no whole number"))
}

/// A control plane, a database and a keyring for one fleet. All of it ends when this value is dropped.
struct World {
    cluster: SeparateCluster,
    postgres: Postgres,
    keyring: PathBuf,
    // Keeps the keyring as long as the world exists.
    _folder: Arc<Folder>,
}

impl World {
    async fn start() -> Self {
        let cluster = Cluster::of_its_own().await;
        cluster.install_definitions().await;
        let made = cluster.kubectl("", &["create", "namespace", NAMESPACE]).await;
        made.succeeded();
        let folder = Folder::new("fleet");
        let keyring = folder.path().join("opsadmin.keyring");
        let init = Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]);
        init.run().await.succeeded();
        Self { cluster, postgres: Postgres::new().await, keyring, _folder: folder }
    }

    /// Runs a controller until its metrics say that it is done.
    async fn phase(&self, is_done: impl Fn(&str) -> bool, accounts: usize) -> Phase {
        let writes_before = self.writes();
        let processor_time_before = processor_time();
        let begun = Instant::now();
        let url = self.postgres.url("postgres");
        let controller = spawn_controller(self.cluster.kubeconfig(), &[], &url, &self.keyring, &[]);
        let address = controller.address().await;
        let within = STARTED_WITHIN + FOR_ONE * u32::try_from(accounts).expect("a fleet is not that large");
        eventually("the controller to be done", within, async || {
            let metrics = get(&address, "/metrics").await?.body;
            if is_done(&metrics) { Ok(()) } else { Err(metrics) }
        })
        .await;
        let (time, memory) = (begun.elapsed(), memory(CONTROLLER));
        let processor_time = difference(&processor_time(), &processor_time_before);
        // The events that wait are sent before the controller ends.
        let (code, log) = controller.terminate(ENDED_WITHIN).await;
        assert_eq!(code, 0, "{log}");
        Phase { time, memory, processor_time, writes: self.writes() - writes_before }
    }

    /// Returns how many objects the controllers so far have written.
    fn writes(&self) -> usize {
        let requests = self.cluster.audit(NAMESPACE).expect("the cluster is the benchmark's own");
        requests.iter().filter(|request| request.is_write() && request.user_agent != SUITE_USER_AGENT).count()
    }

    async fn database_bytes(&self) -> i64 {
        let mut connection = PgConnection::connect(&self.postgres.url("postgres")).await.expect("the database answers");
        let size = sqlx::query_scalar("SELECT pg_database_size(current_database())").fetch_one(&mut connection).await;
        size.expect("the database knows its size")
    }
}

fn difference(after: &BTreeMap<String, Duration>, before: &BTreeMap<String, Duration>) -> BTreeMap<String, Duration> {
    let since = |(name, time): (&String, &Duration)| {
        (name.clone(), time.saturating_sub(before.get(name).copied().unwrap_or_default()))
    };
    after.iter().map(since).collect()
}
