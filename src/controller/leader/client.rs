//! A client for the cluster that sends a request that writes only while this process leads. A frozen controller writes
//! only reports.

use super::fence::Leadership;
use crate::controller::freeze::Freeze;
use crate::controller::requests::Requests;
use http::Request;
use kube::Client;
use kube::client::Body;
use tower::BoxError;

/// Returns one client for both: `reading` gets the requests that only read, and `writing` the others, if this process leads
/// and is not frozen.
///
/// The connections of `writing` have to be tasks of this leadership's executor. A request that was handed to a connection
/// is out of the reach of the fence here.
pub(in crate::controller) fn fenced(
    reading: Requests,
    writing: Requests,
    leadership: &Leadership,
    freeze: Freeze,
) -> Client {
    let (namespace, leadership) = (reading.default_namespace().to_owned(), leadership.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (reading, writing, leadership) = (reading.clone(), writing.clone(), leadership.clone());
        async move {
            if request.method().is_safe() {
                return reading.send(request).await.map_err(BoxError::from);
            }
            freeze.permits_request(request.uri().path())?;
            leadership.guard(writing.send(request)).await?.map_err(BoxError::from)
        }
    });
    Client::new(service, namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::leader::clock;
    use crate::kube_error::reason;
    use crate::telemetry::Telemetry;
    use http::Response;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::PostParams;
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[tokio::test]
    async fn a_follower_reads_and_does_not_write() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let server = tower::service_fn(move |_: Request<Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, Infallible>(Response::new(Body::from(br#"{"metadata":{"name":"a"}}"#.to_vec()))) }
        });
        let leadership = Leadership::candidate();
        let (telemetry, _pulse) = Telemetry::new();
        let requests = || Requests::new(Client::new(server.clone(), "ns"), Arc::clone(&telemetry.metrics));
        let maps: Api<ConfigMap> = Api::namespaced(fenced(requests(), requests(), &leadership, Freeze::Off), "ns");
        maps.get("a").await.unwrap();
        let error = maps.create(&PostParams::default(), &ConfigMap::default()).await.unwrap_err();
        assert!(reason(&error).contains("not the leader"), "{}", reason(&error));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        leadership.set(true, Some(clock::now().after(Duration::from_mins(1))));
        maps.create(&PostParams::default(), &ConfigMap::default()).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
