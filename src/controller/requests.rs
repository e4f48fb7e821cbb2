//! Sends requests to the API server, counts them, and ends answers that stall.

use super::{body_timeout, measured};
use crate::telemetry::Metrics;
use bytes::Bytes;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use std::sync::Arc;
use tower::BoxError;

/// Sends requests with a client.
///
/// Each [`Client`] has a queue and a task of its own, which a request has to pass. So what wraps the client further wraps
/// [`Requests::send`], and makes a client of all the layers together.
#[derive(Clone)]
pub(super) struct Requests {
    client: Client,
    metrics: Arc<Metrics>,
}

impl Requests {
    pub(super) fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self { client, metrics }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// As [`Client::send`]. The body of the answer ends with an error if it stalls.
    pub(super) async fn send(
        &self,
        request: Request<Body>,
    ) -> kube::Result<Response<impl hyper::body::Body<Data = Bytes, Error = BoxError> + Send + use<>>> {
        let timeout = body_timeout::timeout_of(request.uri());
        let answer = measured::send(&self.client, request, &self.metrics).await?;
        Ok(answer.map(|body| body_timeout::with_timeout(body, timeout)))
    }

    /// Returns the namespace of requests that name none.
    pub(super) fn default_namespace(&self) -> &str {
        self.client.default_namespace()
    }

    /// Returns a client that sends its requests here.
    pub(super) fn into_client(self) -> Client {
        let namespace = self.default_namespace().to_owned();
        let service = tower::service_fn(move |request| {
            let requests = self.clone();
            async move { requests.send(request).await }
        });
        Client::new(service, namespace)
    }
}
