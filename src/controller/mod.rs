//! The controller: watches the `ApiAccount`s of a cluster and their Secrets, and reconciles each resource when
//! something changes.
//!
//! [`crate::reconcile`] decides what has to be done. This module calls it for events, and turns outcomes into statuses,
//! events and log lines. A resource passes through these files in this order: `watches.rs`, `reconcile.rs`, `apply.rs`
//! or `deletion.rs`, `report.rs`, `next_attempt.rs`.

mod apply;
mod body_timeout;
mod brake;
mod cleanup;
mod clock_steps;
mod confirmation;
mod connect;
mod context;
mod creation;
mod declaration;
mod deletion;
mod error;
mod events;
mod freeze;
mod held;
mod in_work;
mod keyring_file;
mod last_uses;
mod leader;
mod list_watch;
mod look_over;
mod managed_fields;
mod measured;
mod memory;
mod next_attempt;
mod obstacle_poller;
mod orphans;
mod outage;
mod panics;
mod pickup;
mod queues;
mod reconcile;
mod refusal_limit;
mod report;
mod requester;
mod requests;
mod resources;
mod revocations;
mod scope;
mod stats;
mod sweep;
mod versions;
mod waiting;
mod watch_errors;
mod watch_pauses;
mod watches;
mod work;
mod writes;

pub use connect::Connection;
pub use error::ControllerError;
pub use freeze::Freeze;
pub use leader::{Election, LeaderExecutor, LeaseSettings, Loss};

use crate::account::{ClusterId, Period, UnassignedPolicy};
use crate::database::{AccountDatabase, CurrentKeyring, Keyring, UnknownAffiliate};
use crate::reconcile::Environment;
use crate::secrets::cluster::Cluster;
use crate::telemetry::{ControllerStats, MeasuredDatabase, Telemetry};
use brake::Brake;
use cleanup::{Cleanup, PurgeFailures};
use confirmation::ClusterDeclarations;
use context::Context;
use creation::ClusterCreationGuard;
use events::Events;
use futures::future::{Either, join_all, select};
use in_work::InWork;
use kube::Client;
use last_uses::LastUses;
use leader::{FencedDatabase, Leadership, RunningElection, fenced};
use memory::Memory;
use obstacle_poller::ObstaclePoller;
use orphans::Orphans;
use pickup::Pickups;
use queues::{Queue, Queues};
use refusal_limit::RefusalLimit;
use requests::Requests;
use resources::Stores;
use revocations::Revocations;
use scope::Scope;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use sweep::Sweeper;
use tokio::sync::{Semaphore, oneshot, watch};
use versions::Versions;
use waiting::Waiting;

/// The settings of the controller.
pub struct Settings {
    /// The client for the cluster.
    pub client: Client,
    /// A client for the same cluster whose connections are tasks of the election's executor.
    pub writing_client: Client,
    /// The id of the cluster in the account database.
    pub cluster: ClusterId,
    /// The namespaces to watch. If empty, all namespaces are watched.
    pub namespaces: Vec<String>,
    /// The leader election.
    pub election: Election,
    /// Whether the controller only observes and reports.
    pub freeze: Freeze,
    /// The account database.
    pub database: Arc<dyn AccountDatabase>,
    /// The keyring that seals secret keys.
    pub keyring: Keyring,
    /// The file of the keyring, which is read again when it changes.
    pub keyring_file: PathBuf,
    /// The policy for affiliates that OpsAdmin does not know.
    pub unknown_affiliate: UnknownAffiliate,
    /// Which resources may adopt an account that was imported without a namespace.
    pub unassigned: UnassignedPolicy,
    /// The number of resources that are reconciled at a time, in all namespaces together.
    pub concurrency: u16,
    /// The longest time between two sweeps for changes of accounts by other programs and users.
    pub sweep_interval: Duration,
    /// How long auth servers may answer from memory after a change. A narrower access is reported after this time.
    pub revocation_lag: Duration,
    /// How long a deleted account is kept, so that its resource can be created again.
    pub deleted_account_retention: Duration,
    /// How long journal entries are kept; `None`: forever.
    pub journal_retention: Option<Duration>,
    /// How long an account may exist without its resource before it is disabled.
    pub orphan_grace: Duration,
    /// The percentage of all accounts that may lose their access within 10 minutes.
    pub deletion_brake: u8,
    /// The percentage of accounts that may be missing from the database and are still created again.
    pub creation_brake: u8,
    /// The shortest interval at which keys may be rotated automatically.
    pub least_interval: Period,
    /// Time and randomness.
    pub environment: Arc<dyn Environment>,
    /// The metrics and probes that the controller reports to.
    pub telemetry: Arc<Telemetry>,
}

/// Runs until `stop` completes, and then finishes the reconciles that are running.
///
/// The account database may become reachable later. Until then, the conditions report that.
///
/// # Errors
/// [`ControllerError`] if the database can never be used: it was sealed with another keyring, its schema is newer, or
/// it refuses. Also if this controller led and lost its Lease.
pub async fn run(mut settings: Settings, stop: impl Future<Output = ()> + Send) -> Result<(), ControllerError> {
    let leadership = settings.election.leadership().clone();
    let (metrics, freeze) = (Arc::clone(&settings.telemetry.metrics), settings.freeze);
    let requests = |client| Requests::new(client, Arc::clone(&metrics));
    let reading = requests(settings.client);
    // The election itself is not behind the fence that it moves.
    let environment = Arc::clone(&settings.environment);
    let mut election = RunningElection::start(reading.clone().into_client(), settings.election.clone(), environment);
    settings.client = fenced(reading, requests(settings.writing_client.clone()), &leadership, freeze);
    let fenced = FencedDatabase { database: settings.database, leadership: leadership.clone(), freeze };
    let database: Arc<dyn AccountDatabase> = Arc::new(MeasuredDatabase { database: Arc::new(fenced), metrics });
    settings.database = Arc::clone(&database);
    let ended = {
        let working = std::pin::pin!(work(settings, leadership, stop));
        let lost = std::pin::pin!(election.lost());
        match select(lost, working).await {
            // Everything that still runs is dropped, and writes nothing any more.
            Either::Left((lost, _)) => Err(lost),
            Either::Right((worked, _)) => worked,
        }
    };
    if ended.is_ok() {
        election.release().await;
    }
    database.close().await;
    ended
}

