//! Counts each request to the API server, its result, and how long the answer took to begin.

use crate::telemetry::{KubernetesResult, Metrics, Verb, traces};
use http::{Method, Request, Response, Uri};
use kube::Client;
use kube::client::Body;
use std::time::Instant;

/// Sends a request, and counts it.
///
/// # Errors
/// As [`Client::send`].
pub(super) async fn send(client: &Client, request: Request<Body>, metrics: &Metrics) -> kube::Result<Response<Body>> {
    let verb = verb(request.method(), request.uri());
    let started = Instant::now();
    let path = request.uri().path().to_owned();
    let answer = traces::request(verb, &path, client.send(request)).await;
    let status = answer.as_ref().ok().map(Response::status);
    metrics.kubernetes(verb, KubernetesResult::of(status), started.elapsed());
    answer
}

/// Returns the verb of a request, as the audit log of the API server names it.
fn verb(method: &Method, uri: &Uri) -> Verb {
    let is_watch = uri.query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
    match *method {
        Method::GET if is_watch => Verb::Watch,
        Method::GET if is_of_one_object(uri.path()) => Verb::Get,
        Method::GET => Verb::List,
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE => Verb::Delete,
        _ => Verb::Other,
    }
}

/// Returns whether the path names one object: `/api/v1/namespaces/NAMESPACE/secrets/NAME`, for example.
fn is_of_one_object(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    // A named group has a version after its name. The core group has only a version.
    let before_kind = if parts.next() == Some("apis") { 2 } else { 1 };
    let rest: Vec<_> = parts.skip(before_kind).collect();
    match rest.as_slice() {
        ["namespaces", _, _, below_kind @ ..] | [_, below_kind @ ..] => !below_kind.is_empty(),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::requests::Requests;
    use crate::telemetry::Telemetry;
    use k8s_openapi::api::core::v1::{Namespace, Secret};
    use kube::Api;
    use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
    use serde_json::json;
    use std::convert::Infallible;
    use std::sync::Arc;

    #[tokio::test]
    async fn each_request_is_counted_by_verb_and_result() {
        let (telemetry, _pulse) = Telemetry::new();
        let service = tower::service_fn(|request: Request<Body>| async move {
            let status = if request.method() == Method::DELETE { 409 } else { 503 };
            Ok::<_, Infallible>(Response::builder().status(status).body(Body::empty()).unwrap())
        });
        let client = Requests::new(Client::new(service, "ns"), Arc::clone(&telemetry.metrics)).into_client();
        let secrets: Api<Secret> = Api::namespaced(client.clone(), "ns");
        assert!(secrets.get("a").await.is_err());
        assert!(Api::<Namespace>::all(client.clone()).get("kube-system").await.is_err());
        assert!(Api::<Secret>::all(client).list(&ListParams::default()).await.is_err());
        assert!(secrets.list(&ListParams::default()).await.is_err());
        assert!(secrets.watch(&WatchParams::default(), "0").await.is_err());
        assert!(secrets.create(&PostParams::default(), &Secret::default()).await.is_err());
        let patch = Patch::Merge(json!({}));
        assert!(secrets.patch("a", &PatchParams::default(), &patch).await.is_err());
        assert!(secrets.delete("a", &DeleteParams::default()).await.is_err());
        let text = telemetry.metrics.text().unwrap();
        let counted: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("opsadmin_kubernetes_requests_total{") && !line.ends_with(" 0"))
            .filter_map(|line| line.split_once('{').map(|(_, rest)| rest.replace('"', "")))
            .collect();
        for expected in [
            "verb=get,result=failed} 2",
            "verb=list,result=failed} 2",
            "verb=watch,result=failed} 1",
            "verb=create,result=failed} 1",
            "verb=patch,result=failed} 1",
            "verb=delete,result=conflict} 1",
        ] {
            assert!(counted.iter().any(|line| line == expected), "{expected}: {counted:?}");
        }
        assert_eq!(counted.len(), 6, "{counted:?}");
        assert!(text.contains("opsadmin_kubernetes_request_duration_seconds_count{verb=\"get\"} 2"), "{text}");
        assert!(!text.contains("opsadmin_kubernetes_request_duration_seconds_count{verb=\"watch\"}"), "{text}");
    }
}
