//! The controller: watches a cluster's `ApiAccount`s and their Secrets, and reconciles each whenever something changed.
//!
//! Nothing is decided here: [`crate::reconcile`] does that. This room turns events into calls of it, and outcomes into
//! statuses, events and log lines.

mod brake;
mod connect;
mod declared;
mod error;
mod events;
mod memory;
mod object;
mod orphans;
mod queues;
mod release;
mod resources;
mod scope;
mod sweep;
mod trouble;
mod versions;
mod vitals;
mod waiting;
mod watches;

pub use connect::{Connection, connect};
pub use error::ControllerError;

use crate::account::{ClusterId, Period};
use crate::database::{AccountDatabase, Keyring, UnknownAffiliate};
use crate::reconcile::Surroundings;
use crate::secrets::cluster::Cluster;
use crate::telemetry::{Measured, Telemetry, Vitals};
use brake::Brake;
use declared::Declared;
use events::Events;
use futures::future::{join_all, select};
use kube::Client;
use memory::Memory;
use object::Controlled;
use orphans::Orphans;
use queues::{Queue, Queues};
use resources::Stores;
use scope::Scope;
use std::sync::{Arc, Weak};
use std::time::Duration;
use sweep::Sweeper;
use tokio::sync::watch;
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
    /// How many resources to reconcile at a time.
    pub concurrency: u16,
    /// The longest time from one look for changes of accounts by others to the next.
    pub sweep_interval: Duration,
    /// How long a deleted account is kept for its resource's return.
    pub deleted_account_retention: Duration,
    /// How long an account may be without its resource before it is disabled.
    pub orphan_grace: Duration,
    /// The percentage of all accounts that may lose their access within ten minutes.
    pub deletion_brake: u8,
    /// How often keys may be rotated by themselves at most.
    pub least_interval: Period,
    /// Time and randomness.
    pub surroundings: Arc<dyn Surroundings>,
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
    let views = Scope::views(&scopes);
    let orphans = Orphans::new(settings.orphan_grace, Scope::views(&scopes));
    let queues = Queue::each(scopes);
    let metrics = Arc::clone(&settings.telemetry.metrics);
    let database: Arc<dyn AccountDatabase> =
        Arc::new(Measured { database: settings.database, metrics: Arc::clone(&metrics) });
    let memory = Arc::new(Memory::default());
    let controlled = Arc::new(Controlled {
        client: settings.client.clone(),
        cluster: settings.cluster.clone(),
        connection,
        events: Events::new(settings.client.clone()),
        memory: Arc::clone(&memory),
        versions: Versions::default(),
        brake: Brake::new(settings.deletion_brake),
        waiting: Waiting::new(Queues::of(&queues)),
        stores: Stores::default(),
        scopes: queues.len(),
        least_interval: settings.least_interval,
        metrics,
    });
    let vitals: Weak<Controlled> = Arc::downgrade(&controlled);
    settings.telemetry.tells_of(vitals as Weak<dyn Vitals>);
    let sweeping = Sweeper {
        controlled: Arc::clone(&controlled),
        database: Arc::clone(&database),
        queues: Queues::of(&queues),
        interval: settings.sweep_interval,
        retention: settings.deleted_account_retention,
        orphans,
    };
    let connecting = connect(
        Arc::clone(&database),
        settings.keyring,
        settings.cluster,
        connect::Parts {
            secrets: Arc::new(Cluster::new(settings.client.clone(), views)),
            unknown_affiliate: settings.unknown_affiliate,
            surroundings: settings.surroundings,
            declarations: Arc::new(Declared { client: settings.client.clone(), memory }),
        },
        connection_sender,
    );
    let watching = queues
        .into_iter()
        .map(|queue| watches::run(queue, Arc::clone(&controlled), settings.concurrency, stopped.clone()));
    // The sweeps never end by themselves: they serve the watches until those do.
    let watching = select(Box::pin(join_all(watching)), Box::pin(sweeping.run()));
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
        stop_sender.send_replace(true);
        connected
    };
    let (connected, _) = futures::future::join(stopping, watching).await;
    database.close().await;
    connected
}
