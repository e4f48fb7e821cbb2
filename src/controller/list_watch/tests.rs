use super::*;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// The body of an answer, in parts.
type Parts = StreamBody<BoxStream<'static, std::result::Result<Frame<Bytes>, Infallible>>>;

const SOON: Duration = Duration::from_mins(1);

/// A request that waits for its answer.
struct Asked {
    query: String,
    answer: oneshot::Sender<Response<Parts>>,
}

impl Asked {
    fn answer(self, status: u16, parts: impl Stream<Item = Value> + Send + 'static) {
        let lines = parts.map(|part| Ok(Frame::data(Bytes::from(format!("{part}\n")))));
        let response = Response::builder().status(status).body(StreamBody::new(lines.boxed())).unwrap();
        assert!(self.answer.send(response).is_ok(), "nobody waits for it");
    }

    /// Answers with a page of a list.
    fn page(self, version: u64, objects: &[(&str, u64)], next: Option<&str>) {
        let items: Vec<_> = objects.iter().map(|(name, version)| object(name, *version)).collect();
        let metadata = json!({ "resourceVersion": version.to_string(), "continue": next });
        self.answer(200, once(json!({ "metadata": metadata, "items": items })));
    }

    fn refuse(self, code: u16) {
        self.answer(code, once(status(code)));
    }

    /// Answers with a watch, and returns what sends its events.
    fn open(self) -> Events {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.answer(200, stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver))));
        Events(sender)
    }
}

/// What sends the events of a watch. The watch ends when it is dropped.
struct Events(mpsc::UnboundedSender<Value>);

impl Events {
    fn send(&self, kind: &str, object: &Value) {
        self.0.send(json!({ "type": kind, "object": object })).expect("the watch is open");
    }
}

fn once(value: Value) -> impl Stream<Item = Value> {
    stream::iter([value])
}

fn object(name: &str, version: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "namespace": "ns", "name": name, "resourceVersion": version.to_string() },
    })
}

fn status(code: u16) -> Value {
    json!({ "kind": "Status", "status": "Failure", "message": "no", "reason": "Expired", "code": code })
}

/// The API server, of which the test plays the part, and the events that `list_watch` gives.
struct Scene {
    lists: mpsc::UnboundedReceiver<Asked>,
    watches: mpsc::UnboundedReceiver<Asked>,
    events: mpsc::UnboundedReceiver<String>,
}

impl Scene {
    fn begin() -> Self {
        let ((lists, asked_lists), (watches, asked_watches)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let (tell, events) = mpsc::unbounded_channel();
        let server = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let (answer, answered) = oneshot::channel();
            let to = if query.contains("watch=true") { &watches } else { &lists };
            let sent = to.send(Asked { query, answer });
            async move {
                sent.expect("the test receives the requests");
                Ok::<_, kube::Error>(answered.await.expect("the test answers"))
            }
        });
        let api: Api<ConfigMap> = Api::all(Client::new(server, "ns"));
        tokio::spawn(async move {
            let mut events = std::pin::pin!(list_watch(api, Some("a=b")));
            while let Some(event) = events.next().await {
                if tell.send(described(event)).is_err() {
                    return;
                }
            }
        });
        Self { lists: asked_lists, watches: asked_watches, events }
    }

    async fn list(&mut self) -> Asked {
        timeout(SOON, self.lists.recv()).await.expect("a list is asked for").unwrap()
    }

    async fn watch(&mut self) -> Asked {
        timeout(SOON, self.watches.recv()).await.expect("a watch is asked for").unwrap()
    }

    async fn event(&mut self) -> String {
        timeout(SOON, self.events.recv()).await.expect("there is an event").unwrap()
    }

    async fn sees(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.event().await, *expected);
        }
    }

    /// Answers the first page of a list of 4 objects and opens the watch. Returns the watch and the request for the second
    /// page.
    async fn half_listed() -> (Self, Events, Asked) {
        let mut scene = Self::begin();
        scene.sees(&["Init"]).await;
        scene.list().await.page(10, &[("a", 1), ("b", 2)], Some("more"));
        scene.sees(&["InitApply a 1", "InitApply b 2"]).await;
        let watch = scene.watch().await;
        assert!(watch.query.contains("resourceVersion=10"), "{}", watch.query);
        let second = scene.list().await;
        assert!(second.query.contains("continue=more"), "{}", second.query);
        (scene, watch.open(), second)
    }
}

fn described(event: Result<Event<ConfigMap>>) -> String {
    let told = |what: &str, object: ConfigMap| {
        format!("{what} {} {}", object.metadata.name.unwrap(), object.metadata.resource_version.unwrap())
    };
    match event {
        Ok(Event::Init) => "Init".to_owned(),
        Ok(Event::InitApply(object)) => told("InitApply", object),
        Ok(Event::InitDone) => "InitDone".to_owned(),
        Ok(Event::Apply(object)) => told("Apply", object),
        Ok(Event::Delete(object)) => told("Delete", object),
        Err(Error::InitialListFailed(_)) => "the list failed".to_owned(),
        Err(Error::WatchStartFailed(_)) => "the watch did not start".to_owned(),
        Err(Error::WatchError(status)) => format!("the watch sent {}", status.code),
        Err(error) => format!("{error:?}"),
    }
}

