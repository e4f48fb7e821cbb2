//! Kubernetes events: one for what a reconcile changed, and one for each new refusal.
//!
//! Events give way to the accounts: they wait in a bounded queue, are sent one at a time while no account is in work,
//! and are lost if the queue is full. When the controller stops, the rest of the queue is sent for a short time.

use super::in_work::InWork;
use crate::api::{ApiAccount, MANAGER, OLD_KEYS_IN_USE};
use crate::kube_error::reason as explained;
use crate::reconcile::{Done, NotReady};
use crate::telemetry::{LostEvent, Metrics};
use futures::FutureExt;
use futures::future::{Fuse, FusedFuture};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, Resource, ResourceExt};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The longest note in bytes. The API server accepts notes of less than 1024 bytes.
const MAX_NOTE_BYTES: usize = 1000;

/// The number of events that may wait to be sent. Each takes about half a kilobyte.
const QUEUED: usize = 10_000;

/// How long an event waits for the accounts in work. So ten events a second are sent while there are always some.
const GIVES_WAY_FOR: Duration = Duration::from_millis(100);

/// How long the request for one event may take.
const SEND_WITHIN: Duration = Duration::from_secs(20);

/// How long events are still sent after the last reconcile. It is shorter than the time that a pod has to terminate.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Puts events about resources into the queue.
///
/// Each event is an object of its own. The recorder of `kube` merges events with the same reason into a series and
/// keeps the note of the first, so the note of a second change would be lost.
pub(super) struct Events {
    queue: mpsc::Sender<QueuedEvent>,
    metrics: Arc<Metrics>,
}

/// Sends the events of the queue.
pub(super) struct Publisher {
    client: Client,
    queue: mpsc::Receiver<QueuedEvent>,
    in_work: Arc<InWork>,
    gives_way_for: Duration,
    metrics: Arc<Metrics>,
}

/// What differs from event to event.
struct QueuedEvent {
    about: ObjectReference,
    type_: &'static str,
    reason: &'static str,
    note: String,
    at: Timestamp,
}

impl Events {
    /// Creates the queue and its publisher. Events are sent through this client for as long as the publisher runs, and
    /// give way to the resources in work.
    pub fn new(client: Client, in_work: Arc<InWork>, metrics: Arc<Metrics>) -> (Self, Publisher) {
        Self::with_capacity(QUEUED, client, in_work, metrics)
    }

    fn with_capacity(events: usize, client: Client, in_work: Arc<InWork>, metrics: Arc<Metrics>) -> (Self, Publisher) {
        let (sender, queue) = mpsc::channel(events);
        let gives_way_for = GIVES_WAY_FOR;
        let publisher = Publisher { client, queue, in_work, gives_way_for, metrics: Arc::clone(&metrics) };
        (Self { queue: sender, metrics }, publisher)
    }

    /// Emits an event about each change that one reconcile made. A change of the Secret that goes with a change of the
    /// account is in the event of that change.
    pub fn emit_done(&self, resource: &ApiAccount, done: &[Done]) {
        for (reason, note) in told_together(done) {
            self.queue(resource, "Normal", reason, &note);
        }
    }

    /// Emits an event about a refusal.
    pub fn emit_not_ready(&self, resource: &ApiAccount, not_ready: &NotReady) {
        self.queue(resource, "Warning", not_ready.reason().as_str(), &not_ready.to_string());
    }

    /// Emits an event about the use of an old key pair that ends soon.
    pub fn emit_late_use(&self, resource: &ApiAccount, note: &str) {
        self.queue(resource, "Warning", OLD_KEYS_IN_USE, note);
    }

    /// Drops the event if the queue is full. No reconcile follows from that, because the status and the log say the
    /// same.
    fn queue(&self, resource: &ApiAccount, type_: &'static str, reason: &'static str, note: &str) {
        let (about, note) = (resource.object_ref(&()), cut(note, MAX_NOTE_BYTES));
        if self.queue.try_send(QueuedEvent { about, type_, reason, note, at: Timestamp::now() }).is_err() {
            let (namespace, name) = (resource.namespace(), resource.name_any());
            tracing::warn!(namespace, name, "the event {reason} is lost: too many events wait for the API server");
            self.metrics.lost_events(LostEvent::Full, 1);
        }
    }
}

