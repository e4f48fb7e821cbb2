//! Events: one for each change that was made and for each new refusal, and none otherwise.

use crate::api::{ApiAccount, MANAGER};
use crate::reconcile::{Done, Refusal};
use crate::secrets::said::reason as explained;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, Resource, ResourceExt};

/// The API server takes notes of less than 1024 bytes.
const MAX_NOTE_BYTES: usize = 1000;

/// Publishes events about resources.
///
/// Each is an object of its own. The recorder of `kube` makes a series of those that share a reason and keeps the first
/// one's note, so that a second change of the same kind would never be told.
pub(super) struct Events(Client);

impl Events {
    /// Publishes through this client.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// Tells of something that was done.
    pub async fn done(&self, resource: &ApiAccount, done: &Done) {
        self.publish(resource, "Normal", done.reason(), &done.to_string()).await;
    }

    /// Tells of something that was refused.
    pub async fn refused(&self, resource: &ApiAccount, refusal: &Refusal) {
        self.publish(resource, "Warning", refusal.reason().as_str(), &refusal.to_string()).await;
    }

    /// An event that is lost is no reason to do anything again: the status tells the same.
    async fn publish(&self, resource: &ApiAccount, type_: &str, reason: &str, note: &str) {
        let event = Event {
            metadata: ObjectMeta {
                // The API server cuts it to what leaves room for a random end.
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
        };
        let events: Api<Event> = Api::namespaced(self.0.clone(), &resource.namespace().unwrap_or_default());
        if let Err(error) = events.create(&PostParams::default(), &event).await {
            let (namespace, name) = (resource.namespace(), resource.name_any());
            tracing::warn!(namespace, name, "the API server did not take the event {reason}: {}", explained(&error));
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
