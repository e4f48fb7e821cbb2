//! What a controller is shown of the cluster's state: lists and watches that lag, leave out, or have expired.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::sync::watch;

/// Controls of what lists and watches of each kind of object show; untouched, they show what there is.
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

/// Of one watch that has begun.
pub(super) struct Watching {
    pub frozen: watch::Receiver<bool>,
    pub expire: watch::Receiver<u64>,
    pub is_expired: bool,
}

impl Views {
    /// From now on no event of watches of this kind is passed on; they are held back, not lost.
    pub fn freeze(&self, resource: &str) {
        self.view(resource, |view| view.frozen.send_replace(true));
    }

    /// Passes on what was held back, in a burst, and whatever comes.
    pub fn thaw(&self, resource: &str) {
        self.view(resource, |view| view.frozen.send_replace(false));
    }

    /// Loses the events for whose type (`ADDED`, `MODIFIED`, `DELETED`) and object this holds.
    pub fn hide(&self, resource: &str, hides: impl Fn(&str, &Value) -> bool + Send + 'static) {
        self.view(resource, |view| view.hides = Some(Box::new(hides)));
    }

    /// Loses no more events.
    pub fn show(&self, resource: &str) {
        self.view(resource, |view| view.hides = None);
    }

    /// Ends the watches that are under way as a server does that no longer has the past they ask for, with a 410.
    pub fn expire(&self, resource: &str) {
        self.view(resource, |view| view.expire.send_modify(|times| *times += 1));
    }

    /// Ends the next watches with that 410 as soon as they begin.
    pub fn expire_next(&self, resource: &str, watches: usize) {
        self.view(resource, |view| view.expired_watches = watches);
    }

    /// The next lists say that there is nothing.
    pub fn empty_next(&self, resource: &str, lists: usize) {
        self.view(resource, |view| view.empty_lists = lists);
    }

    /// Lists come in pages of this many objects, whatever is asked for.
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

    /// The list's answer as it is to be shown.
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

/// The event with which the API server ends a watch whose past it no longer has.
pub(super) fn expired() -> String {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
        "message": "too old resource version",
    });
    json!({ "type": "ERROR", "object": status }).to_string() + "\n"
}
