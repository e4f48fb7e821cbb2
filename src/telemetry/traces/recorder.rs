//! Records the spans of a trace. Names and attributes follow OpenTelemetry's semantic conventions where these have one.

use super::{Call, Ending, Reconcile};
use opentelemetry::context::FutureExt as _;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;
use std::sync::OnceLock;
use std::time::SystemTime;
use tracing::Instrument as _;

/// Unset while no traces are recorded.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Records traces from now on. Only the first call has an effect.
pub(super) fn record(tracer: SdkTracer) {
    TRACER.get_or_init(|| tracer);
}

pub(super) async fn reconcile<T>(
    resource: Reconcile<'_>,
    attempt: impl Future<Output = T>,
    ending: impl FnOnce(&T) -> Ending,
) -> T {
    let Some(tracer) = TRACER.get() else { return attempt.await };
    let began = SystemTime::now();
    let shown = began.checked_sub(resource.waited).unwrap_or(began);
    let mut attributes = vec![
        KeyValue::new("k8s.namespace.name", resource.namespace.to_owned()),
        KeyValue::new("opsadmin.resource.name", resource.name.to_owned()),
    ];
    attributes.extend(resource.generation.map(|generation| KeyValue::new("opsadmin.resource.generation", generation)));
    let whole = tracer.span_builder("reconcile").with_start_time(shown).with_attributes(attributes);
    let context = Context::new().with_span(whole.start_with_context(tracer, &Context::new()));
    if !resource.waited.is_zero() {
        let queue = tracer.span_builder("queue").with_start_time(shown).start_with_context(tracer, &context);
        Context::new().with_span(queue).span().end_with_timestamp(began);
    }
    let trace = context.span().span_context().clone();
    let lines = if trace.is_sampled() {
        tracing::info_span!("reconcile", trace_id = %trace.trace_id())
    } else {
        tracing::Span::none()
    };
    let result = attempt.with_context(context.clone()).instrument(lines).await;
    end(&context, ending(&result));
    result
}

pub(super) async fn call<T>(call: Call<'_>, answer: impl Future<Output = T>, ending: impl FnOnce(&T) -> Ending) -> T {
    let (Some(tracer), parent) = (TRACER.get(), Context::current()) else { return answer.await };
    if !parent.span().is_recording() {
        return answer.await;
    }
    let (name, attributes) = match call {
        Call::Kubernetes { verb, path } => (
            format!("kubernetes {}", verb.as_str()),
            vec![KeyValue::new("url.path", path.to_owned()), KeyValue::new("k8s.request.verb", verb.as_str())],
        ),
        Call::Database(call) => {
            (format!("database {}", call.as_str()), vec![KeyValue::new("db.operation.name", call.as_str())])
        }
    };
    let span = tracer.span_builder(name).with_kind(SpanKind::Client).with_attributes(attributes);
    let context = parent.with_span(span.start_with_context(tracer, &parent));
    let result = answer.with_context(context.clone()).await;
    end(&context, ending(&result));
    result
}

fn end(context: &Context, ending: Ending) {
    let span = context.span();
    if let Some(status) = ending.status {
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
    }
    if let Some(failure) = ending.failure {
        span.set_status(Status::error(failure));
    }
    span.end();
}