/// Reconciles as long as this process leads, until `stop`, and then finishes the reconciles that are running.
async fn work(
    settings: Settings,
    leadership: Leadership,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), ControllerError> {
    let (stop_sender, stopped) = watch::channel(false);
    let (connection_sender, connection) = watch::channel(Connection::default());
    let scopes = Scope::each(&settings.namespaces);
    let secret_caches = Scope::secret_caches(&scopes);
    let orphans = Orphans::new(settings.orphan_grace, Scope::secret_caches(&scopes));
    let queues = Queue::each(scopes);
    let metrics = Arc::clone(&settings.telemetry.metrics);
    let (database, client, interval) = (settings.database, settings.client, settings.sweep_interval);
    let memory = Arc::new(Memory::default());
    let in_work = Arc::<InWork>::default();
    let (events, publisher) = Events::new(client.clone(), Arc::clone(&in_work), Arc::clone(&metrics));
    let stores = Arc::new(Stores::default());
    let (limit, cluster) = (settings.creation_brake, &settings.cluster);
    let creations = ClusterCreationGuard::new(limit, cluster, &database, &stores, queues.len());
    let context = Arc::new(Context {
        client: client.clone(),
        cluster: settings.cluster.clone(),
        connection,
        reached: Arc::new(AtomicBool::new(false)),
        leadership,
        freeze: settings.freeze,
        leads_since: OnceLock::new(),
        events,
        refusals: RefusalLimit::default(),
        memory: Arc::clone(&memory),
        pickups: Pickups::default(),
        versions: Versions::default(),
        last_uses: LastUses::default(),
        revocations: Revocations::new(settings.revocation_lag),
        brake: Brake::new(settings.deletion_brake),
        waiting: Waiting::new(Queues::of(&queues)),
        creations: Arc::clone(&creations),
        stores,
        scopes: queues.len(),
        slots: Semaphore::new(settings.concurrency.into()),
        in_work,
        least_interval: settings.least_interval,
        environment: Arc::clone(&settings.environment),
        metrics,
    });
    settings.telemetry.set_controller(Arc::<Context>::downgrade(&context) as Weak<dyn ControllerStats>);
    let sweeper = Sweeper {
        context: Arc::clone(&context),
        database: Arc::clone(&database),
        queues: Queues::of(&queues),
        interval,
    };
    let cleanup = Cleanup {
        context: Arc::clone(&context),
        database: Arc::clone(&database),
        retention: settings.deleted_account_retention,
        orphans,
        unpurgeable: PurgeFailures::default(),
        journal_retention: settings.journal_retention,
        trimmed: None,
    };
    let keyring = CurrentKeyring::from(settings.keyring);
    let keyring_file = (settings.keyring_file, keyring.clone());
    let keyring_file = keyring_file::follow(keyring_file, Arc::clone(&database), &context, Queues::of(&queues));
    let poller = ObstaclePoller { context: Arc::clone(&context), database: Arc::clone(&database) }.run();
    let parts = connect::ReconcilerParts {
        secrets: Arc::new(Cluster::new(client.clone(), secret_caches)),
        unknown_affiliate: settings.unknown_affiliate,
        unassigned: settings.unassigned,
        environment: settings.environment,
        declarations: Arc::new(ClusterDeclarations { client, memory }),
        creations,
    };
    let connecting = connect::once_leading(&context, &database, keyring, interval, parts, connection_sender);
    // These never end by themselves. They end together with the watches.
    let clock_steps = clock_steps::follow(Arc::clone(&context), Queues::of(&queues));
    let serving = Box::pin(futures::future::join4(sweeper.run(cleanup), poller, keyring_file, clock_steps));
    let watching = queues
        .into_iter()
        .map(|queue| watches::run(queue, Arc::clone(&context), settings.concurrency, stopped.clone()));
    let watching = select(Box::pin(join_all(watching)), serving);
    let stopping = async {
        let stop = std::pin::pin!(stop);
        let connecting = std::pin::pin!(connecting);
        let connected = match select(stop, connecting).await {
            Either::Left(((), _)) => Ok(()),
            Either::Right((Err(error), _)) => Err(error),
            Either::Right((Ok(()), stop)) => {
                stop.await;
                Ok(())
            }
        };
        tracing::info!("stopping: waiting for running reconciles");
        // Reconciles that have not begun are left to the next start.
        context.slots.close();
        stop_sender.send_replace(true);
        connected
    };
    let (finished_sender, finished) = oneshot::channel::<()>();
    let working = async {
        let (connected, _) = futures::future::join(stopping, watching).await;
        drop(finished_sender);
        connected
    };
    // When the sender is dropped, no more events are emitted.
    futures::future::join(working, publisher.run(async { drop(finished.await) })).await.0
}
