//! Events: one for each change that was made and for each new refusal, and none otherwise.

use crate::api::{ApiAccount, MANAGER};
use crate::reconcile::{Done, Refusal};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

/// The API server takes notes of less than 1024 bytes.
const MAX_NOTE_BYTES: usize = 1000;

/// Publishes events about resources.
pub(super) struct Events(Client);

impl Events {
    /// Publishes through this client.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// Tells of something that was done.
    pub async fn done(&self, resource: &ApiAccount, done: &Done) {
        self.publish(resource, EventType::Normal, done.reason(), &done.to_string()).await;
    }

    /// Tells of something that was refused.
    pub async fn refused(&self, resource: &ApiAccount, refusal: &Refusal) {
        self.publish(resource, EventType::Warning, refusal.reason().as_str(), &refusal.to_string()).await;
    }

    /// An event that is lost is no reason to do anything again: the status tells the same.
    async fn publish(&self, resource: &ApiAccount, type_: EventType, reason: &str, note: &str) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(cut(note, MAX_NOTE_BYTES)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        // A recorder that has published about this resource with this reason before would repeat the note of then.
        let reporter = Reporter { controller: MANAGER.to_owned(), instance: None };
        let recorder = Recorder::new(self.0.clone(), reporter);
        if let Err(error) = recorder.publish(&event, &resource.object_ref(&())).await {
            tracing::debug!(%error, reason, "an event was not taken");
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
    use super::cut;

    #[test]
    fn a_long_note_is_cut_between_characters() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("ééééé", 10), "ééééé");
        assert_eq!(cut("éééééé", 10), "ééé…");
    }
}
