//! The controller: watches a cluster's `ApiAccount`s and their Secrets, and reconciles each resource when something changes.
//!
//! What has to be done is decided in [`crate::reconcile`]. This module turns events into calls of it, and outcomes into statuses,
//! events and log lines. One resource's way: `watches.rs`, `reconcile.rs`, `apply.rs` or `deletion.rs`, `report.rs`,
//! `next_attempt.rs`.

mod apply;
mod body_timeout;
mod brake;
mod cleanup;
mod confirmation;
mod connect;
mod context;
mod creation;
mod declaration;
mod deletion;
mod error;
mod events;
mod memory;
mod next_attempt;
mod obstacle_poller;
mod orphans;
mod outage;
mod panics;
mod queues;
mod reconcile;
mod report;
mod resources;
mod scope;
mod stats;
mod sweep;
mod versions;
mod waiting;
mod watch_errors;
mod watches;
mod writes;

pub use connect::{Connection, connect};
pub use error::ControllerError;

use crate::account::{ClusterId, Period, UnassignedPolicy};
use crate::database::{AccountDatabase, Keyring, UnknownAffiliate};
use crate::reconcile::Environment;
use crate::secrets::cluster::Cluster;
use crate::telemetry::{ControllerStats, MeasuredDatabase, Telemetry};
use brake::Brake;
use cleanup::{Cleanup, PurgeFailures};
use confirmation::ClusterDeclarations;
use context::Context;
use creation::Creations;
use events::Events;
use futures::future::{join_all, select};
use kube::Client;
use memory::Memory;
use obstacle_poller::ObstaclePoller;
use orphans::Orphans;
use queues::{Queue, Queues};
use resources::Stores;
use scope::Scope;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use sweep::Sweeper;
use tokio::sync::{Semaphore, oneshot, watch};
use versions::Versions;
use waiting::Waiting;

/// What a controller works with.
pub struct Settings {
    /// The cluster.
    pub client: Client,
    /// Its name in the account database.
    pub cluster: ClusterId,
    /// The namespaces to watch; none: all of them.
    pub namespaces: Vec<String>,
    /// Where accounts are.
    pub database: Arc<dyn AccountDatabase>,
    /// What secret keys are sealed with.
    pub keyring: Keyring,
    /// What to do about affiliates that OpsAdmin does not know.
    pub unknown_affiliate: UnknownAffiliate,
    /// Who may take over an account that was imported for no namespace.
    pub unassigned: UnassignedPolicy,
    /// How many resources to reconcile at a time, in all namespaces together.
    pub concurrency: u16,
    /// The longest time from one look for changes of accounts by others to the next.
    pub sweep_interval: Duration,
    /// How long a deleted account is kept for its resource's return.
    pub deleted_account_retention: Duration,
    /// How long the journal tells of every change; `None`: for ever.
    pub journal_retention: Option<Duration>,
    /// How long an account may be without its resource before it is disabled.
    pub orphan_grace: Duration,
    /// The percentage of all accounts that may lose their access within ten minutes.
    pub deletion_brake: u8,
    /// The percentage of accounts that may be missing from the database and are still made anew.
    pub creation_brake: u8,
    /// How often keys may be rotated by themselves at most.
    pub least_interval: Period,
    /// Time and randomness.
    pub environment: Arc<dyn Environment>,
    /// Where to tell what happens.
    pub telemetry: Arc<Telemetry>,
}

/// Runs until `stop` is done, then lets what is in flight finish.
///
/// The account database may come later: until then, conditions say so.
///
/// # Errors
/// [`ControllerError`] if the database can never be used as it is: another keyring, a newer schema, a refusal.
pub async fn run(settings: Settings, stop: impl Future<Output = ()> + Send) -> Result<(), ControllerError> {
    let (stop_sender, stopped) = watch::channel(false);
    let (connection_sender, connection) = watch::channel(Connection::default());
    let scopes = Scope::each(&settings.namespaces);
    let views = Scope::secret_caches(&scopes);
    let orphans = Orphans::new(settings.orphan_grace, Scope::secret_caches(&scopes));
    let queues = Queue::each(scopes);
    let metrics = Arc::clone(&settings.telemetry.metrics);
    let database: Arc<dyn AccountDatabase> =
        Arc::new(MeasuredDatabase { database: settings.database, metrics: Arc::clone(&metrics) });
    let client = body_timeout::with_body_timeout(settings.client);
    let memory = Arc::new(Memory::default());
    let (events, publisher) = Events::new(client.clone(), Arc::clone(&metrics));
    let stores = Arc::new(Stores::default());
    let (limit, cluster) = (settings.creation_brake, &settings.cluster);
    let creations = Creations::new(limit, cluster, &database, &memory, &stores, queues.len());
    let context = Arc::new(Context {
        client: client.clone(),
        cluster: settings.cluster.clone(),
        connection,
        started: Instant::now(),
        events,
        memory: Arc::clone(&memory),
        versions: Versions::default(),
        brake: Brake::new(settings.deletion_brake),
        waiting: Waiting::new(Queues::of(&queues)),
        creations: Arc::clone(&creations),
        stores,
        scopes: queues.len(),
        slots: Semaphore::new(settings.concurrency.into()),
        least_interval: settings.least_interval,
        environment: Arc::clone(&settings.environment),
        metrics,
    });
    let turns = Arc::clone(&context);
    let vitals: Weak<Context> = Arc::downgrade(&context);
    settings.telemetry.set_controller(vitals as Weak<dyn ControllerStats>);
    let sweeping = Sweeper {
        context: Arc::clone(&context),
        database: Arc::clone(&database),
        queues: Queues::of(&queues),
        interval: settings.sweep_interval,
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
    let lookout = ObstaclePoller { context: Arc::clone(&context), database: Arc::clone(&database) };
    let connecting = connect(
        Arc::clone(&database),
        settings.keyring,
        settings.cluster,
        connect::ReconcilerParts {
            secrets: Arc::new(Cluster::new(client.clone(), views)),
            unknown_affiliate: settings.unknown_affiliate,
            unassigned: settings.unassigned,
            environment: settings.environment,
            declarations: Arc::new(ClusterDeclarations { client, memory }),
            creations,
        },
        connection_sender,
    );
    let watching = queues
        .into_iter()
        .map(|queue| watches::run(queue, Arc::clone(&context), settings.concurrency, stopped.clone()));
    // Sweeps and looks never end by themselves: they serve the watches until those do.
    let serving = futures::future::join(sweeping.run(cleanup), lookout.run());
    let watching = select(Box::pin(join_all(watching)), Box::pin(serving));
    let stopping = async {
        let stop = std::pin::pin!(stop);
        let connecting = std::pin::pin!(connecting);
        let connected = match select(stop, connecting).await {
            futures::future::Either::Left(((), _)) => Ok(()),
            futures::future::Either::Right((Err(error), _)) => Err(error),
            futures::future::Either::Right((Ok(()), stop)) => {
                stop.await;
                Ok(())
            }
        };
        tracing::info!("stopping: finishing what is in flight");
        // What has not begun yet is for the next start.
        turns.slots.close();
        stop_sender.send_replace(true);
        connected
    };
    let (finished_sender, finished) = oneshot::channel::<()>();
    let working = async {
        let (connected, _) = futures::future::join(stopping, watching).await;
        drop(finished_sender);
        connected
    };
    // The sender going away means that there is nothing more to tell.
    let publishing = publisher.run(async { drop(finished.await) });
    let (connected, ()) = futures::future::join(working, publishing).await;
    database.close().await;
    connected
}
