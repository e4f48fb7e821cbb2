//! The watches of one scope (a namespace or the whole cluster), and the controller that reconciles what they show.

use super::context::Context;
use super::held::{Key, Store};
use super::in_work::SecretChange;
use super::list_watch::list_watch;
use super::look_over;
use super::queues::Queue;
use super::requester::requester;
use super::scope::Scope;
use super::watch_errors::refusal;
use super::watch_pauses::pauses;
use super::work::{self, Work};
use crate::api::{
    ACCOUNT_LABEL, ApiAccount, CONFIRM_CREATION_ANNOTATION, CONFIRM_DELETION_ANNOTATION, FINALIZER, Lenient,
    PAUSED_ANNOTATION, ROTATE_ANNOTATION,
};
use crate::reconcile::{awaits_confirmation, fields_applied_as_null};
use crate::secrets::cache::CacheChange;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::utils::Predicate;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, predicates};
use kube::{Api, ResourceExt};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};

/// The state of the first list of a scope's Secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing {
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
    mut changed: mpsc::UnboundedReceiver<ObjectRef<ApiAccount>>,
    concurrency: u16,
    mut secrets_listed: watch::Receiver<Listing>,
    mut stopped: watch::Receiver<bool>,
) {
    let (store, work) = (Store::default(), Work::default());
    context.stores.add(scope.clone(), store.clone());
    let watching = watch_accounts(scope, &context, &store, &work);
    let looking_over = look_over::run(&store, &work, &context, secrets_listed.clone());
    let queueing = async {
        while let Some(resource) = changed.recv().await {
            work.add(&Key::of(&resource));
        }
    };
    // None of these ends by itself before the controller stops.
    let feeding = futures::future::join3(watching, looking_over, queueing);
    let reconciling = async {
        // Before the Secrets are listed, every Secret would seem to be missing. If they cannot be listed, each resource
        // reports that.
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = secrets_listed.wait_for(|listing| *listing != Listing::Trying) => {}
        }
        work::run(&work, &store, &context, concurrency, stopped.clone()).await;
    };
    futures::future::select(std::pin::pin!(reconciling), std::pin::pin!(feeding)).await;
}

/// Feeds the store of resources, and makes those due whose declaration has changed.
async fn watch_accounts(scope: &Scope, context: &Arc<Context>, store: &Store, work: &Work) {
    let mut watch_errors = scope.watch_errors("ApiAccount", Arc::clone(&context.metrics));
    let accounts = list_watch(scope.api::<Lenient<ApiAccount>>(&context.client), None)
        .map(Lenient::unwrap_event)
        .inspect(move |event| watch_errors.log(event))
        .backoff(pauses(&context.environment))
        .inspect(|event| match event {
            Ok(Event::Apply(account) | Event::InitApply(account)) => shown(account, store, context),
            Ok(event) => store.apply(event),
            Err(_) => {}
        })
        .inspect(|event| match event {
            // The brake gets to know held deletions before any deletion is reconciled, so that no other deletion is
            // allowed after a restart.
            Ok(Event::InitApply(account)) if awaits_confirmation(account) => {
                context.brake.hold(&ObjectRef::from_obj(account));
            }
            Ok(Event::InitDone) if context.resources().is_some() => context.waiting.lists_complete(),
            Ok(Event::Delete(account)) => {
                work.forget(&Key::of_resource(account));
                context.memory.forget(account);
                context.pickups.forget(&Key::of_resource(account));
                context.versions.forget(&ObjectRef::from_obj(account));
                context.revocations.forget(&ObjectRef::from_obj(account));
                context.waiting.forget(&ObjectRef::from_obj(account));
                context.creations.forget(&ObjectRef::from_obj(account));
                context.brake.resource_gone(&ObjectRef::from_obj(account));
            }
            _ => {}
        })
        .applied_objects();
    let due_for = predicates::generation.combine(has_lost_finalizer).combine(requests);
    let mut accounts = std::pin::pin!(accounts);
    while let Some(account) = accounts.next().await {
        // Errors were logged above.
        let Ok(account) = account else { continue };
        let is_different = context.memory.looks_different(&account, due_for.hash_property(&account));
        // The resources of the first list are looked over together.
        if is_different && store.is_listed() {
            work.add(&store.key_of(&account));
        }
    }
}

/// Records a resource as the watch shows it.
fn shown(account: &ApiAccount, store: &Store, context: &Context) {
    let (key, now) = (store.key_of(account), Instant::now());
    context.memory.with_status(account, |status| context.pickups.shown(account, status, now));
    context.memory.requested(&key, requester(account));
    store.hold(&key, account);
    context.memory.watch_showed(&key, account, now);
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
    let api: Api<Lenient<PartialObjectMeta<Secret>>> = scope.api(&context.client);
    let mut watch_errors = scope.watch_errors("Secret", Arc::clone(&context.metrics));
    let events = list_watch(api, Some(ACCOUNT_LABEL))
        .map(Lenient::unwrap_event)
        .inspect(move |event| watch_errors.log(event))
        .backoff(pauses(&context.environment));
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
