//! What the controller serves: correct metrics, also after a restart, and probes.

use std::fmt::Write as _;
use std::time::Duration;

use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use sqlx::PgPool;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::scene::{SOON, Scene};
use crate::support::cluster::cluster;
use crate::support::http::{Answer, ask, get};
use crate::support::postgres::Postgres;
use crate::support::proxy::{Fault, Proxy};
use crate::support::wait::eventually;

const QUICK_SWEEPS: [&str; 2] = ["--sweep-interval", "1s"];

/// Returns the controller's answer on this path.
async fn answer(scene: &Scene, path: &str) -> Answer {
    let address = scene.controller.as_ref().expect("a controller is running").address().await;
    get(&address, path).await.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()))
}

/// Returns all metrics as text.
pub async fn scraped(scene: &Scene) -> String {
    let answer = answer(scene, "/metrics").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// Returns the value of a series, or `None` if there is no such series.
pub fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap_or_else(|error| panic!("{series}: {error}: {line}")))
}

/// Waits until each of these series has its value.
async fn are(scene: &Scene, wanted: &[(&str, f64)]) {
    eventually(&format!("the metrics to be {wanted:?}"), SOON, async || {
        let metrics = scraped(scene).await;
        let mut others = String::new();
        for (series, wanted) in wanted {
            let found = value(&metrics, series);
            if found.is_none_or(|found| (found - wanted).abs() > f64::EPSILON) {
                writeln!(others, "{series} is {found:?}").expect("text takes text");
            }
        }
        if others.is_empty() { Ok(()) } else { Err(format!("{others}{}", scene.log())) }
    })
    .await;
}

/// Waits until the metrics have this line.
pub async fn shows(scene: &Scene, line: &str) {
    eventually(&format!("the metrics to have {line}"), SOON, async || {
        let metrics = scraped(scene).await;
        if metrics.lines().any(|found| found == line) { Ok(()) } else { Err(metrics) }
    })
    .await;
}

/// Waits until this series has this value.
pub async fn is(scene: &Scene, series: &str, wanted: f64) {
    are(scene, &[(series, wanted)]).await;
}

/// Waits until this series has at least this value. A reconcile is counted only after it was reported.
pub async fn counted(scene: &Scene, series: &str, times: f64) {
    eventually(&format!("{series} to be {times} or more"), SOON, async || {
        let metrics = scraped(scene).await;
        if value(&metrics, series).is_some_and(|count| count >= times) { Ok(()) } else { Err(metrics) }
    })
    .await;
}

