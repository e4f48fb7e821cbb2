//! The watches of one scope (a namespace, or the whole cluster), and the work queue that they feed.

use super::body_timeout::WATCH_SECONDS;
use super::connect::Connection;
use super::context::Context;
use super::queues::Queue;
use super::reconcile::{on_error, reconcile};
use super::scope::Scope;
use super::watch_errors::refusal;
use crate::api::{
    ACCOUNT_LABEL, ApiAccount, CONFIRM_CREATION_ANNOTATION, CONFIRM_DELETION_ANNOTATION, Lenient, PAUSED_ANNOTATION,
    ROTATE_ANNOTATION,
};
use crate::reconcile::{awaits_confirmation, nulls_applied};
use crate::secrets::cache::CacheChange;
use futures::StreamExt;
use futures::future::Either;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::utils::Predicate;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Config, Controller, PredicateConfig, WatchStreamExt, predicates, reflector};
use kube::{Api, ResourceExt};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{UnboundedReceiverStream, WatchStream};

/// How far the first listing of a scope's Secrets has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listing {
    /// No answer yet.
    Trying,
    /// The API server refuses it.
    Refused,
    /// The view knows what there is.
    Done,
}

/// Reconciles this scope until it is stopped; what is in flight then is finished.
pub(super) async fn run(
    Queue { scope, sender, receiver }: Queue,
    context: Arc<Context>,
    concurrency: u16,
    stopped: watch::Receiver<bool>,
) {
    let (listing, secrets_listed) = watch::channel(Listing::Trying);
    let secrets = watch_secrets(&scope, Arc::clone(&context), &sender, &listing);
    let accounts = reconcile_accounts(&scope, context, receiver, concurrency, secrets_listed, stopped);
    // The watch of the Secrets never ends by itself: it serves the other until that one does.
    futures::future::select(std::pin::pin!(secrets), std::pin::pin!(accounts)).await;
}

async fn reconcile_accounts(
    scope: &Scope,
    context: Arc<Context>,
    changed: mpsc::UnboundedReceiver<ObjectRef<ApiAccount>>,
    concurrency: u16,
    mut secrets_listed: watch::Receiver<Listing>,
    mut stopped: watch::Receiver<bool>,
) {
    // Until the Secrets are known, each would look as if it were missing. If they cannot be known, each account says so.
    let listed = secrets_listed.wait_for(|listing| *listing != Listing::Trying);
    let stop = stopped.wait_for(|stopped| *stopped);
    if let Either::Right(_) = futures::future::select(std::pin::pin!(listed), std::pin::pin!(stop)).await {
        return;
    }
    let (reader, writer) = reflector::store();
    context.stores.add(scope.clone(), reader.clone());
    let never_ready = stopped_before_ready(reader.clone(), stopped.clone());
    let (memory, known) = (Arc::clone(&context), Arc::clone(&context));
    let mut trouble = scope.watch_errors("ApiAccount", Arc::clone(&context.metrics));
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let accounts = watcher(scope.api::<Lenient<ApiAccount>>(&context.client), config)
        .map(Lenient::unwrap_event)
        .inspect(move |event| trouble.log(event))
        .default_backoff()
        .modify(|account| account.managed_fields_mut().clear())
        .reflect(writer)
        .inspect(move |event| {
            if let Ok(Event::Apply(account) | Event::InitApply(account)) = event {
                known.memory.watch_showed(account, Instant::now());
            }
        })
        .inspect(move |event| match event {
            // Known before any deletion is looked at, so that a restart lets none go in its place.
            Ok(Event::InitApply(account)) if awaits_confirmation(account) => {
                memory.brake.hold(&ObjectRef::from_obj(account));
            }
            Ok(Event::InitDone) if memory.resources().is_some() => memory.waiting.lists_complete(),
            Ok(Event::Delete(account)) => {
                memory.memory.forget(account);
                memory.versions.forget(&ObjectRef::from_obj(account));
                memory.waiting.forget(&ObjectRef::from_obj(account));
                memory.creations.forget(&ObjectRef::from_obj(account));
                memory.brake.resource_gone(&ObjectRef::from_obj(account));
            }
            _ => {}
        })
        .applied_objects()
        .predicate_filter(
            predicates::generation.combine(predicates::finalizers).combine(requests),
            PredicateConfig::default(),
        );
    let became_ready = WatchStream::from_changes(context.connection.clone())
        .filter(|connection| std::future::ready(matches!(connection, Connection::Ready(_))))
        .map(|_| ());
    let became_listed = WatchStream::from_changes(secrets_listed.clone())
        .filter(|listing| std::future::ready(*listing == Listing::Done))
        .map(|_| ());
    let reconciling = Controller::for_stream(accounts, reader)
        .with_config(Config::default().concurrency(concurrency))
        .reconcile_on(UnboundedReceiverStream::new(changed))
        .reconcile_all_on(became_ready)
        .reconcile_all_on(became_listed)
        .graceful_shutdown_on(async move {
            // The sender going away means the same as its word.
            drop(stopped.wait_for(|stopped| *stopped).await);
        })
        .run(reconcile, on_error, context)
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

/// A predicate: the annotations that ask this controller for something, or make it refuse.
#[expect(clippy::unnecessary_wraps, reason = "the signature of kube's predicates")]
fn requests(account: &ApiAccount) -> Option<u64> {
    let annotations = account.annotations();
    let mut hasher = DefaultHasher::new();
    [ROTATE_ANNOTATION, PAUSED_ANNOTATION, CONFIRM_DELETION_ANNOTATION, CONFIRM_CREATION_ANNOTATION]
        .map(|name| annotations.get(name))
        .hash(&mut hasher);
    nulls_applied(account).hash(&mut hasher);
    Some(hasher.finish())
}

/// Feeds the view, and reports the accounts whose Secrets were changed by others.
async fn watch_secrets(
    scope: &Scope,
    context: Arc<Context>,
    changed: &mpsc::UnboundedSender<ObjectRef<ApiAccount>>,
    listing: &watch::Sender<Listing>,
) {
    let config = watcher::Config::default().labels(ACCOUNT_LABEL).timeout(WATCH_SECONDS);
    let api: Api<Lenient<PartialObjectMeta<Secret>>> = scope.api(&context.client);
    let mut trouble = scope.watch_errors("Secret", Arc::clone(&context.metrics));
    let events =
        watcher(api, config).map(Lenient::unwrap_event).inspect(move |event| trouble.log(event)).default_backoff();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                if let Some(reason) = refusal(&error)
                    && *listing.borrow() != Listing::Done
                {
                    scope.secrets.listing_refused(&reason);
                    listing.send_replace(Listing::Refused);
                }
                continue;
            }
        };
        let news = scope.secrets.apply(&event);
        let is_start = *listing.borrow() != Listing::Done;
        let concerned = match news {
            CacheChange::Changed(accounts) if !is_start => accounts,
            CacheChange::Changed(_) | CacheChange::Nothing => BTreeSet::new(),
        };
        if matches!(event, Event::InitDone) {
            // Later listings tell what they bring; only the first one is news by itself.
            listing.send_if_modified(|listing| std::mem::replace(listing, Listing::Done) != Listing::Done);
        }
        for account in concerned {
            if changed.send(ObjectRef::new(&account.name).within(&account.namespace)).is_err() {
                return;
            }
        }
    }
}
