//! A client that reports an error when an answer of the API server begins and then stalls.
//!
//! The client of `kube` limits only the time until an answer begins. Without this module, a list or watch whose body
//! stalls would wait forever.

use bytes::Bytes;
use futures::stream;
use http::{Request, Uri};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use std::time::Duration;
use thiserror::Error;
use tokio::time::timeout;

/// The number of seconds after which the API server ends a watch. The watcher then continues at the same
/// resourceVersion. A watch whose connection is lost without notice is detected a few seconds after that.
pub(super) const WATCH_SECONDS: u32 = 120;

/// How long the next part of a body may take, for an ordinary answer and for a watch.
#[derive(Clone, Copy)]
struct BodyTimeouts {
    answer: Duration,
    watch: Duration,
}

const TIMEOUTS: BodyTimeouts =
    BodyTimeouts { answer: Duration::from_secs(30), watch: Duration::from_secs(WATCH_SECONDS as u64 + 30) };

#[derive(Debug, Error)]
#[error("the API server began an answer and sent no more of it for {} s", .0.as_secs())]
struct Stalled(Duration);

/// Returns the same client, whose answers end with an error if they stall.
pub(super) fn with_body_timeout(client: Client) -> Client {
    with_timeouts(client, TIMEOUTS)
}

fn with_timeouts(client: Client, timeouts: BodyTimeouts) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let within = if is_watch(request.uri()) { timeouts.watch } else { timeouts.answer };
            let answer = client.send(request).await?;
            Ok::<_, kube::Error>(answer.map(|body| StreamBody::new(frames(body, within))))
        }
    });
    Client::new(service, namespace)
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"))
}

/// Returns the parts of the body, and an error if the next part takes longer than `within`.
fn frames(
    body: Body,
    within: Duration,
) -> impl futures::Stream<Item = Result<Frame<Bytes>, Box<dyn std::error::Error + Send + Sync>>> {
    stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match timeout(within, body.frame()).await {
            Ok(Some(Ok(frame))) => Some((Ok(frame), Some(body))),
            Ok(Some(Err(error))) => Some((Err(error.into()), None)),
            Ok(None) => None,
            Err(_) => Some((Err(Stalled(within).into()), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiAccount;
    use crate::kube_error::reason;
    use futures::{StreamExt, TryStreamExt};
    use http::Response;
    use kube::Api;
    use kube::api::{ListParams, WatchParams};
    use std::convert::Infallible;

    /// A client of an API server whose answers begin and never end.
    fn stalling() -> Client {
        let service = tower::service_fn(|_: Request<Body>| async {
            let begun = stream::once(async { Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"{\"items\":["))) });
            Ok::<_, Infallible>(Response::new(StreamBody::new(begun.chain(stream::pending()))))
        });
        let timeouts = BodyTimeouts { answer: Duration::from_millis(20), watch: Duration::from_millis(40) };
        with_timeouts(Client::new(service, "ns"), timeouts)
    }

    #[tokio::test]
    async fn a_stalled_list_ends_with_an_error() {
        let accounts: Api<ApiAccount> = Api::all(stalling());
        let error = accounts.list(&ListParams::default()).await.unwrap_err();
        assert!(reason(&error).contains("sent no more of it"), "{}", reason(&error));
    }

    #[tokio::test]
    async fn a_stalled_watch_ends() {
        let accounts: Api<ApiAccount> = Api::all(stalling());
        let mut events = accounts.watch(&WatchParams::default(), "0").await.unwrap().boxed();
        // The watch may end with an error or without one. In both cases it is started again.
        let end = timeout(Duration::from_mins(1), events.try_next()).await;
        assert!(!matches!(end, Err(_) | Ok(Ok(Some(_)))), "{end:?}");
    }

    #[test]
    fn a_watch_is_recognized_by_its_query() {
        let is = |uri: &str| is_watch(&uri.parse().unwrap());
        assert!(is("/apis/a?limit=5&watch=true&timeoutSeconds=3"));
        assert!(!is("/apis/a?limit=5") && !is("/apis/watch=true"));
    }
}
