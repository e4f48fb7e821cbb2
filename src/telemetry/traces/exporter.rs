//! Sends traces to a collector by OTLP over HTTP. The settings are the environment variables of OpenTelemetry's
//! specification, such as `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_TRACES_SAMPLER`.

use super::recorder;
use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// How long a request to the collector may take, and how long a stop waits for the last one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The traces that are being sent.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

/// Starts to record traces and to send them, if the environment names a collector.
///
/// # Errors
/// A setting in the environment is wrong, or the certificate authorities cannot be read.
pub fn start() -> anyhow::Result<Option<Traces>> {
    let given = |name: &str| env::var(name).is_ok_and(|value| !value.is_empty());
    let is_wanted = given("OTEL_EXPORTER_OTLP_ENDPOINT") || given("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    let is_off = env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    if !is_wanted || is_off {
        return Ok(None);
    }
    let exporter = SpanExporter::builder().with_http().with_http_client(Sender::new()?).build();
    let exporter = exporter.context("the traces cannot be sent; correct the variables OTEL_EXPORTER_OTLP_...")?;
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource()).build();
    recorder::record(provider.tracer("opsadmin-operator"));
    tracing::info!("sending traces");
    Ok(Some(Traces(provider)))
}

impl Traces {
    /// Sends what is left, and stops. The program's log says if that fails.
    pub async fn stop(self) {
        let stopped = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(REQUEST_TIMEOUT)).await;
        match stopped {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("the last traces were not sent: {error}"),
            Err(error) => tracing::warn!("the last traces were not sent: {error}"),
        }
    }
}

/// Returns the attributes of this process. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` come first.
fn resource() -> Resource {
    let given = Resource::builder().build();
    let is_named = given
        .iter()
        .any(|(key, value)| key.as_str() == "service.name" && !value.as_str().starts_with("unknown_service"));
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let mut resource = Resource::builder().with_attribute(version);
    if !is_named {
        resource = resource.with_service_name("opsadmin-operator");
    }
    if given.iter().all(|(key, _)| key.as_str() != "service.instance.id") {
        let host = whoami::hostname().unwrap_or_else(|_| "unknown".to_owned());
        resource = resource.with_attribute(KeyValue::new("service.instance.id", host));
    }
    resource.build()
}

/// Sends requests to the collector in the program's own runtime, because the SDK calls it from a thread without one.
#[derive(Debug)]
struct Sender {
    client: Arc<HyperClient<HttpsConnector<HttpConnector>>>,
    runtime: Handle,
    /// Whether the last request failed, so that an outage of the collector is logged once.
    fails: AtomicBool,
}

impl Sender {
    fn new() -> anyhow::Result<Self> {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_native_roots()
            .context("the traces cannot be sent, because the certificate authorities of this machine cannot be read")?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Arc::new(HyperClient::new(connector, REQUEST_TIMEOUT, None));
        Ok(Self { client, runtime: Handle::current(), fails: AtomicBool::new(false) })
    }

    fn log(&self, answer: &Result<Response<Bytes>, HttpError>) {
        let failure = match answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("the collector answers {}", response.status())),
            Err(error) => Some(error.to_string()),
        };
        let failed = self.fails.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(failure) if !failed => tracing::warn!("traces are lost, because they cannot be sent: {failure}"),
            None if failed => tracing::info!("traces are sent again"),
            Some(_) | None => {}
        }
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = Arc::clone(&self.client);
        let answer = self.runtime.spawn(async move { client.send_bytes(request).await }).await?;
        self.log(&answer);
        answer
    }
}
