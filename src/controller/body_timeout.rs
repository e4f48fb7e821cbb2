//! Ends an answer of the API server with an error if it begins and then stalls.
//!
//! The client of `kube` limits only the time until an answer begins. Without this module, a list or watch whose body
//! stalls would wait forever.

use bytes::Bytes;
use futures::stream;
use http::Uri;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use std::time::Duration;
use thiserror::Error;
use tokio::time::timeout;
use tower::BoxError;

/// The number of seconds after which the API server ends a watch. The next watch continues at the same resourceVersion. A
/// watch whose connection is lost without notice is detected a few seconds after that.
pub(super) const WATCH_SECONDS: u32 = 120;

/// How long the next part of a body may take, for an ordinary answer and for a watch.
#[derive(Clone, Copy)]
struct BodyTimeouts {
    answer: Duration,
    watch: Duration,
}

const TIMEOUTS: BodyTimeouts =
    BodyTimeouts { answer: Duration::from_secs(30), watch: Duration::from_secs(WATCH_SECONDS as u64 + 5) };

#[derive(Debug, Error)]
#[error("the API server began an answer and sent no more of it for {} s", .0.as_secs())]
struct Stalled(Duration);

impl BodyTimeouts {
    fn of(self, uri: &Uri) -> Duration {
        if is_watch(uri) { self.watch } else { self.answer }
    }
}

/// Returns how long the next part of the answer to this request may take.
pub(super) fn timeout_of(uri: &Uri) -> Duration {
    TIMEOUTS.of(uri)
}

/// Returns the same body, which ends with an error if its next part takes longer than `within`.
pub(super) fn with_timeout(
    body: Body,
    within: Duration,
) -> impl hyper::body::Body<Data = Bytes, Error = BoxError> + Send {
    StreamBody::new(frames(body, within))
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"))
}

fn frames(body: Body, within: Duration) -> impl futures::Stream<Item = Result<Frame<Bytes>, BoxError>> {
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
    use http::{Request, Response};
    use kube::api::{ListParams, WatchParams};
    use kube::{Api, Client};
    use std::convert::Infallible;

    /// A client of an API server whose answers begin and never end.
    fn stalling() -> Client {
        let server = tower::service_fn(|_: Request<Body>| async {
            let begun = stream::once(async { Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"{\"items\":["))) });
            Ok::<_, Infallible>(Response::new(StreamBody::new(begun.chain(stream::pending()))))
        });
        let server = Client::new(server, "ns");
        let timeouts = BodyTimeouts { answer: Duration::from_millis(20), watch: Duration::from_millis(40) };
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, within) = (server.clone(), timeouts.of(request.uri()));
            async move { Ok::<_, kube::Error>(server.send(request).await?.map(|body| with_timeout(body, within))) }
        });
        Client::new(service, "ns")
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
