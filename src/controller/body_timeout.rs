//! Answers of the API server that begin and do not end: whoever reads one is told so after a time.
//!
//! The client itself limits only how long an answer may take to begin. A list whose body stalls would be read for ever, and
//! its watch with it.

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

/// After how many seconds the API server is to end a watch, which then begins again where it was. A watch whose other end is
/// gone without a word is noticed a few seconds after that.
pub(super) const WATCH_SECONDS: u32 = 120;

/// How long a part of an answer may take.
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

/// The same client, but for answers that stall: these end with an error.
pub(super) fn with_body_timeout(client: Client) -> Client {
    with_timeouts(client, TIMEOUTS)
}

fn with_timeouts(client: Client, patience: BodyTimeouts) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let within = if is_watch(request.uri()) { patience.watch } else { patience.answer };
            let answer = client.send(request).await?;
            Ok::<_, kube::Error>(answer.map(|body| StreamBody::new(frames(body, within))))
        }
    });
    Client::new(service, namespace)
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"))
}

/// The parts of the body, and an error if the next one takes longer than this.
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

    /// An API server whose answers begin and never end.
    fn stalling() -> Client {
        let service = tower::service_fn(|_: Request<Body>| async {
            let begun = stream::once(async { Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"{\"items\":["))) });
            Ok::<_, Infallible>(Response::new(StreamBody::new(begun.chain(stream::pending()))))
        });
        let patience = BodyTimeouts { answer: Duration::from_millis(20), watch: Duration::from_millis(40) };
        with_timeouts(Client::new(service, "ns"), patience)
    }

    #[tokio::test]
    async fn a_list_whose_body_stalls_ends_with_an_error_that_says_so() {
        let accounts: Api<ApiAccount> = Api::all(stalling());
        let error = accounts.list(&ListParams::default()).await.unwrap_err();
        assert!(reason(&error).contains("sent no more of it"), "{}", reason(&error));
    }

    #[tokio::test]
    async fn a_watch_that_falls_silent_ends_too() {
        let accounts: Api<ApiAccount> = Api::all(stalling());
        let mut events = accounts.watch(&WatchParams::default(), "0").await.unwrap().boxed();
        // As an error or as the end: either way it is watched again.
        let end = timeout(Duration::from_mins(1), events.try_next()).await;
        assert!(!matches!(end, Err(_) | Ok(Ok(Some(_)))), "{end:?}");
    }

    #[test]
    fn a_watch_is_known_by_its_query() {
        let is = |uri: &str| is_watch(&uri.parse().unwrap());
        assert!(is("/apis/a?limit=5&watch=true&timeoutSeconds=3"));
        assert!(!is("/apis/a?limit=5") && !is("/apis/watch=true"));
    }
}
