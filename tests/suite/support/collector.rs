//! A collector of OpenTelemetry that receives traces by OTLP over HTTP and keeps them.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A running collector. It stops when it is dropped.
pub struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Bytes>>>,
    serving: JoinSet<()>,
}

impl Collector {
    /// Starts a collector on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::clone(&received)));
        Self { address, received, serving }
    }

    /// Returns the endpoint for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns each request as it was received.
    pub fn requests(&self) -> Vec<Bytes> {
        self.received.lock().expect("nothing panics with it").clone()
    }

    /// Returns all spans, and for each one the name of the service.
    pub fn spans(&self) -> Vec<(String, Span)> {
        let mut spans = Vec::new();
        for request in self.requests() {
            let request = ExportTraceServiceRequest::decode(request).expect("it is a request of OTLP");
            for process in request.resource_spans {
                let attributes = process.resource.map(|resource| resource.attributes).unwrap_or_default();
                let service = attributes.iter().find(|attribute| attribute.key == "service.name");
                let service = format!("{:?}", service.and_then(|service| service.value.clone()));
                let all = process.scope_spans.into_iter().flat_map(|scope| scope.spans);
                spans.extend(all.map(|span| (service.clone(), span)));
            }
        }
        spans
    }

    /// Stops the collector, so that nobody answers at its address.
    pub async fn stop(&mut self) {
        self.serving.shutdown().await;
    }
}

async fn serve(listener: TcpListener, received: Arc<Mutex<Vec<Bytes>>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let received = Arc::clone(&received);
        connections.spawn(async move {
            let service = service_fn(move |request| receive(request, Arc::clone(&received)));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            connection.await.unwrap_or_else(|error| eprintln!("a connection to the collector ended: {error}"));
        });
    }
}

async fn receive(
    request: Request<Incoming>,
    received: Arc<Mutex<Vec<Bytes>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_trace = request.uri().path() == "/v1/traces";
    let is_protobuf = request.headers().get("content-type").is_some_and(|kind| kind == "application/x-protobuf");
    let body = request.into_body().collect().await.expect("the request is complete").to_bytes();
    let mut answer = Response::new(Full::default());
    if is_trace && is_protobuf {
        received.lock().expect("nothing panics with it").push(body);
    } else {
        *answer.status_mut() = http::StatusCode::NOT_FOUND;
    }
    Ok(answer)
}