#[tokio::test]
async fn a_change_during_a_list_is_shown_at_once_and_not_overwritten_by_its_page() {
    let (mut scene, watch, second) = Scene::half_listed().await;
    for (name, version) in [("a", 11), ("c", 12), ("new", 13)] {
        watch.send("MODIFIED", &object(name, version));
    }
    scene.sees(&["InitApply a 11", "InitApply c 12", "InitApply new 13"]).await;
    second.page(10, &[("c", 3), ("d", 4)], None);
    scene.sees(&["InitApply d 4", "InitDone"]).await;
    watch.send("MODIFIED", &object("c", 14));
    scene.sees(&["Apply c 14"]).await;
}

#[tokio::test]
async fn an_object_deleted_during_a_list_is_not_shown_by_its_page() {
    let (mut scene, watch, second) = Scene::half_listed().await;
    watch.send("DELETED", &object("c", 11));
    scene.sees(&["Delete c 11"]).await;
    second.page(10, &[("c", 3), ("d", 4)], None);
    scene.sees(&["InitApply d 4", "InitDone"]).await;
}

#[tokio::test]
async fn changes_before_one_list_do_not_hide_objects_of_the_next() {
    let (mut scene, watch, second) = Scene::half_listed().await;
    watch.send("DELETED", &object("c", 11));
    scene.sees(&["Delete c 11"]).await;
    second.page(10, &[], None);
    scene.sees(&["InitDone"]).await;
    watch.send("ERROR", &status(410));
    scene.sees(&["the watch sent 410", "Init"]).await;
    scene.list().await.page(20, &[("c", 15)], None);
    scene.sees(&["InitApply c 15", "InitDone"]).await;
}

#[tokio::test]
async fn a_page_that_fails_begins_a_new_list_and_a_new_watch() {
    for code in [410, 500] {
        let (mut scene, watch, second) = Scene::half_listed().await;
        second.refuse(code);
        scene.sees(&["the list failed", "Init"]).await;
        scene.list().await.page(20, &[("a", 1)], None);
        scene.sees(&["InitApply a 1", "InitDone"]).await;
        let again = scene.watch().await;
        assert!(again.query.contains("resourceVersion=20"), "{}", again.query);
        assert!(watch.0.is_closed());
    }
}

#[tokio::test]
async fn a_watch_that_expires_during_a_list_begins_a_new_list() {
    let (mut scene, watch, _second) = Scene::half_listed().await;
    watch.send("ERROR", &status(410));
    scene.sees(&["the watch sent 410", "Init"]).await;
    scene.list().await.page(20, &[], None);
    scene.sees(&["InitDone"]).await;
}

#[tokio::test]
async fn a_watch_that_starts_too_late_begins_a_new_list() {
    let mut scene = Scene::begin();
    scene.list().await.page(10, &[], None);
    scene.sees(&["Init", "InitDone"]).await;
    scene.watch().await.refuse(410);
    scene.sees(&["the watch did not start", "Init"]).await;
}

#[tokio::test]
async fn a_watch_that_ends_or_fails_goes_on_where_it_was_and_so_does_the_list() {
    let (mut scene, watch, second) = Scene::half_listed().await;
    watch
        .send("BOOKMARK", &json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "resourceVersion": "17" } }));
    drop(watch);
    let again = scene.watch().await;
    assert!(again.query.contains("resourceVersion=17"), "{}", again.query);
    again.refuse(503);
    scene.sees(&["the watch did not start"]).await;
    let watch = scene.watch().await.open();
    watch.send("ADDED", &object("e", 18));
    scene.sees(&["InitApply e 18"]).await;
    drop(watch);
    let again = scene.watch().await;
    assert!(again.query.contains("resourceVersion=18"), "{}", again.query);
    second.page(10, &[("d", 4)], None);
    scene.sees(&["InitApply d 4", "InitDone"]).await;
    again.open().send("MODIFIED", &object("d", 19));
    scene.sees(&["Apply d 19"]).await;
}

#[tokio::test]
async fn a_watch_that_ends_at_once_without_an_event_counts_as_failed() {
    let (mut scene, watch, _second) = Scene::half_listed().await;
    drop(watch);
    let failed = scene.event().await;
    assert!(failed.contains("ends the watch at once"), "{failed}");
    let again = scene.watch().await;
    assert!(again.query.contains("resourceVersion=10"), "{}", again.query);
    again.open().send("ADDED", &object("e", 11));
    scene.sees(&["InitApply e 11"]).await;
}

#[tokio::test]
async fn the_watch_goes_on_after_an_object_that_cannot_be_read() {
    let (mut scene, watch, second) = Scene::half_listed().await;
    second.page(10, &[], None);
    scene.sees(&["InitDone"]).await;
    watch.send("ADDED", &json!({ "metadata": "nonsense" }));
    assert!(scene.event().await.starts_with("WatchFailed"));
    watch.send("ADDED", &object("e", 18));
    scene.sees(&["Apply e 18"]).await;
}

#[tokio::test]
async fn lists_and_watches_ask_for_the_labels_and_an_end() {
    let mut scene = Scene::begin();
    let list = scene.list().await;
    assert!(list.query.contains("labelSelector=a%3Db") && list.query.contains("limit=800"), "{}", list.query);
    list.page(10, &[], None);
    let watch = scene.watch().await;
    for part in ["labelSelector=a%3Db", "timeoutSeconds=120", "allowWatchBookmarks=true"] {
        assert!(watch.query.contains(part), "{}", watch.query);
    }
}

#[tokio::test]
async fn a_list_without_a_version_fails() {
    let mut scene = Scene::begin();
    scene.list().await.answer(200, once(json!({ "metadata": {}, "items": [] })));
    scene.sees(&["Init", "NoResourceVersion", "Init"]).await;
}
