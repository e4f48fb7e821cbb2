//! The backoff grows to a minute. An account that waits for the database or for a name does not wait that long once it
//! is available.

use std::time::Duration;

use serde_json::json;

use super::stage::Stage;
use crate::controller::scene::SOON;
use crate::support::proxy::{Call, Fault, To};
use crate::support::wait::eventually;

/// With this number of accounts, not all backoffs can end by chance.
const ACCOUNTS: usize = 10;

/// How often each account is tried before the wait ends. The next backoff is then sixteen seconds or more.
const TRIES: usize = 6;

/// The longest time between two checks of the database, plus the time for all of the work on a slow machine.
const AT_ONCE: Duration = Duration::from_secs(14);

async fn all_ready(stage: &Stage, names: impl Iterator<Item = String>) {
    let all = async {
        for name in names {
            stage.scene.ready(&name).await;
        }
    };
    assert!(tokio::time::timeout(AT_ONCE, all).await.is_ok(), "not all were looked at\n{}", stage.scene.log());
}

#[tokio::test]
async fn after_an_outage_everything_is_done_at_once() {
    let stage = Stage::with_controller("outage ends").await;
    let names = || (0..ACCOUNTS).map(|number| format!("a{number}"));
    for name in names() {
        stage.scene.create(&name, json!({})).await;
    }
    for name in names() {
        stage.scene.ready(&name).await;
    }
    stage.quiet().await;
    stage.proxy.trace.begin();
    stage.proxy.trace.meet_all(|call| call.to == To::Database, Fault::Disconnect);
    for name in names() {
        stage.scene.change(&name, json!({ "enabled": false })).await;
    }
    eventually("each to be tried often", SOON, async || {
        // A new connection begins with this statement.
        let is_try = |call: &&Call| call.what.starts_with("SELECT pg_is_in_recovery");
        let tries = stage.proxy.trace.calls().iter().filter(is_try).count();
        if tries >= ACCOUNTS * (TRIES + 1) { Ok(()) } else { Err(stage.calls()) }
    })
    .await;
    let writes = |what: &str| stage.proxy.trace.calls().iter().filter(|call| call.what == what).count();
    let told = async || {
        let told = (writes("PATCH apiaccounts/status"), writes("POST events"));
        if told == (ACCOUNTS, ACCOUNTS) { Ok(()) } else { Err(format!("{told:?}\n{}", stage.calls())) }
    };
    eventually("one outage to be told once, in whichever words", SOON, told).await;
    stage.proxy.trace.heal();
    all_ready(&stage, names()).await;
}

#[tokio::test]
async fn a_released_name_is_used_at_once() {
    let stage = Stage::with_controller("name let go").await;
    let holders = || (0..ACCOUNTS).map(|number| format!("holder{number}"));
    let others = || (0..ACCOUNTS).map(|number| format!("other{number}"));
    for (number, name) in holders().enumerate() {
        stage.scene.create(&name, json!({ "name": format!("Name {number}") })).await;
        stage.scene.ready(&name).await;
    }
    stage.quiet().await;
    stage.proxy.trace.begin();
    for (number, name) in others().enumerate() {
        stage.scene.create(&name, json!({ "name": format!("NAME {number}") })).await;
    }
    for name in others() {
        stage.scene.condition(&name, "False", "NameTaken").await;
    }
    for (number, name) in holders().enumerate() {
        if number % 2 == 0 {
            stage.scene.change(&name, json!({ "name": format!("Another {number}") })).await;
        } else {
            stage.scene.delete(&name).await;
        }
    }
    all_ready(&stage, others()).await;
}