async fn probe_is(scene: &Scene, path: &str, status: u16, body: &str) {
    eventually(&format!("{path} to answer {status} {body:?}"), SOON, async || {
        let answer = answer(scene, path).await;
        if (answer.status, answer.body.as_str()) == (status, body) { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
}

pub async fn create(scene: &Scene, accounts: usize) {
    for number in 0..accounts {
        scene.create(&format!("a{number}"), json!({})).await;
    }
    for number in 0..accounts {
        scene.ready(&format!("a{number}")).await;
    }
}

/// Deletes the resource by accident: without its finalizers, so that the controller does not delete the account.
async fn lose(scene: &Scene, name: &str) {
    scene.strip_finalizers(name).await;
    scene.accounts().delete(name, &DeleteParams::default()).await.expect("it goes at once");
}

async fn enabled(sql: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM accounts WHERE enabled").fetch_one(sql).await.expect("a count")
}

#[tokio::test]
async fn the_controller_is_ready_after_it_reached_the_database_and_stays_ready_and_alive() {
    let mut scene = Scene::set("probes").await;
    let mut server = Postgres::new().await;
    let database = server.database("accounts").await;
    server.stop().await;
    scene.start_on(database.url(), &[]);
    probe_is(&scene, "/livez", 200, "ok\n").await;
    probe_is(&scene, "/readyz", 503, "waiting for the account database\n").await;
    scene.create("acme", json!({})).await;
    scene.condition("acme", "Unknown", "DatabaseUnavailable").await;
    are(&scene, &[("opsadmin_database_up", 0.0), (r#"opsadmin_accounts{reason="DatabaseUnavailable"}"#, 1.0)]).await;
    probe_is(&scene, "/livez", 200, "ok\n").await;

    server.start().await;
    scene.ready("acme").await;
    probe_is(&scene, "/readyz", 200, "ok\n").await;
    are(&scene, &[("opsadmin_database_up", 1.0), (r#"opsadmin_accounts{reason="Reconciled"}"#, 1.0)]).await;

    server.stop().await;
    scene.change("acme", json!({ "enabled": false })).await;
    scene.condition("acme", "Unknown", "DatabaseUnavailable").await;
    are(&scene, &[("opsadmin_database_up", 0.0)]).await;
    counted(&scene, r#"opsadmin_database_errors_total{kind="unavailable"}"#, 2.0).await;
    counted(&scene, r#"opsadmin_reconciles_total{result="failed",reason="DatabaseUnavailable"}"#, 2.0).await;
    probe_is(&scene, "/readyz", 200, "ok\n").await;
    probe_is(&scene, "/livez", 200, "ok\n").await;
    server.start().await;
    scene.ready("acme").await;
    are(&scene, &[("opsadmin_database_up", 1.0)]).await;
    scene.stop().await;
}

#[tokio::test]
async fn the_controller_is_not_ready_without_the_right_to_list_and_names_the_lists() {
    let mut scene = Scene::set("no rights").await;
    let Some(kubeconfig) = cluster().await.kubeconfig_for("system:serviceaccount:nobody:nobody", None) else {
        return;
    };
    let namespace = scene.namespace.name().to_owned();
    scene.start_as(&kubeconfig, &[&namespace], &["--cluster-id", "here"]);
    let waiting = "waiting for the first list of the Secrets, the first list of the ApiAccounts\n";
    probe_is(&scene, "/readyz", 503, waiting).await;
    probe_is(&scene, "/livez", 200, "ok\n").await;
    eventually("the refused lists to be counted", SOON, async || {
        let metrics = scraped(&scene).await;
        assert!(!metrics.contains("opsadmin_accounts{"), "nobody knows how many there are\n{metrics}");
        let counted = ["ApiAccount", "Secret"].into_iter().all(|kind| {
            value(&metrics, &format!(r#"opsadmin_watch_errors_total{{kind="{kind}"}}"#))
                .is_some_and(|count| count >= 1.0)
        });
        if counted { Ok(()) } else { Err(metrics) }
    })
    .await;
}

#[tokio::test]
async fn actions_are_counted_and_a_scrape_causes_no_requests() {
    let mut scene = Scene::with_controller("counts", &[]).await;
    scene.create("acme", json!({ "rotation": { "trigger": "one", "overlap": "0s" } })).await;
    scene.ready("acme").await;
    scene.create("other", json!({ "name": "acme" })).await;
    scene.condition("other", "False", "NameTaken").await;
    scene.change("acme", json!({ "rotation": { "trigger": "two" } })).await;
    scene.ready("acme").await;
    let expected = [
        (r#"opsadmin_accounts{reason="Reconciled"}"#, 1.0),
        (r#"opsadmin_accounts{reason="NameTaken"}"#, 1.0),
        (r#"opsadmin_accounts{reason="Pending"}"#, 0.0),
        (r#"opsadmin_changes_total{change="Created"}"#, 1.0),
        (r#"opsadmin_changes_total{change="SecretWritten"}"#, 1.0),
        (r#"opsadmin_changes_total{change="SecretUpdated"}"#, 1.0),
        (r#"opsadmin_changes_total{change="SecretPutBack"}"#, 0.0),
        (r#"opsadmin_rotations_total{cause="trigger"}"#, 1.0),
        ("opsadmin_keys_revoked_total", 1.0),
        (r#"opsadmin_reconciles_total{result="changed",reason="Reconciled"}"#, 2.0),
        (r#"opsadmin_database_errors_total{kind="refused"}"#, 0.0),
    ];
    are(&scene, &expected).await;
    counted(&scene, r#"opsadmin_reconciles_total{result="refused",reason="NameTaken"}"#, 1.0).await;
    eventually("each look to be counted and measured", SOON, async || {
        let metrics = scraped(&scene).await;
        let looks = metrics.lines().filter(|line| line.starts_with("opsadmin_reconciles_total"));
        let looks: f64 = looks.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum();
        let measured = value(&metrics, "opsadmin_reconcile_duration_seconds_count").unwrap_or_default();
        if (looks - measured).abs() < f64::EPSILON { Ok(()) } else { Err(metrics) }
    })
    .await;
    scene.delete("other").await;
    are(&scene, &[(r#"opsadmin_accounts{reason="NameTaken"}"#, 0.0)]).await;

    let calls = scene.cluster.audit(scene.namespace.name());
    for path in ["/metrics", "/livez", "/readyz"].repeat(20) {
        assert_eq!(answer(&scene, path).await.status, 200);
    }
    scene.stop().await;
    if let (Some(before), Some(after)) = (calls, scene.cluster.audit(scene.namespace.name())) {
        let since = after[before.len()..].iter().filter(|call| call.user_agent.starts_with("opsadmin/"));
        // The event of the last deletion may be late.
        let asked: Vec<_> = since.filter(|call| call.verb != "watch" && call.resource != "events").collect();
        assert!(asked.is_empty(), "{asked:#?}");
    }
}

#[tokio::test]
async fn held_deletions_are_shown_until_their_release_even_after_restarts() {
    let held =
        |count: f64| [("opsadmin_deletions_held", count), (r#"opsadmin_accounts{reason="DeletionHeld"}"#, count)];
    let mut scene = Scene::set("held").await;
    let mut server = Postgres::new().await;
    let database = server.database("accounts").await;
    scene.start_on(database.url(), &[]);
    create(&scene, 8).await;
    are(&scene, &held(0.0)).await;
    let deleted = scene.accounts().delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    deleted.expect("the API server takes the deletion");
    are(&scene, &held(3.0)).await;
    counted(&scene, r#"opsadmin_reconciles_total{result="refused",reason="DeletionHeld"}"#, 3.0).await;

    scene.stop().await;
    scene.start_on(database.url(), &[]);
    are(&scene, &held(3.0)).await;
    scene.stop().await;

    // A restart while the database is not available does not lose the held deletions either.
    server.stop().await;
    scene.start_on(database.url(), &[]);
    probe_is(&scene, "/readyz", 503, "waiting for the account database\n").await;
    are(&scene, &held(3.0)).await;
    server.start().await;
    probe_is(&scene, "/readyz", 200, "ok\n").await;
    scene.create("bystander", json!({})).await;
    scene.ready("bystander").await;
    are(&scene, &held(3.0)).await;
    let sql = PgPool::connect(database.url()).await.expect("it answers");
    assert_eq!(enabled(&sql).await, 4, "those that are held, and the bystander\n{}", scene.log());

    let listed = scene.accounts().list(&ListParams::default()).await.expect("a list");
    for account in listed.iter().filter(|account| account.metadata.deletion_timestamp.is_some()) {
        let name = account.metadata.name.as_deref().expect("it has a name");
        scene.annotate(name, json!({ "ops-admin.com/confirm-deletion": "true" })).await;
    }
    are(&scene, &held(0.0)).await;
    are(&scene, &[(r#"opsadmin_accounts{reason="Reconciled"}"#, 1.0)]).await;
    sql.close().await;
    scene.stop().await;
}

#[tokio::test]
async fn a_vanished_resource_is_no_longer_counted_and_its_account_is_an_orphan() {
    let mut scene = Scene::with_controller("vanished", &[]).await;
    create(&scene, 3).await;
    are(&scene, &[(r#"opsadmin_accounts{reason="Reconciled"}"#, 3.0)]).await;
    let metrics = scraped(&scene).await;
    // There is no value before the first sweep, which a late notification may have begun.
    assert!(matches!(value(&metrics, "opsadmin_orphans"), None | Some(0.0)), "{metrics}");
    scene.stop().await;
    lose(&scene, "a0").await;
    scene.start(&QUICK_SWEEPS);
    are(&scene, &[(r#"opsadmin_accounts{reason="Reconciled"}"#, 2.0), ("opsadmin_orphans", 1.0)]).await;
    // The same holds while the controller runs.
    lose(&scene, "a1").await;
    are(&scene, &[(r#"opsadmin_accounts{reason="Reconciled"}"#, 1.0), ("opsadmin_orphans", 2.0)]).await;
    let metrics = scraped(&scene).await;
    let swept = |metrics: &str| value(metrics, r#"opsadmin_sweeps_total{result="done"}"#).expect("it is there");
    let last = value(&metrics, "opsadmin_last_sweep_timestamp_seconds").expect("it is there");
    assert!(swept(&metrics) >= 1.0 && last > 1.6e9, "{metrics}");
    scene.create("a0", json!({})).await;
    scene.ready("a0").await;
    are(&scene, &[(r#"opsadmin_accounts{reason="Reconciled"}"#, 2.0), ("opsadmin_orphans", 1.0)]).await;
    scene.stop().await;
    scene.start(&[&QUICK_SWEEPS[..], &["--orphan-grace", "1s"]].concat());
    are(&scene, &[(r#"opsadmin_changes_total{change="Disabled"}"#, 1.0), ("opsadmin_orphans", 0.0)]).await;
    scene.stop().await;
}

#[tokio::test]
async fn a_held_orphan_is_no_longer_counted_when_its_resource_returns() {
    const LOST: usize = 7;
    let mut scene = Scene::with_controller("held orphans", &[]).await;
    let sql = scene.sql().await;
    create(&scene, LOST + 1).await;
    scene.stop().await;
    for number in 0..LOST {
        lose(&scene, &format!("a{number}")).await;
    }
    scene.start(&[&QUICK_SWEEPS[..], &["--orphan-grace", "1s"]].concat());
    are(&scene, &[("opsadmin_deletions_held", 0.0), ("opsadmin_orphans", 2.0)]).await;
    assert_eq!(enabled(&sql).await, 3);
    for number in 0..LOST {
        scene.create(&format!("a{number}"), json!({})).await;
        scene.ready(&format!("a{number}")).await;
    }
    are(&scene, &[("opsadmin_deletions_held", 0.0), ("opsadmin_orphans", 0.0)]).await;
    assert_eq!(enabled(&sql).await, 8);
    scene.stop().await;
}

#[tokio::test]
async fn the_controller_answers_until_it_ends() {
    let mut scene = Scene::set("until the end").await;
    let proxy = Proxy::new(scene.cluster.kubeconfig(), scene.database.url()).await;
    scene.start_between(proxy.kubeconfig(), proxy.database_url(), &[]);
    probe_is(&scene, "/readyz", 200, "ok\n").await;
    proxy.trace.meet_all(|call| call.what == "POST secrets", Fault::Delay(Duration::from_secs(2)));
    proxy.trace.begin();
    scene.create("acme", json!({})).await;
    assert!(proxy.trace.seen(SOON, |call| call.what == "POST secrets").await.is_some(), "{}", scene.log());
    let mut controller = scene.controller.take().expect("a controller is running");
    let address = controller.address().await;
    controller.ask_to_end();
    let stopping = |log: &str| log.contains("stopping: waiting for running reconciles");
    eventually("it to be asked", SOON, async || {
        let log = controller.log();
        if stopping(&log) { Ok(()) } else { Err(log) }
    })
    .await;
    let mut answers = 0;
    let refusal = loop {
        for path in ["/metrics", "/livez", "/readyz"] {
            match get(&address, path).await {
                Ok(answer) if answer.status == 200 => answers += 1,
                // The program may end in the middle of an answer, and nowhere else.
                other => {
                    eventually(&format!("the program to end, which answers {other:?}"), SOON, async || {
                        controller.ended().ok_or_else(|| controller.log())
                    })
                    .await;
                }
            }
        }
        if let Some(code) = controller.ended() {
            break code;
        }
    };
    let log = controller.log();
    assert_eq!(refusal, 0, "{log}");
    assert!(answers >= 3, "{answers} answers\n{log}");
    assert!(log.contains("wrote the keys to the Secret acme-opsadmin"), "it finished\n{log}");
    scene.ready("acme").await;
}

#[tokio::test]
async fn each_client_gets_its_format_and_nothing_else_is_served() {
    let scene = Scene::with_controller("http", &[]).await;
    scene.create("acme-portal", json!({})).await;
    scene.ready("acme-portal").await;
    let address = scene.controller.as_ref().expect("a controller is running").address().await;
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let open = ask(&address, "GET /metrics", accept).await.expect("an answer");
    assert!(open.headers.contains("\r\ncontent-type: application/openmetrics-text; version=1.0.0"), "{open:?}");
    assert!(open.body.ends_with("# EOF\n"), "{open:?}");
    let text = get(&address, "/metrics").await.expect("an answer");
    assert!(text.headers.contains("\r\ncontent-type: text/plain; version=0.0.4"), "{text:?}");
    assert!(!text.body.contains("EOF"), "{text:?}");
    for metrics in [&open.body, &text.body] {
        assert!(metrics.contains("# HELP opsadmin_deletions_held "), "{metrics}");
        assert!(!metrics.contains(scene.namespace.name()) && !metrics.contains("acme"), "{metrics}");
    }
    for (what, status) in [("GET /", 404), ("GET /metrics/", 404), ("POST /metrics", 405), ("HEAD /livez", 200)] {
        let answer = ask(&address, what, "Content-Length: 0").await.expect("an answer");
        assert_eq!(answer.status, status, "{what}: {answer:?}");
    }
    // A client that sends nothing does not delay other clients.
    let silent = TcpStream::connect(&address).await.expect("it listens");
    assert_eq!(get(&address, "/livez").await.expect("an answer").status, 200);
    drop(silent);
}

#[tokio::test]
async fn many_slow_clients_do_not_delay_a_probe() {
    // This is shorter than the total time that the slow clients may take.
    const SOON_ENOUGH: Duration = Duration::from_secs(20);
    let scene = Scene::with_controller("slow", &[]).await;
    let address = scene.controller.as_ref().expect("a controller is running").address().await;
    let mut slow = Vec::new();
    for _ in 0..64 {
        let mut connection = TcpStream::connect(&address).await.expect("it listens");
        connection.write_all(b"GET /metrics HTTP/1.1\r\n").await.expect("it is taken");
        slow.push(connection);
    }
    for path in ["/livez", "/metrics"] {
        let answer = timeout(SOON_ENOUGH, get(&address, path)).await;
        assert_eq!(answer.expect("in time").expect("an answer").status, 200, "{path}");
    }
}

#[tokio::test]
async fn an_address_in_use_ends_the_program_and_off_serves_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = taken.local_addr().expect("it has an address").to_string();
    let mut scene = Scene::with_controller("taken", &["--metrics-address", &address]).await;
    let controller = scene.controller.take().expect("it was started");
    let (code, log) = controller.wait(SOON).await;
    assert_eq!(code, 1, "{log}");
    let complaint = format!("cannot serve metrics and probes on {address}; choose another --metrics-address, or off");
    assert!(log.contains(&complaint), "{log}");

    scene.start(&["--metrics-address", "off"]);
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    let log = scene.stop().await;
    assert!(!log.contains("serving metrics"), "{log}");
}
