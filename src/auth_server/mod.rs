//! The auth server: `login` behind HTTP. One listener for partners, one for the proxies in front of the API.
//!
//! It decides nothing itself: each answer comes from [`crate::login`], over what the database says now.

mod access_cache;
mod answers;
mod attempts;
mod audit;
mod authz;
mod change_feed;
mod client;
mod current_access;
mod internal;
mod introspect;
mod issuer;
mod metrics;
mod public;
mod revoke;
mod service;
mod token;
mod upkeep;
mod uses;

pub use attempts::AttemptLimits;
pub use issuer::Issuer;
pub use service::{CallerToken, Networks};

use crate::database::{CurrentKeyring, Keyring, KeyringFile, WithLogins};
use crate::http::{Server, Tls};
use crate::login::{Lifetimes, LoginDatabase, PathTable, TrustedProxies};
use crate::reconcile::{Environment, RandomnessError, random};
use attempts::Attempts;
use change_feed::ChangeFeed;
use current_access::CurrentAccess;
use metrics::{Exposition, Metrics};
use service::{Readiness, Service};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::sync::watch;
use uses::Uses;

/// What an auth server needs.
pub struct Settings {
    /// The database.
    pub database: WithLogins,
    /// The same database over connections of its own, for the feed of changes; `None` for a database that tells none.
    pub feed: Option<Arc<dyn LoginDatabase>>,
    /// The keyring.
    pub keyring: Keyring,
    /// The keyring's file, which is followed.
    pub keyring_file: PathBuf,
    /// Time and randomness.
    pub environment: Arc<dyn Environment>,
    /// The issuer.
    pub issuer: Issuer,
    /// The endpoint groups.
    pub paths: PathTable,
    /// The proxies whose word about a client's address counts.
    pub proxies: TrustedProxies,
    /// The networks from which the internal listener takes requests.
    pub internal: Networks,
    /// The token of callers of `/introspect`; `None`: it refuses everybody.
    pub introspection: Option<CallerToken>,
    /// How long tokens work.
    pub lifetimes: Lifetimes,
    /// The limits on logins.
    pub limits: AttemptLimits,
}

/// A listener with its certificate.
pub struct Listening {
    /// The listener.
    pub listener: TcpListener,
    /// The certificate; `None` to serve without TLS.
    pub tls: Option<Arc<Tls>>,
}

/// Serves until `stop` completes. Then it answers the requests that are being handled, and writes what is noted.
///
/// # Errors
/// The system has no randomness.
pub async fn run(
    settings: Settings,
    public: Listening,
    internal: Listening,
    stop: impl Future<Output = ()>,
) -> Result<(), RandomnessError> {
    let feed = settings.feed.clone();
    let first = u64::from_le_bytes(random(&*settings.environment)?);
    let keyring_file = settings.keyring_file.clone();
    let service = Arc::new(service(settings));
    let refused = Arc::clone(&service.metrics);
    let keyring = KeyringFile {
        database: Arc::clone(&service.database.accounts) as _,
        path: keyring_file,
        keyring: service.keyring.clone(),
    };
    let background = async {
        let feed = async {
            if let Some(logins) = feed.clone() {
                ChangeFeed { logins, access: Arc::clone(&service.access), first }.run().await;
            }
        };
        let keyring = keyring.run(move |read| {
            refused.keyring_refused.set(i64::from(read.is_refused()));
        });
        tokio::join!(feed, keyring, service.write_uses(), service.purge(), service.ask_database());
    };

    let (running, mut ending) = watch::channel(());
    let ended = |mut ending: watch::Receiver<()>| async move { while ending.changed().await.is_ok() {} };
    let serve_public = Server { router: public::router(Arc::clone(&service)), limits: public::LIMITS, tls: public.tls }
        .serve(public.listener, ended(ending.clone()));
    let serve_internal =
        Server { router: internal::router(Arc::clone(&service)), limits: internal::LIMITS, tls: internal.tls }
            .serve(internal.listener, ended(ending.clone()));
    let stopping = async {
        stop.await;
        drop(running);
    };
    ending.mark_unchanged();
    tokio::select! {
        () = background => {}
        _ = async { tokio::join!(serve_public, serve_internal, stopping) } => {}
    }
    service.flush_uses().await;
    service.database.accounts.close().await;
    Ok(())
}

fn service(settings: Settings) -> Service {
    let metrics = Arc::new(Metrics::new());
    let access = Arc::new(CurrentAccess::new(settings.database.clone(), settings.feed.is_some(), Arc::clone(&metrics)));
    Service {
        database: settings.database,
        exposition: Exposition::new(&metrics, &access),
        access,
        keyring: CurrentKeyring::from(settings.keyring),
        environment: settings.environment,
        audience: settings.issuer.audience(),
        issuer: settings.issuer,
        paths: settings.paths,
        proxies: settings.proxies,
        internal: settings.internal,
        introspection: settings.introspection,
        lifetimes: settings.lifetimes,
        attempts: Mutex::new(Attempts::new(settings.limits, Instant::now())),
        uses: Uses::default(),
        metrics,
        readiness: Readiness::default(),
    }
}
