//! The watches of one scope (a namespace or the whole cluster), and the controller that reconciles what they show.

use super::body_timeout::WATCH_SECONDS;
use super::connect::Connection;
use super::context::Context;
use super::in_work::SecretChange;
use super::queues::Queue;
use super::reconcile::{on_error, reconcile};
use super::requester::requester;
use super::scope::Scope;
use super::watch_errors::refusal;
use crate::api::{
    ACCOUNT_LABEL, ApiAccount, CONFIRM_CREATION_ANNOTATION, CONFIRM_DELETION_ANNOTATION, FINALIZER, Lenient,
    PAUSED_ANNOTATION, ROTATE_ANNOTATION,
};
use crate::reconcile::{awaits_confirmation, fields_applied_as_null};
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

/// The state of the first list of a scope's Secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listing {
    /// The API server has not answered yet.
    Trying,
    /// The API server refuses the list.
    Refused,
    /// The cache contains all Secrets of the scope.
    Done,
}

/// Reconciles the resources of this scope until `stopped`. Reconciles that are running then are finished.
pub(super) async fn run(
    Queue { scope, sender, receiver }: Queue,
    context: Arc<Context>,
    concurrency: u16,
    stopped: watch::Receiver<bool>,
) {
    let (listing, secrets_listed) = watch::channel(Listing::Trying);
    let secrets = watch_secrets(&scope, Arc::clone(&context), &sender, &listing);
    let accounts = reconcile_accounts(&scope, context, receiver, concurrency, secrets_listed, stopped);
    // The watch of the Secrets never ends by itself. It ends together with the reconciling.
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
    // Before the Secrets are listed, every Secret would seem to be missing. If they cannot be listed, each resource
    // reports that.
    let listed = secrets_listed.wait_for(|listing| *listing != Listing::Trying);
    let stop = stopped.wait_for(|stopped| *stopped);
    if let Either::Right(_) = futures::future::select(std::pin::pin!(listed), std::pin::pin!(stop)).await {
        return;
    }
    let (reader, writer) = reflector::store();
    context.stores.add(scope.clone(), reader.clone());
    let never_ready = stopped_before_ready(reader.clone(), stopped.clone());
    let (watch_context, applied_context, shown_context) =
        (Arc::clone(&context), Arc::clone(&context), Arc::clone(&context));
    let mut watch_errors = scope.watch_errors("ApiAccount", Arc::clone(&context.metrics));
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let accounts = watcher(scope.api::<Lenient<ApiAccount>>(&context.client), config)
        .map(Lenient::unwrap_event)
        .inspect(move |event| watch_errors.log(event))
        .default_backoff()
        .modify(move |account| {
            shown_context.memory.with_status(account, |status| {
                shown_context.pickups.shown(account, status, Instant::now());
            });
            shown_context.memory.requested(account, requester(account));
            account.managed_fields_mut().clear();
        })
        .reflect(writer)
        .inspect(move |event| {
            if let Ok(Event::Apply(account) | Event::InitApply(account)) = event {
                applied_context.memory.watch_showed(account, Instant::now());
            }
        })
        .inspect(move |event| match event {
            // The brake gets to know held deletions before any deletion is reconciled, so that no other deletion is
            // allowed after a restart.
            Ok(Event::InitApply(account)) if awaits_confirmation(account) => {
                watch_context.brake.hold(&ObjectRef::from_obj(account));
            }
            Ok(Event::InitDone) if watch_context.resources().is_some() => watch_context.waiting.lists_complete(),
            Ok(Event::Delete(account)) => {
                watch_context.memory.forget(account);
                watch_context.pickups.forget(&ObjectRef::from_obj(account));
                watch_context.versions.forget(&ObjectRef::from_obj(account));
                watch_context.revocations.forget(&ObjectRef::from_obj(account));
                watch_context.waiting.forget(&ObjectRef::from_obj(account));
                watch_context.creations.forget(&ObjectRef::from_obj(account));
                watch_context.brake.resource_gone(&ObjectRef::from_obj(account));
            }
            _ => {}
        })
        .applied_objects()
        .predicate_filter(
            predicates::generation.combine(has_lost_finalizer).combine(requests),
            PredicateConfig::default(),
        );
    // A follower drops what its watch shows, so everything is reconciled when it leads and its database answers, and
    // also when the database does not answer then.
    let (is_elected, mut was_waiting) = (context.leadership.is_elected(), false);
    let became_ready = WatchStream::from_changes(context.connection.clone())
        .filter(move |connection| {
            let is_waiting = matches!(connection, Connection::Waiting { .. });
            let is_first_outage = is_elected && is_waiting && !std::mem::replace(&mut was_waiting, is_waiting);
            std::future::ready(matches!(connection, Connection::Ready(_)) || is_first_outage)
        })
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
            // If the sender is gone, the controller is stopping too.
            drop(stopped.wait_for(|stopped| *stopped).await);
        })
        .run(reconcile, on_error, context)
        .for_each(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "a reconcile failed");
            }
            std::future::ready(())
        });
    futures::future::select(std::pin::pin!(reconciling), std::pin::pin!(never_ready)).await;
}

