//! Kubernetes events: one for each change that was made, and one for each new refusal.
//!
//! Events are sent in the background from a bounded queue, so that no reconcile waits for an event. When the controller
//! stops, the rest of the queue is sent for a short time.

use crate::api::{ApiAccount, MANAGER, OLD_KEYS_IN_USE};
use crate::kube_error::reason as explained;
use crate::reconcile::{Done, NotReady};
use crate::telemetry::{LostEvent, Metrics};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
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

/// The number of events that may wait to be sent: more than a healthy API server ever leaves waiting.
const QUEUED: usize = 10_000;

/// The number of events that are sent at a time.
const AT_A_TIME: usize = 16;

/// How long the request for one event may take.
const SEND_WITHIN: Duration = Duration::from_secs(20);

/// How long events are still sent after the last reconcile. It is shorter than the time that a pod has to terminate.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Puts events about resources into the queue.
///
/// Each event is an object of its own. The recorder of `kube` merges events with the same reason into a series and
/// keeps the note of the first, so the note of a second change would be lost.
pub(super) struct Events {
    queue: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
}

/// Sends the events of the queue.
pub(super) struct Publisher {
    client: Client,
    queue: mpsc::Receiver<Event>,
    metrics: Arc<Metrics>,
}

impl Events {
    /// Creates the queue and its publisher. Events are sent through this client for as long as the publisher runs.
    pub fn new(client: Client, metrics: Arc<Metrics>) -> (Self, Publisher) {
        Self::with_capacity(QUEUED, client, metrics)
    }

    fn with_capacity(events: usize, client: Client, metrics: Arc<Metrics>) -> (Self, Publisher) {
        let (sender, queue) = mpsc::channel(events);
        (Self { queue: sender, metrics: Arc::clone(&metrics) }, Publisher { client, queue, metrics })
    }

    /// Emits an event about a change that was made.
    pub fn emit_done(&self, resource: &ApiAccount, done: &Done) {
        self.queue(resource, "Normal", done.reason(), &done.to_string());
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
    fn queue(&self, resource: &ApiAccount, type_: &str, reason: &str, note: &str) {
        if self.queue.try_send(event(resource, type_, reason, note)).is_err() {
            let (namespace, name) = (resource.namespace(), resource.name_any());
            tracing::warn!(namespace, name, "the event {reason} is lost: too many events wait for the API server");
            self.metrics.lost_events(LostEvent::Full, 1);
        }
    }
}

impl Publisher {
    /// Sends events until `finished`, and then the rest of the queue for a short time.
    pub async fn run(mut self, finished: impl Future<Output = ()>) {
        let mut finished = pin!(finished);
        let mut sending = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(()) = sending.next() => {}
                Some(event) = self.queue.recv(), if sending.len() < AT_A_TIME => sending.push(self.send(event)),
                () = &mut finished => break,
            }
        }
        self.queue.close();
        let drain = async {
            loop {
                while sending.len() < AT_A_TIME
                    && let Ok(event) = self.queue.try_recv()
                {
                    sending.push(self.send(event));
                }
                if sending.next().await.is_none() {
                    return;
                }
            }
        };
        if timeout(DRAIN_WITHIN, drain).await.is_err() {
            let lost = sending.len() + self.queue.len();
            tracing::warn!(events = lost, "the API server did not accept all events before the controller stopped");
            self.metrics.lost_events(LostEvent::Ending, lost);
        }
    }

    fn send(&self, event: Event) -> impl Future<Output = ()> + use<> {
        let (client, metrics) = (self.client.clone(), Arc::clone(&self.metrics));
        async move {
            let about = event.regarding.clone().unwrap_or_default();
            let (namespace, name) = (about.namespace.unwrap_or_default(), about.name);
            let reason = event.reason.clone().unwrap_or_default();
            let events: Api<Event> = Api::namespaced(client, &namespace);
            let lost = match timeout(SEND_WITHIN, events.create(&PostParams::default(), &event)).await {
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

fn event(resource: &ApiAccount, type_: &str, reason: &str, note: &str) -> Event {
    Event {
        metadata: ObjectMeta {
            // The API server shortens it so that a random suffix fits.
            generate_name: Some(format!("{}-", resource.name_any())),
            ..ObjectMeta::default()
        },
        type_: Some(type_.to_owned()),
        reason: Some(reason.to_owned()),
        note: Some(cut(note, MAX_NOTE_BYTES)),
        action: Some("Reconcile".to_owned()),
        event_time: Some(MicroTime(Timestamp::now())),
        regarding: Some(resource.object_ref(&())),
        reporting_controller: Some(MANAGER.to_owned()),
        reporting_instance: Some(MANAGER.to_owned()),
        ..Event::default()
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
    use crate::telemetry::Telemetry;
    use http::{Request, Response};
    use kube::client::Body;
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

    #[tokio::test]
    async fn queued_events_are_sent_at_the_end() {
        let (telemetry, _pulse) = Telemetry::new();
        let metrics = &telemetry.metrics;
        let (events, publisher) = Events::with_capacity(100, client(true), Arc::clone(metrics));
        for _ in 0..100 {
            events.emit_done(&resource(), &Done::Disabled);
        }
        publisher.run(std::future::ready(())).await;
        assert!(["full", "refused", "unanswered", "ending"].iter().all(|cause| !lost(metrics, cause)));
    }

    #[tokio::test]
    async fn a_full_queue_drops_events() {
        let (telemetry, _pulse) = Telemetry::new();
        let (events, _publisher) = Events::with_capacity(1, client(false), Arc::clone(&telemetry.metrics));
        events.emit_done(&resource(), &Done::Disabled);
        assert!(!lost(&telemetry.metrics, "full"));
        events.emit_done(&resource(), &Done::Disabled);
        assert!(lost(&telemetry.metrics, "full"));
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("ééééé", 10), "ééééé");
        assert_eq!(cut("éééééé", 10), "ééé…");
    }
}
