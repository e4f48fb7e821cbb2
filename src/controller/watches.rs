//! The watches of one scope (a namespace, or the whole cluster), and the work queue that they feed.

use super::connect::Connection;
use super::object::{Controlled, on_error, reconcile};
use crate::api::{ApiAccount, GROUP, KIND, MANAGED_BY_LABEL, MANAGER, OWNER_ANNOTATION};
use crate::secrets::view::{News, View};
use futures::future::Either;
use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::utils::Predicate;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Config, Controller, PredicateConfig, WatchStreamExt, predicates, reflector};
use kube::{Api, Client, ResourceExt};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{UnboundedReceiverStream, WatchStream};

/// What part of the cluster to watch.
pub(super) enum Scope {
    Cluster,
    Namespace(String),
}

impl Scope {
    /// Each of these namespaces once; the whole cluster if there are none.
    pub fn each(namespaces: &[String]) -> Vec<Self> {
        if namespaces.is_empty() {
            return vec![Self::Cluster];
        }
        let mut namespaces = namespaces.to_vec();
        namespaces.sort();
        namespaces.dedup();
        namespaces.into_iter().map(Self::Namespace).collect()
    }

    fn accounts(&self, client: &Client) -> Api<ApiAccount> {
        match self {
            Self::Cluster => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }

    fn secrets(&self, client: &Client) -> Api<PartialObjectMeta<Secret>> {
        match self {
            Self::Cluster => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

/// Reconciles this scope until it is stopped; what is in flight then is finished.
pub(super) async fn run(
    scope: Scope,
    controlled: Arc<Controlled>,
    view: Arc<View>,
    concurrency: u16,
    stopped: watch::Receiver<bool>,
) {
    let (sender, changed) = mpsc::unbounded_channel();
    let (listed, is_listed) = watch::channel(false);
    let secrets = watch_secrets(scope.secrets(&controlled.client), &view, &sender, &listed);
    let accounts = reconcile_accounts(&scope, controlled, changed, concurrency, is_listed, stopped);
    // The watch of the Secrets never ends by itself: it serves the other until that one does.
    futures::future::select(std::pin::pin!(secrets), std::pin::pin!(accounts)).await;
}

async fn reconcile_accounts(
    scope: &Scope,
    controlled: Arc<Controlled>,
    changed: mpsc::UnboundedReceiver<ObjectRef<ApiAccount>>,
    concurrency: u16,
    mut secrets_listed: watch::Receiver<bool>,
    mut stopped: watch::Receiver<bool>,
) {
    // Until the Secrets are known, each would look as if it were missing.
    let listed = secrets_listed.wait_for(|listed| *listed);
    let stop = stopped.wait_for(|stopped| *stopped);
    if let Either::Right(_) = futures::future::select(std::pin::pin!(listed), std::pin::pin!(stop)).await {
        return;
    }
    let (reader, writer) = reflector::store();
    let never_ready = stopped_before_ready(reader.clone(), stopped.clone());
    let memory = Arc::clone(&controlled);
    let accounts = watcher(scope.accounts(&controlled.client), watcher::Config::default())
        .inspect(|event| explain(event, "ApiAccounts"))
        .default_backoff()
        .modify(|account| account.managed_fields_mut().clear())
        .reflect(writer)
        .inspect(move |event| {
            if let Ok(Event::Delete(account)) = event {
                memory.memory.forget(account);
            }
        })
        .applied_objects()
        .predicate_filter(predicates::generation.combine(predicates::finalizers), PredicateConfig::default());
    let became_ready = WatchStream::from_changes(controlled.connection.clone())
        .filter(|connection| std::future::ready(matches!(connection, Connection::Ready(_))))
        .map(|_| ());
    let reconciling = Controller::for_stream(accounts, reader)
        .with_config(Config::default().concurrency(concurrency))
        .reconcile_on(UnboundedReceiverStream::new(changed))
        .reconcile_all_on(became_ready)
        .graceful_shutdown_on(async move {
            // The sender going away means the same as its word.
            drop(stopped.wait_for(|stopped| *stopped).await);
        })
        .run(reconcile, on_error, controlled)
        .for_each(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "a reconcile did not end well");
            }
            std::future::ready(())
        });
    futures::future::select(std::pin::pin!(reconciling), std::pin::pin!(never_ready)).await;
}

/// Done if the stop comes before the first listing; never done otherwise.
///
/// A controller that is stopped gracefully waits for its store first, which then never comes.
async fn stopped_before_ready(store: Store<ApiAccount>, mut stopped: watch::Receiver<bool>) {
    let ready = std::pin::pin!(store.wait_until_ready());
    let stop = std::pin::pin!(stopped.wait_for(|stopped| *stopped));
    if let Either::Left((Ok(()), _)) = futures::future::select(ready, stop).await {
        std::future::pending::<()>().await;
    }
}

/// Feeds the view, and reports the accounts whose Secrets were changed by others.
async fn watch_secrets(
    api: Api<PartialObjectMeta<Secret>>,
    view: &View,
    changed: &mpsc::UnboundedSender<ObjectRef<ApiAccount>>,
    listed: &watch::Sender<bool>,
) {
    let config = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"));
    let events = watcher(api, config).inspect(|event| explain(event, "Secrets")).default_backoff();
    let mut events = std::pin::pin!(only_ok(events));
    while let Some(event) = events.next().await {
        let news = view.observe(&event);
        let is_start = !*listed.borrow();
        let concerned = match (news, &event) {
            (News::This, Event::Apply(secret) | Event::InitApply(secret) | Event::Delete(secret)) if !is_start => {
                accounts_of(&secret.metadata)
            }
            (News::Gone(gone), _) => gone.iter().filter_map(|(at, owner)| account_of(owner, &at.namespace)).collect(),
            _ => Vec::new(),
        };
        if matches!(event, Event::InitDone) {
            listed.send_replace(true);
        }
        for account in concerned {
            if changed.send(account).is_err() {
                return;
            }
        }
    }
}

/// Errors were explained on the way and the watch goes on by itself.
fn only_ok<T>(events: impl Stream<Item = watcher::Result<T>>) -> impl Stream<Item = T> {
    events.flat_map(stream::iter)
}

/// The accounts that a Secret may concern: its controller, and the one it is annotated with.
fn accounts_of(metadata: &ObjectMeta) -> Vec<ObjectRef<ApiAccount>> {
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let controllers = metadata.owner_references.iter().flatten();
    let controllers = controllers.filter_map(|owner| account_of(owner, &namespace));
    let noted = metadata.annotations.iter().flatten().filter(|(name, _)| *name == OWNER_ANNOTATION);
    let noted = noted.filter_map(|(_, owner)| owner.rsplit_once('/').map(|(_, name)| name));
    let noted = noted.map(|name| ObjectRef::new(name).within(&namespace));
    let accounts: HashSet<_> = controllers.chain(noted).collect();
    accounts.into_iter().collect()
}

/// The account that this owner is, if it is one.
fn account_of(owner: &OwnerReference, namespace: &str) -> Option<ObjectRef<ApiAccount>> {
    let is_account = owner.kind == KIND && owner.api_version.starts_with(GROUP);
    is_account.then(|| ObjectRef::new(&owner.name).within(namespace))
}

/// A watch that does not come about is tried again for ever; this says why it does not.
fn explain<T>(event: &watcher::Result<Event<T>>, what: &str) {
    let Err(error) = event else {
        return;
    };
    let hint = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => match status.code {
            404 => "; install the resource with `opsadmin crd | kubectl apply --server-side -f -`",
            403 => "; the controller's role does not allow it",
            _ => "",
        },
        _ => "",
    };
    tracing::warn!("cannot watch {what}: {error}{hint}; trying again");
}