/// Completes if `stopped` comes before the first list of the resources. Never completes otherwise.
///
/// `Controller` waits for its store before it stops gracefully. Without a list, that would never end.
async fn stopped_before_ready(store: Store<ApiAccount>, mut stopped: watch::Receiver<bool>) {
    let ready = std::pin::pin!(store.wait_until_ready());
    let stop = std::pin::pin!(stopped.wait_for(|stopped| *stopped));
    if let Either::Left((Ok(()), _)) = futures::future::select(ready, stop).await {
        std::future::pending::<()>().await;
    }
}

/// A predicate: whether a resource that has an account lacks the finalizer, because somebody removed it.
///
/// The finalizer that this program adds to a new resource changes nothing here, so it causes no second reconcile.
#[expect(clippy::unnecessary_wraps, reason = "the signature of kube's predicates")]
fn has_lost_finalizer(account: &ApiAccount) -> Option<u64> {
    let has_account = account.status.as_ref().is_some_and(|status| status.account_id.is_some());
    let has_finalizer = account.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    Some(u64::from(has_account && !has_finalizer))
}

/// A predicate: the annotations that request something from this controller, or make it refuse the resource.
#[expect(clippy::unnecessary_wraps, reason = "the signature of kube's predicates")]
fn requests(account: &ApiAccount) -> Option<u64> {
    let annotations = account.annotations();
    let mut hasher = DefaultHasher::new();
    [ROTATE_ANNOTATION, PAUSED_ANNOTATION, CONFIRM_DELETION_ANNOTATION, CONFIRM_CREATION_ANNOTATION]
        .map(|name| annotations.get(name))
        .hash(&mut hasher);
    fields_applied_as_null(account).hash(&mut hasher);
    Some(hasher.finish())
}

fn secret_change(event: &Event<PartialObjectMeta<Secret>>) -> SecretChange {
    match event {
        Event::Apply(secret) | Event::InitApply(secret) => {
            SecretChange::At(secret.resource_version().unwrap_or_default())
        }
        Event::Delete(_) | Event::Init | Event::InitDone => SecretChange::Gone,
    }
}

/// Feeds the cache of Secrets, and requeues the accounts whose Secrets were changed by other programs or users.
async fn watch_secrets(
    scope: &Scope,
    context: Arc<Context>,
    changed: &mpsc::UnboundedSender<ObjectRef<ApiAccount>>,
    listing: &watch::Sender<Listing>,
) {
    let config = watcher::Config::default().labels(ACCOUNT_LABEL).timeout(WATCH_SECONDS);
    let api: Api<Lenient<PartialObjectMeta<Secret>>> = scope.api(&context.client);
    let mut watch_errors = scope.watch_errors("Secret", Arc::clone(&context.metrics));
    let events =
        watcher(api, config).map(Lenient::unwrap_event).inspect(move |event| watch_errors.log(event)).default_backoff();
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
        let change = scope.secrets.apply(&event);
        let is_first_list = *listing.borrow() != Listing::Done;
        let changed_accounts = match change {
            CacheChange::Changed(accounts) if !is_first_list => accounts,
            CacheChange::Changed(_) | CacheChange::Nothing => BTreeSet::new(),
        };
        if matches!(event, Event::InitDone) {
            // A later list is reported as single changes. Only the first one requeues all resources.
            listing.send_if_modified(|listing| std::mem::replace(listing, Listing::Done) != Listing::Done);
        }
        for account in changed_accounts {
            let account = ObjectRef::new(&account.name).within(&account.namespace);
            if !context.in_work.leave(&account, secret_change(&event)) && changed.send(account).is_err() {
                return;
            }
        }
    }
}
