//! The proxy for the API server: plain HTTP from the controller, TLS with the tests' own rights to the API server.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use http::{Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use super::policy::Policy;
use super::trace::{Fault, Refusal, To, Trace};
use super::views::{Views, expired};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The error that ends a connection without an answer.
#[derive(Debug)]
struct Disconnected;

impl fmt::Display for Disconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the proxy ends the connection")
    }
}

impl std::error::Error for Disconnected {}

struct Way {
    client: Client,
    trace: Arc<Trace>,
    views: Arc<Views>,
    policy: Arc<Policy>,
    generation: u64,
}

/// Serves until the future is dropped.
pub(super) async fn serve(
    listener: TcpListener,
    client: Client,
    trace: Arc<Trace>,
    views: Arc<Views>,
    policy: Arc<Policy>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let way = Arc::new(Way {
            client: client.clone(),
            trace: Arc::clone(&trace),
            views: Arc::clone(&views),
            policy: Arc::clone(&policy),
            generation: trace.generation(),
        });
        let service = service_fn(move |request| {
            let way = Arc::clone(&way);
            async move { way.pass(request).await }
        });
        connections.spawn(async move {
            // The error is ignored, because tests kill the controller and cut connections on purpose.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

/// What a request asks for.
struct Asked {
    verb: String,
    resource: String,
    name: String,
}

impl Way {
    async fn pass(&self, request: Request<Incoming>) -> Result<Answer, Disconnected> {
        let asked = Asked::of(request.method().as_str(), request.uri());
        let (mut head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Disconnected)?.to_bytes();
        let what = format!("{} {}", asked.verb, asked.resource);
        let mut passage = self.trace.arrive(self.generation, To::ApiServer, what, asked.name.clone()).await;
        match passage.fault {
            Some(Fault::Refuse(refusal)) => {
                self.trace.answered(&mut passage, format!("{} (refused)", refusal.code));
                return Ok(refused(refusal));
            }
            Some(Fault::Disconnect) => {
                self.trace.answered(&mut passage, "disconnected");
                return Err(Disconnected);
            }
            _ => {}
        }

        for header in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            head.headers.remove(header);
        }
        if let ("LIST", Some(objects)) = (asked.verb.as_str(), self.views.page_of(&asked.resource)) {
            head.uri = in_pages_of(objects, &head.uri);
        }
        let body = self.policy.admit(&asked.verb, &asked.resource, body);
        let answer = self.client.send(Request::from_parts(head, Body::from(body))).await;
        let Ok(answer) = answer else {
            self.trace.answered(&mut passage, "the API server is not there");
            return Err(Disconnected);
        };
        let (mut head, body) = answer.into_parts();
        for header in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            head.headers.remove(header);
        }
        let is_half = matches!(passage.fault, Some(Fault::HalfAnswer));
        let body = if asked.verb == "WATCH" && head.status.is_success() {
            self.watch(asked.resource, body)
        } else {
            let mut whole = body.collect().await.map_err(|_| Disconnected)?.to_bytes();
            if asked.verb == "LIST" && head.status.is_success() {
                whole = self.views.list(&asked.resource, whole.to_vec()).into();
            }
            if is_half {
                let half = whole.slice(..whole.len() / 2);
                let begun = futures::stream::once(async { Ok(Frame::data(half)) });
                StreamBody::new(begun.chain(futures::stream::pending())).boxed_unsync()
            } else {
                Full::new(whole).boxed_unsync()
            }
        };
        match passage.fault {
            Some(Fault::LoseAnswer) => {
                self.trace.answered(&mut passage, format!("{} (lost)", head.status.as_u16()));
                Err(Disconnected)
            }
            Some(Fault::KeepAnswer) => {
                self.trace.answered(&mut passage, format!("{} (kept)", head.status.as_u16()));
                std::future::pending().await
            }
            _ => {
                self.trace.answered(&mut passage, head.status.as_u16().to_string());
                Ok(Response::from_parts(head, body))
            }
        }
    }

    /// Passes on the events of a watch, one per line, as the views allow.
    fn watch(&self, resource: String, body: Body) -> UnsyncBoxBody<Bytes, Infallible> {
        let (sender, receiver) = mpsc::channel::<String>(1);
        let views = Arc::clone(&self.views);
        let watching = views.watching(&resource);
        tokio::spawn(async move {
            let reader = sender.clone();
            tokio::select! {
                // The controller has closed the connection.
                () = reader.closed() => {}
                () = pump(&resource, &views, watching, body, sender) => {}
            }
        });
        let frames = ReceiverStream::new(receiver).map(|line| Ok(Frame::data(Bytes::from(line))));
        StreamBody::new(frames).boxed_unsync()
    }
}

async fn pump(
    resource: &str,
    views: &Views,
    mut watching: super::views::Watching,
    body: Body,
    sender: mpsc::Sender<String>,
) {
    if watching.is_expired {
        drop(sender.send(expired()).await);
        return;
    }
    let mut chunks = body.into_data_stream();
    let mut read = BytesMut::new();
    loop {
        while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let line = read.split_to(end + 1);
            let event = serde_json::from_slice(&line).expect("each line of a watch is an event in JSON");
            if !views.is_hidden(resource, &event) {
                let line = String::from_utf8(line.to_vec()).expect("JSON is text");
                let thawed = watching.frozen.wait_for(|frozen| !frozen);
                if thawed.await.is_err() || sender.send(line).await.is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            chunk = chunks.next() => match chunk {
                Some(Ok(chunk)) => read.extend_from_slice(&chunk),
                _ => return,
            },
            Ok(()) = watching.expire.changed() => {
                drop(sender.send(expired()).await);
                return;
            }
        }
    }
}

impl Asked {
    /// Parses a path. It is `/api/v1/...` or `/apis/GROUP/VERSION/...`, then `namespaces/NAME/` for a namespaced
    /// object, then the plural, the name and the subresource. The name of a list is its namespace, or the name of the
    /// single object that it selects.
    fn of(method: &str, uri: &Uri) -> Self {
        let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let parts = match parts.as_slice() {
            ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            other => other,
        };
        let (namespace, parts) = match parts {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            other => ("", other),
        };
        let resource = parts.iter().enumerate().filter(|(place, _)| *place != 1).map(|(_, part)| *part);
        let resource = resource.collect::<Vec<_>>().join("/");
        let name = parts.get(1).copied().unwrap_or_default().to_owned();
        let query = queries(uri);
        let verb = match method {
            "GET" if query.get("watch").is_some_and(|watch| watch == "true") => "WATCH",
            "GET" if name.is_empty() => "LIST",
            other => other,
        };
        let selected = query.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
        let name = if verb == "LIST" { selected.unwrap_or(namespace).to_owned() } else { name };
        Self { verb: verb.to_owned(), resource, name }
    }
}

fn queries(uri: &Uri) -> HashMap<String, String> {
    url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect()
}

fn in_pages_of(objects: u32, uri: &Uri) -> Uri {
    let mut query = queries(uri);
    query.insert("limit".to_owned(), objects.to_string());
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    format!("{}?{query}", uri.path()).parse().expect("what was a URI still is one")
}

fn refused(refusal: Refusal) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": refusal.reason,
        "code": refusal.code, "message": format!("refused by the test with {}", refusal.code),
    });
    let mut answer = Response::builder().status(refusal.code).header("content-type", "application/json");
    if let Some(seconds) = refusal.retry_after {
        answer = answer.header(RETRY_AFTER, seconds.to_string());
    }
    answer.body(Full::from(status.to_string()).boxed_unsync()).expect("the answer is well-formed")
}