/// Returns the reason and the note of each event about what a reconcile did.
fn told_together(done: &[Done]) -> Vec<(&'static str, String)> {
    let (with_others, alone): (Vec<&Done>, Vec<&Done>) = done.iter().partition(|done| goes_with_others(done));
    let mut told: Vec<_> = alone.into_iter().map(|done| (done.reason(), done.to_string())).collect();
    for done in with_others {
        match told.last_mut() {
            Some((_, note)) => {
                note.push_str("; ");
                note.push_str(&done.to_string());
            }
            None => told.push((done.reason(), done.to_string())),
        }
    }
    told
}

/// Returns whether the change is told in the event of another one, if the reconcile made another one.
fn goes_with_others(done: &Done) -> bool {
    matches!(
        done,
        Done::SecretWritten(_) | Done::SecretUpdated { .. } | Done::SecretRemoved(_) | Done::SecretReleased(_)
    )
}

impl Publisher {
    /// Sends events until `finished`, and then the rest of the queue for a short time.
    pub async fn run(mut self, finished: impl Future<Output = ()>) {
        let mut finished = pin!(finished);
        let mut sending = Fuse::terminated();
        loop {
            tokio::select! {
                () = &mut sending, if !sending.is_terminated() => {}
                Some(event) = self.queue.recv(), if sending.is_terminated() => sending = Box::pin(self.send(event)).fuse(),
                () = &mut finished => break,
            }
        }
        self.queue.close();
        let drain = async {
            loop {
                if !sending.is_terminated() {
                    (&mut sending).await;
                }
                let Ok(event) = self.queue.try_recv() else { return };
                sending = Box::pin(self.send(event)).fuse();
            }
        };
        if timeout(DRAIN_WITHIN, drain).await.is_err() {
            let lost = usize::from(!sending.is_terminated()) + self.queue.len();
            tracing::warn!(events = lost, "the API server did not accept all events before the controller stopped");
            self.metrics.lost_events(LostEvent::Ending, lost);
        }
    }

    /// Sends an event when no account is in work, or after a short time.
    fn send(&self, event: QueuedEvent) -> impl Future<Output = ()> + use<> {
        let (client, metrics) = (self.client.clone(), Arc::clone(&self.metrics));
        let (in_work, gives_way_for) = (Arc::clone(&self.in_work), self.gives_way_for);
        async move {
            // After that time it is sent all the same: one account that hangs does not keep all events.
            drop(timeout(gives_way_for, in_work.none()).await);
            let namespace = event.about.namespace.clone().unwrap_or_default();
            let (name, reason) = (event.about.name.clone(), event.reason);
            let events: Api<Event> = Api::namespaced(client, &namespace);
            let lost = match timeout(SEND_WITHIN, events.create(&PostParams::default(), &event.into_event())).await {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => {
                    let why = explained(&error);
                    tracing::warn!(namespace, name, "the API server did not accept the event {reason}: {why}");
                    LostEvent::Refused
                }
                Err(_) => {
                    tracing::warn!(
                        namespace,
                        name,
                        "the API server did not answer whether it accepted the event {reason}"
                    );
                    LostEvent::Unanswered
                }
            };
            metrics.lost_events(lost, 1);
        }
    }
}

