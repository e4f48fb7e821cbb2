//! Traces, as a collector of OpenTelemetry receives them.

use std::time::Duration;

use opentelemetry::trace::TraceId;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::json;

use super::logs::parsed;
use super::scene::{SOON, Scene};
use crate::support::collector::Collector;
use crate::support::opsadmin::{RunningController, controller_call};
use crate::support::wait::eventually;

/// Starts a controller that sends its traces after this many milliseconds.
fn start(scene: &Scene, endpoint: &str, delay: &str) -> RunningController {
    let (kubeconfig, database) = (scene.cluster.kubeconfig(), scene.database.url());
    let extra = ["--log-format", "json", "--leader-election", "off"];
    let call = controller_call(kubeconfig, &[scene.namespace.name()], database, &scene.keyring, &extra);
    call.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("OTEL_BSP_SCHEDULE_DELAY", delay).spawn()
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
    Some(format!("{:?}", attribute.value))
}

/// Returns the finished trace of the first reconcile of this resource, its first span first.
async fn trace(collector: &Collector, resource: &str) -> Vec<Span> {
    eventually(&format!("the trace of {resource}"), SOON, async || {
        let spans = collector.spans();
        let is_root = |span: &Span| {
            let name = attribute(span, "opsadmin.resource.name").unwrap_or_default();
            span.parent_span_id.is_empty() && name.contains(&format!("{resource:?}"))
        };
        let root = spans.iter().map(|(_, span)| span).filter(|span| is_root(span));
        let Some(root) = root.min_by_key(|span| span.start_time_unix_nano) else {
            return Err(format!("{:?}", spans.iter().map(|(_, span)| &span.name).collect::<Vec<_>>()));
        };
        let mut trace: Vec<Span> =
            spans.iter().map(|(_, span)| span).filter(|span| span.trace_id == root.trace_id).cloned().collect();
        trace.sort_by_key(|span| (span.start_time_unix_nano, !span.parent_span_id.is_empty()));
        Ok(trace)
    })
    .await
}

#[tokio::test]
async fn a_new_account_is_one_trace_from_its_watch_event_to_its_status() {
    let (scene, collector) = (Scene::set("traces").await, Collector::start().await);
    let controller = start(&scene, &collector.endpoint(), "100");
    // Accounts of the resources that exist at a start are looked for together, in no trace.
    for name in ["first", "acme"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    let trace = trace(&collector, "acme").await;
    let names: Vec<&str> = trace.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names[..2], ["reconcile", "queue"], "{names:?}");
    for part in ["database read", "database commit", "kubernetes create", "kubernetes patch"] {
        assert!(names.contains(&part), "{part} is not in {names:?}");
    }
    let root = &trace[0];
    assert!(attribute(root, "opsadmin.resource.generation").is_some_and(|value| value.contains('1')), "{root:?}");
    for span in &trace[1..] {
        assert_eq!(span.parent_span_id, root.span_id, "{span:?}");
        assert!(span.start_time_unix_nano >= root.start_time_unix_nano, "{span:?}");
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano, "{span:?}");
    }
    let writes_status =
        |span: &Span| attribute(span, "url.path").is_some_and(|path| path.contains("/apiaccounts/acme/status"));
    assert!(trace.iter().any(writes_status), "{trace:#?}");
    assert!(collector.spans().iter().all(|(service, _)| service.contains("\"opsadmin-operator\"")));

    // The lines about this account have the trace's ID.
    let lines = parsed(&controller.log());
    let created =
        lines.iter().find(|line| line["message"] == "created the account and its keys" && line["name"] == "acme");
    let id = TraceId::from_bytes(root.trace_id.clone().try_into().expect("an ID has 16 bytes")).to_string();
    assert_eq!(created.expect("it is logged")["span"]["trace_id"], id.as_str());

    // No request has a secret key.
    for value in scene.data("acme-opsadmin").await.values().filter(|value| value.len() > 20) {
        for request in collector.requests() {
            let is_there = request.windows(value.len()).any(|window| window == value.as_bytes());
            assert!(!is_there, "a value of the Secret is in a trace");
        }
    }
    assert_eq!(controller.terminate(SOON).await.0, 0);
}

#[tokio::test]
async fn the_last_traces_are_sent_at_a_stop_and_a_missing_collector_is_logged_once() {
    let (scene, mut collector) = (Scene::set("no collector").await, Collector::start().await);
    let controller = start(&scene, &collector.endpoint(), "3600000");
    scene.create("first", json!({})).await;
    scene.ready("first").await;
    assert_eq!(controller.terminate(SOON).await.0, 0);
    trace(&collector, "first").await;

    collector.stop().await;
    let controller = start(&scene, &collector.endpoint(), "100");
    for name in ["second", "third"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
        let told = "traces are lost, because they cannot be sent";
        eventually("the loss to be logged", SOON, async || {
            let log = controller.log();
            if log.contains(told) { Ok(()) } else { Err(log) }
        })
        .await;
        assert_eq!(controller.log().matches(told).count(), 1, "{}", controller.log());
    }
    let (code, log) = controller.terminate(Duration::from_secs(20)).await;
    assert_eq!(code, 0, "{log}");
}
