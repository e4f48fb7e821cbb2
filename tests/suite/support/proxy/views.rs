//! What a controller sees of the cluster's state: lists and watches that lag, lack events, or have expired.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::sync::watch;

/// Controls what lists and watches of each resource show. By default, they show the real state.
#[derive(Default)]
pub struct Views(Mutex<HashMap<String, View>>);

type Hides = Box<dyn Fn(&str, &Value) -> bool + Send>;

struct View {
    frozen: watch::Sender<bool>,
    hides: Option<Hides>,
    expire: watch::Sender<u64>,
    expired_watches: usize,
    empty_lists: usize,
    page: Option<u32>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            frozen: watch::channel(false).0,
            hides: None,
            expire: watch::channel(0).0,
            expired_watches: 0,
            empty_lists: 0,
            page: None,
        }
    }
}

/// The controls of one watch that has begun.
pub(super) struct Watching {
    pub frozen: watch::Receiver<bool>,
    pub expire: watch::Receiver<u64>,
    pub is_expired: bool,
}

impl Views {
    /// Holds back all events of watches of this resource. They are not lost.
    pub fn freeze(&self, resource: &str) {
        self.view(resource, |view| view.frozen.send_replace(true));
    }

    /// Passes on all held events at once, and all later events.
    pub fn thaw(&self, resource: &str) {
        self.view(resource, |view| view.frozen.send_replace(false));
    }

    /// Drops the events for which `hides` returns true. Its arguments are the type (`ADDED`, `MODIFIED`, `DELETED`) and
    /// the object.
    pub fn hide(&self, resource: &str, hides: impl Fn(&str, &Value) -> bool + Send + 'static) {
        self.view(resource, |view| view.hides = Some(Box::new(hides)));
    }

    /// Drops no more events.
    pub fn show(&self, resource: &str) {
        self.view(resource, |view| view.hides = None);
    }

    /// Ends the current watches with a 410, as a server does that no longer has the requested `resourceVersion`.
    pub fn expire(&self, resource: &str) {
        self.view(resource, |view| view.expire.send_modify(|times| *times += 1));
    }

    /// Ends the next watches with a 410 as soon as they begin.
    pub fn expire_next(&self, resource: &str, watches: usize) {
        self.view(resource, |view| view.expired_watches = watches);
    }

    /// Returns an empty result for the next lists.
    pub fn empty_next(&self, resource: &str, lists: usize) {
        self.view(resource, |view| view.empty_lists = lists);
    }

    /// Returns lists in pages of this many objects, regardless of the requested limit.
    pub fn page(&self, resource: &str, objects: u32) {
        self.view(resource, |view| view.page = Some(objects));
    }

    pub(super) fn watching(&self, resource: &str) -> Watching {
        self.view(resource, |view| {
            let is_expired = view.expired_watches > 0;
            view.expired_watches = view.expired_watches.saturating_sub(1);
            Watching { frozen: view.frozen.subscribe(), expire: view.expire.subscribe(), is_expired }
        })
    }

    pub(super) fn is_hidden(&self, resource: &str, event: &Value) -> bool {
        let type_ = event["type"].as_str().unwrap_or_default();
        self.view(resource, |view| view.hides.as_ref().is_some_and(|hides| hides(type_, &event["object"])))
    }

    pub(super) fn page_of(&self, resource: &str) -> Option<u32> {
        self.view(resource, |view| view.page)
    }

    /// Returns the answer of a list as the controller shall see it.
    pub(super) fn list(&self, resource: &str, answer: Vec<u8>) -> Vec<u8> {
        let is_empty = self.view(resource, |view| {
            let is_empty = view.empty_lists > 0;
            view.empty_lists = view.empty_lists.saturating_sub(1);
            is_empty
        });
        if !is_empty {
            return answer;
        }
        let mut list: Value = serde_json::from_slice(&answer).expect("the API server answers a list in JSON");
        list["items"] = json!([]);
        list["metadata"]["continue"] = json!("");
        list.to_string().into_bytes()
    }

    fn view<T>(&self, resource: &str, with: impl FnOnce(&mut View) -> T) -> T {
        let mut views: MutexGuard<'_, HashMap<String, View>> = self.0.lock().expect("nobody panics while holding it");
        with(views.entry(resource.to_owned()).or_default())
    }
}

/// Returns the event with which the API server ends a watch whose `resourceVersion` has expired.
pub(super) fn expired() -> String {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
        "message": "too old resource version",
    });
    json!({ "type": "ERROR", "object": status }).to_string() + "\n"
}