impl QueuedEvent {
    fn into_event(self) -> Event {
        let Self { about, type_, reason, note, at } = self;
        Event {
            metadata: ObjectMeta {
                // The API server shortens it so that a random suffix fits.
                generate_name: Some(format!("{}-", about.name.as_deref().unwrap_or_default())),
                ..ObjectMeta::default()
            },
            type_: Some(type_.to_owned()),
            reason: Some(reason.to_owned()),
            note: Some(note),
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(at)),
            regarding: Some(about),
            reporting_controller: Some(MANAGER.to_owned()),
            reporting_instance: Some(MANAGER.to_owned()),
            ..Event::default()
        }
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most - '…'.len_utf8());
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiAccountSpec;
    use crate::secrets::SecretRef;
    use crate::telemetry::Telemetry;
    use http::{Request, Response};
    use kube::client::Body;
    use kube::runtime::reflector::ObjectRef;
    use std::convert::Infallible;

    fn lost(metrics: &Metrics, cause: &str) -> bool {
        let counted = format!(r#"opsadmin_events_lost_total{{cause="{cause}"}} 0"#);
        !metrics.text().unwrap().contains(&counted)
    }

    /// A client of an API server that answers with the event, or never.
    fn client(answers: bool) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            if !answers {
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(Response::new(request.into_body()))
        });
        Client::new(service, "ns")
    }

    fn resource() -> ApiAccount {
        let mut resource = ApiAccount::new("acme", ApiAccountSpec::default());
        resource.metadata.namespace = Some("ns".to_owned());
        resource
    }

    /// A queue for so many events, whose publisher sends through this client.
    fn events(queued: usize, client: Client, telemetry: &Telemetry) -> (Events, Publisher) {
        Events::with_capacity(queued, client, Arc::default(), Arc::clone(&telemetry.metrics))
    }

    #[tokio::test]
    async fn queued_events_are_sent_at_the_end() {
        let (telemetry, _pulse) = Telemetry::new();
        let metrics = &telemetry.metrics;
        let (events, publisher) = events(100, client(true), &telemetry);
        for _ in 0..100 {
            events.emit_done(&resource(), &[Done::Disabled]);
        }
        publisher.run(std::future::ready(())).await;
        assert!(["full", "refused", "unanswered", "ending"].iter().all(|cause| !lost(metrics, cause)));
    }

    #[tokio::test]
    async fn a_full_queue_drops_events() {
        let (telemetry, _pulse) = Telemetry::new();
        let (events, _publisher) = events(1, client(false), &telemetry);
        events.emit_done(&resource(), &[Done::Disabled]);
        assert!(!lost(&telemetry.metrics, "full"));
        events.emit_done(&resource(), &[Done::Disabled]);
        assert!(lost(&telemetry.metrics, "full"));
    }

    #[tokio::test]
    async fn an_event_gives_way_to_the_accounts_in_work() {
        let (telemetry, _pulse) = Telemetry::new();
        let (happened, mut order) = mpsc::unbounded_channel();
        let sent = happened.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            sent.send("event").unwrap();
            async { Ok::<_, Infallible>(Response::new(request.into_body())) }
        });
        let (events, mut publisher) = events(10, Client::new(service, "ns"), &telemetry);
        publisher.gives_way_for = Duration::from_hours(1);
        let in_work = Arc::clone(&publisher.in_work);
        let account = in_work.begin(ObjectRef::from_obj(&resource()));
        events.emit_done(&resource(), &[Done::Disabled]);
        let work = async {
            // The publisher gets many opportunities to send too early.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            happened.send("account").unwrap();
            drop(account);
            assert_eq!(order.recv().await, Some("account"));
            assert_eq!(order.recv().await, Some("event"));
        };
        publisher.run(work).await;
    }

    #[test]
    fn a_change_of_the_secret_is_told_with_the_change_of_the_account() {
        let at = |name: &str| SecretRef { namespace: "ns".to_owned(), name: name.to_owned() };
        let written = || Done::SecretWritten(at("a"));
        let created = "created the account and its keys; wrote the keys to the Secret a".to_owned();
        assert_eq!(told_together(&[Done::Created { recovered: false }, written()]), [("Created", created)]);
        let retained = told_together(&[Done::SecretReleased(at("a")), Done::Retained]);
        assert!(retained.len() == 1 && retained[0].0 == "Retained", "{retained:?}");
        assert_eq!(told_together(&[written()]), [("SecretWritten", "wrote the keys to the Secret a".to_owned())]);
        let moved = "wrote the keys to the Secret a; deleted the Secret b, which is not needed any more".to_owned();
        assert_eq!(told_together(&[written(), Done::SecretRemoved(at("b"))]), [("SecretWritten", moved)]);
    }

    #[test]
    fn what_somebody_else_had_changed_is_told_for_itself() {
        let at = SecretRef { namespace: "ns".to_owned(), name: "a".to_owned() };
        let put_back = Done::SecretPutBack { at, parts: vec!["data.id".to_owned()] };
        let told = told_together(&[Done::DriftCorrected { changes: Vec::new() }, put_back]);
        assert_eq!(told.iter().map(|(reason, _)| *reason).collect::<Vec<_>>(), ["DriftCorrected", "SecretPutBack"]);
        assert_eq!(told_together(&[]), []);
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("ééééé", 10), "ééééé");
        assert_eq!(cut("éééééé", 10), "ééé…");
    }
}
