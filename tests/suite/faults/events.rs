//! Events that the API server refuses or does not answer. They are lost or late, and nothing else changes.

use serde_json::json;

use super::stage::{ACME, Stage};
use crate::controller::metrics::is;
use crate::controller::scene::SOON;
use crate::support::proxy::{Call, Fault, To};
use crate::support::wait::eventually;

const ACCOUNTS: usize = 40;

fn is_event(call: &Call) -> bool {
    call.what == "POST events"
}

/// Returns the writes so far to ACME and its Secret.
fn writes(stage: &Stage) -> Vec<String> {
    let calls = stage.proxy.trace.calls().into_iter().filter(|call| call.to == To::ApiServer && !is_event(call));
    let writes =
        calls.filter(|call| ["POST ", "PUT ", "PATCH ", "DELETE "].iter().any(|verb| call.what.starts_with(verb)));
    writes.map(|call| call.what).collect()
}

#[tokio::test]
async fn an_event_that_is_refused_changes_nothing_else() {
    let stage = Stage::with_controller("refused events").await;
    stage.proxy.trace.meet_all(is_event, Fault::refuse(403, "Forbidden"));
    stage.proxy.trace.begin();
    stage.scene.create(ACME, json!({})).await;
    stage.scene.ready(ACME).await;
    stage.scene.change(ACME, json!({ "description": "changed" })).await;
    stage.scene.ready(ACME).await;
    stage.scene.delete(ACME).await;
    is(&stage.scene, r#"opsadmin_events_lost_total{cause="refused"}"#, 3.0).await;
    stage.quiet().await;
    let created = ["PATCH apiaccounts", "POST secrets", "PATCH apiaccounts/status"];
    let edited = ["PATCH apiaccounts/status"];
    let deleted = ["DELETE secrets", "PATCH apiaccounts"];
    assert_eq!(writes(&stage), [&created[..], &edited[..], &deleted[..]].concat(), "{}", stage.calls());
    assert!(stage.told().await.is_empty());
}

#[tokio::test]
async fn events_that_are_not_answered_delay_no_account_of_a_burst_and_come_after_it() {
    let mut stage = Stage::with_controller("events in a burst").await;
    stage.proxy.trace.meet_all(is_event, Fault::Hold);
    stage.proxy.trace.begin();
    let names = || (0..ACCOUNTS).map(|number| format!("a{number}"));
    for name in names() {
        stage.scene.create(&name, json!({})).await;
    }
    for name in names() {
        stage.scene.ready(&name).await;
    }
    let calls = stage.proxy.trace.calls();
    let unanswered = || stage.scene.log().matches("did not answer whether it accepted the event").count();
    let events = calls.iter().filter(|call| is_event(call)).count();
    assert!(events <= 1 + unanswered(), "one at a time\n{}", stage.calls());
    let first = calls.iter().position(is_event).unwrap_or(calls.len());
    let status = calls.iter().position(|call| call.what == "PATCH apiaccounts/status").expect("all are Ready");
    assert!(status < first, "the status comes first\n{}", stage.calls());

    stage.proxy.trace.heal();
    eventually("the events of all accounts", SOON, async || {
        let sent = stage.proxy.trace.calls().iter().filter(|call| is_event(call) && call.answer == "201").count();
        if sent + unanswered() >= ACCOUNTS { Ok(()) } else { Err(stage.calls()) }
    })
    .await;
    stage.scene.stop().await;
}
