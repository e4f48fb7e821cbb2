//! Leader election with real controllers: one of them writes, another one takes over, and a former leader writes nothing
//! any more. Writes are counted from the API server's audit log and from the database's journal.

use std::collections::{HashMap, HashSet};
use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use sqlx::AssertSqlSafe;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use url::Url;

use super::scene::{SOON, Scene};
use crate::support::audit::AuditEvent;
use crate::support::http::get;
use crate::support::opsadmin::{Opsadmin, RunningController, controller_call, spawn_controller};
use crate::support::proxy::{Fault, Proxy, To};
use crate::support::wait::eventually;

/// Returns how often the leader is stopped under load: 20 times, or the number that a longer run requests.
fn takeovers() -> usize {
    let more = env::var("OPSADMIN_TEST_TAKEOVERS").ok();
    more.map_or(20, |number| number.parse().expect("OPSADMIN_TEST_TAKEOVERS is a number"))
}

const LEADS: &str = "this controller is the leader now";
const FOLLOWS: &str = "this one is ready to take over";

/// One of several controllers. Its user on the cluster and its name at the database server are the same.
struct Replica {
    name: String,
    process: RunningController,
}

/// Prepares the journal, so that it records who wrote each entry and when.
async fn sign_journal(scene: &Scene) {
    let migrate = Opsadmin::new().args(["migrate", "--database", scene.database.url()]);
    migrate.run().await.succeeded();
    let columns = "ALTER TABLE account_journal ADD COLUMN written_by text DEFAULT current_setting('application_name'), \
        ADD COLUMN written_at timestamptz DEFAULT clock_timestamp()";
    sqlx::raw_sql(columns).execute(&scene.sql().await).await.expect("the columns are added");
}

/// Returns a database URL under which the server sees this name.
fn signed(url: &str, name: &str) -> String {
    let mut url = Url::parse(url).expect("the database has a URL");
    url.query_pairs_mut().append_pair("application_name", name);
    url.into()
}

fn kubeconfig(scene: &Scene, name: &str) -> PathBuf {
    let own = scene.cluster.kubeconfig_for(name, Some("system:masters"));
    own.unwrap_or_else(|| scene.cluster.kubeconfig().to_path_buf())
}

fn start_between(scene: &Scene, name: &str, kubeconfig: &Path, database: &str) -> Replica {
    Replica { name: name.to_owned(), process: call(scene, name, kubeconfig, database).spawn() }
}

fn call(scene: &Scene, name: &str, kubeconfig: &Path, database: &str) -> Opsadmin {
    let here = scene.namespace.name();
    let arguments = ["--leader-election", "on", "--lease-namespace", here, "--cluster-id", "here"];
    controller_call(kubeconfig, &[here], &signed(database, name), &scene.keyring, &arguments)
}

fn start(scene: &Scene, name: &str) -> Replica {
    start_between(scene, name, &kubeconfig(scene, name), scene.database.url())
}

/// Starts a replica whose clock is wrong by this time, such as `+600s`.
fn start_with_clock(scene: &Scene, name: &str, offset: &str) -> Replica {
    let call = call(scene, name, &kubeconfig(scene, name), scene.database.url());
    Replica { name: name.to_owned(), process: call.with_clock(offset).spawn() }
}

impl Replica {
    async fn logged(&self, text: &str) {
        eventually(&format!("{} to log {text:?}", self.name), SOON, async || {
            let log = self.process.log();
            if log.contains(text) { Ok(()) } else { Err(log) }
        })
        .await;
    }

    async fn metrics(&self) -> String {
        let address = self.process.address().await;
        get(&address, "/metrics").await.expect("it answers").body
    }

    async fn is_ready(&self) {
        let address = self.process.address().await;
        eventually(&format!("{} to be Ready", self.name), SOON, async || {
            let answer = get(&address, "/readyz").await?;
            if answer.status == 200 { Ok(()) } else { Err(answer.body) }
        })
        .await;
    }
}

/// Changes accounts without a pause until it is told to stop. Returns the number of changes.
fn load(scene: &Scene) -> (Arc<AtomicBool>, JoinHandle<usize>) {
    let (stop, accounts) = (Arc::new(AtomicBool::new(false)), scene.accounts());
    let stopped = Arc::clone(&stop);
    let changing = tokio::spawn(async move {
        let mut changes = 0;
        while !stopped.load(Ordering::Relaxed) {
            let patch = json!({ "spec": { "description": format!("change {changes}") } });
            let patch = Patch::Merge(patch);
            let name = format!("a{}", changes % 5);
            accounts.patch(&name, &PatchParams::default(), &patch).await.expect("it is changed");
            changes += 1;
            sleep(Duration::from_millis(20)).await;
        }
        changes
    });
    (stop, changing)
}

async fn create(scene: &Scene, accounts: usize) {
    for number in 0..accounts {
        scene.create(&format!("a{number}"), json!({})).await;
    }
}

/// Returns who wrote each entry of the journal, and when, as the audit log writes times.
async fn journal(scene: &Scene) -> Vec<(String, String)> {
    let rows = "SELECT written_by, to_char(written_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
        FROM account_journal ORDER BY written_at";
    sqlx::query_as(AssertSqlSafe(rows)).fetch_all(&scene.sql().await).await.expect("the journal is read")
}

/// Checks that each write of a replica to the cluster and to the database falls into the time in which it held the
/// Lease. Returns the number of writes that were checked.
async fn check_writes(scene: &Scene) -> usize {
    let Some(calls) = scene.cluster.audit(scene.namespace.name()) else { return usize::MAX };
    let calls: Vec<AuditEvent> = calls
        .into_iter()
        .filter(|call| call.username.starts_with("leader-") && call.is_write() && call.code < 300)
        .collect();
    let mut terms: HashMap<&str, (&str, &str)> = HashMap::new();
    for call in calls.iter().filter(|call| call.resource == "leases") {
        terms.entry(&call.username).or_insert((&call.at, &call.at)).1 = &call.at;
    }
    let (mut holder, mut checked) = ("", 0);
    for (place, call) in calls.iter().enumerate() {
        if call.resource == "leases" {
            holder = &call.username;
            continue;
        }
        checked += 1;
        let recent = &calls[place.saturating_sub(5)..(place + 3).min(calls.len())];
        assert_eq!(call.username, holder, "it wrote without the Lease: {call:?}\n{recent:#?}");
    }
    for (writer, at) in journal(scene).await {
        checked += 1;
        let (from, to) = terms.get(writer.as_str()).unwrap_or_else(|| panic!("{writer} never held the Lease"));
        // The last write to the Lease is its release, or the last renewal, which counts for 15 more seconds.
        let next = terms.values().map(|(from, _)| *from).filter(|other| other > from).min();
        let end = next.unwrap_or("9");
        assert!(*from <= at.as_str() && at.as_str() <= end, "{writer} wrote at {at}, and had the Lease {from} to {to}");
    }
    checked
}

#[tokio::test]
async fn a_follower_is_ready_and_writes_nothing_and_takes_over_when_the_leader_stops() {
    let scene = Scene::set("takeovers").await;
    sign_journal(&scene).await;
    let mut leader = start(&scene, "leader-0");
    leader.logged(LEADS).await;
    create(&scene, 5).await;
    for number in 0..5 {
        scene.ready(&format!("a{number}")).await;
    }
    let mut follower = start(&scene, "leader-1");
    follower.logged(FOLLOWS).await;
    follower.is_ready().await;
    let (leading, following) = (leader.metrics().await, follower.metrics().await);
    assert!(leading.contains("\nopsadmin_leader 1\n") && leading.contains("opsadmin_accounts{"), "{leading}");
    assert!(following.contains("\nopsadmin_leader 0\n") && !following.contains("opsadmin_accounts{"), "{following}");

    let leases: Api<Lease> = Api::namespaced(scene.client.clone(), scene.namespace.name());
    let marked = json!({ "metadata": { "annotations": { "example.com/kept": "yes" } } });
    let marked = leases.patch("opsadmin-operator", &PatchParams::default(), &Patch::Merge(marked)).await;
    let before = marked.expect("it is patched").spec.expect("it has a spec").lease_transitions;

    let (stop, changing) = load(&scene);
    let (takeovers, began) = (takeovers(), Instant::now());
    let mut slowest = Duration::ZERO;
    for number in 2..takeovers + 2 {
        follower.is_ready().await;
        let (code, log) = leader.process.terminate(SOON).await;
        let ended = Instant::now();
        assert_eq!(code, 0, "{log}");
        assert!(log.contains("released the Lease"), "{log}");
        follower.logged(LEADS).await;
        slowest = slowest.max(ended.elapsed());
        leader = follower;
        follower = start(&scene, &format!("leader-{number}"));
        follower.logged(FOLLOWS).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (changes, took) = (changing.await.expect("it ends"), began.elapsed());
    for number in 0..5 {
        scene.ready(&format!("a{number}")).await;
    }
    let checked = check_writes(&scene).await;
    eprintln!(
        "{takeovers} takeovers in {took:?}, the slowest {slowest:?} after the end; {changes} changes, {checked} writes"
    );
    assert!(checked > takeovers, "{checked}");
    let lease = leases.get("opsadmin-operator").await.expect("the Lease is there");
    let transitions = lease.spec.expect("it has a spec").lease_transitions.unwrap_or_default();
    assert_eq!(transitions - before.unwrap_or_default(), i32::try_from(takeovers).expect("it is small"));
    assert_eq!(lease.metadata.annotations.unwrap_or_default()["example.com/kept"], "yes");
    // Without a release, a takeover lasts longer than this.
    assert!(slowest < Duration::from_secs(9), "{slowest:?}");

    // A takeover without a change writes nothing but the Lease.
    let before = scene.cluster.audit(scene.namespace.name()).map(|calls| calls.len());
    let entries = journal(&scene).await.len();
    assert_eq!(leader.process.terminate(SOON).await.0, 0);
    follower.logged("the account database is ready").await;
    eventually("the accounts to be counted", SOON, async || {
        let metrics = follower.metrics().await;
        let counted = metrics.contains(r#"opsadmin_reconciles_total{result="unchanged",reason="Reconciled"} 5"#);
        if counted { Ok(()) } else { Err(metrics) }
    })
    .await;
    if let Some(before) = before {
        let calls = scene.cluster.audit(scene.namespace.name()).unwrap_or_default();
        let writes: Vec<_> = calls[before..].iter().filter(|c| c.is_write() && c.resource != "leases").collect();
        assert!(writes.is_empty(), "{writes:#?}");
    }
    assert_eq!(journal(&scene).await.len(), entries);
    assert_eq!(follower.process.terminate(SOON).await.0, 0);
}

#[tokio::test]
async fn a_leader_that_was_stopped_beyond_its_lease_writes_nothing_when_it_goes_on() {
    let scene = Scene::set("paused").await;
    sign_journal(&scene).await;
    let first = start(&scene, "leader-a");
    first.logged(LEADS).await;
    let second = start(&scene, "leader-b");
    second.logged(FOLLOWS).await;
    // The leader is stopped in the middle of its work.
    create(&scene, 5).await;
    create_more(&scene).await;
    first.process.pause();
    let paused = Instant::now();
    second.logged(LEADS).await;
    let took = paused.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(30), "{took:?}");
    for number in 0..5 {
        scene.ready(&format!("a{number}")).await;
    }
    scene.change("a0", json!({ "description": "by the second" })).await;
    scene.ready("a0").await;
    first.process.resume();
    let (code, log) = first.process.wait(SOON).await;
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("lost the Lease") && log.contains("starts again as a follower"), "{log}");
    assert!(check_writes(&scene).await > 5);

    // A leader that is killed leaves its Lease behind.
    let third = start(&scene, "leader-c");
    third.logged(FOLLOWS).await;
    second.process.kill().await;
    let killed = Instant::now();
    third.logged(LEADS).await;
    assert!(killed.elapsed() < Duration::from_secs(25), "{:?}", killed.elapsed());
    scene.change("a0", json!({ "description": "by the third" })).await;
    scene.ready("a0").await;
    assert!(check_writes(&scene).await > 5);
    assert_eq!(third.process.terminate(SOON).await.0, 0);
}

/// Creates accounts at once, so that a leader has much to do.
async fn create_more(scene: &Scene) {
    for number in 10..40 {
        scene.create(&format!("a{number}"), json!({})).await;
    }
}

#[tokio::test]
async fn a_leader_cut_off_from_the_api_server_ends_before_another_one_leads() {
    let scene = Scene::set("cut off").await;
    sign_journal(&scene).await;
    let proxy = Proxy::new(&kubeconfig(&scene, "leader-a"), scene.database.url()).await;
    let first = start_between(&scene, "leader-a", proxy.kubeconfig(), proxy.database_url());
    first.logged(LEADS).await;
    let second = start(&scene, "leader-b");
    second.logged(FOLLOWS).await;
    create(&scene, 5).await;
    scene.ready("a4").await;

    // Cut off from the database, it goes on to lead: it reports the outage, and the Lease says nothing about databases.
    proxy.trace.meet_all(|call| call.to == To::Database, Fault::Disconnect);
    scene.change("a0", json!({ "description": "during the outage" })).await;
    scene.condition("a0", "Unknown", "DatabaseUnavailable").await;
    assert!(!second.process.log().contains(LEADS), "{}", second.process.log());
    proxy.trace.heal();
    scene.ready("a0").await;

    // Cut off from the API server, it ends.
    proxy.trace.meet_all(|call| call.to == To::ApiServer, Fault::Stall);
    let cut = Instant::now();
    scene.change("a0", json!({ "description": "only the second sees this" })).await;
    let (code, log) = first.process.wait(SOON).await;
    let took = cut.elapsed();
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("lost the Lease") && log.contains("it was not renewed in time"), "{log}");
    assert!(!second.process.log().contains(LEADS), "it took over before the first one ended\n{}", second.process.log());
    assert!(took < Duration::from_secs(14), "{took:?}");
    second.logged(LEADS).await;
    scene.ready("a0").await;
    assert!(check_writes(&scene).await > 5);
    assert_eq!(second.process.terminate(SOON).await.0, 0);
}

#[tokio::test]
async fn clocks_that_disagree_by_minutes_neither_hasten_nor_prevent_a_takeover() {
    tokio::join!(disagree("slow leader", "-600s", "+600s"), disagree("fast leader", "+600s", "-600s"));
}

/// Kills a leader whose clock is wrong by `leading`. Its follower's clock is wrong by `following`.
async fn disagree(test_name: &str, leading: &str, following: &str) {
    let scene = Scene::set(test_name).await;
    sign_journal(&scene).await;
    let (leader, follower) = (format!("leader-{leading}"), format!("leader-{following}"));
    let first = start_with_clock(&scene, &leader, leading);
    first.logged(LEADS).await;
    let second = start_with_clock(&scene, &follower, following);
    second.logged(FOLLOWS).await;
    create(&scene, 1).await;
    scene.ready("a0").await;
    let leases: Api<Lease> = Api::namespaced(scene.client.clone(), scene.namespace.name());
    let renewed = async || {
        let lease = leases.get("opsadmin-operator").await.expect("the Lease is there");
        lease.spec.and_then(|spec| spec.renew_time).expect("it was renewed").0
    };
    let (seen, mut renewals) = (renewed().await, HashSet::new());
    let expected = Timestamp::now() + leading.parse::<SignedDuration>().expect("it is a duration");
    assert!(seen.duration_since(expected).abs() < SignedDuration::from_mins(1), "{seen} is not near {expected}");
    // More renewals than fit into the duration of a Lease.
    eventually("the leader to renew its Lease", SOON, async || {
        renewals.insert(renewed().await);
        if renewals.len() > 8 { Ok(()) } else { Err(renewals.len()) }
    })
    .await;
    assert!(!second.process.log().contains(LEADS), "{}", second.process.log());

    first.process.kill().await;
    let killed = Instant::now();
    second.logged(LEADS).await;
    let took = killed.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(30), "{took:?}");
    scene.change("a0", json!({ "description": "by the second" })).await;
    scene.ready("a0").await;
    assert!(check_writes(&scene).await > 1);
    assert_eq!(second.process.terminate(SOON).await.0, 0);
}

#[tokio::test]
async fn an_election_that_cannot_work_is_refused_at_the_start() {
    let scene = Scene::set("no election").await;
    let folder = crate::support::process::Folder::new("sqlite");
    let sqlite = format!("sqlite://{}", folder.path().join("accounts.db").display());
    let on = ["--leader-election", "on", "--cluster-id", "here"];
    for (database, advice) in [(sqlite.as_str(), "one replica"), (scene.database.url(), "--lease-namespace")] {
        let here = scene.namespace.name();
        let controller = spawn_controller(scene.cluster.kubeconfig(), &[here], database, &scene.keyring, &on);
        let (code, log) = controller.wait(SOON).await;
        assert!(code == 1 && log.contains(advice), "{code}: {log}");
    }
}

#[tokio::test]
async fn controllers_with_different_leases_lead_side_by_side() {
    let scene = Scene::set("side by side").await;
    let (here, other) = (scene.namespace.name(), scene.cluster.namespace("side by side too").await);
    let other_database = crate::support::postgres::postgres().await.database("side by side too").await;
    let start = |watched: &str, database: &str, lease: &str| {
        let arguments = ["--leader-election", "on", "--lease-namespace", here, "--lease-name", lease];
        let process = spawn_controller(scene.cluster.kubeconfig(), &[watched], database, &scene.keyring, &arguments);
        Replica { name: lease.to_owned(), process }
    };
    let staging = start(here, scene.database.url(), "staging");
    let production = start(other.name(), other_database.url(), "production");
    staging.logged(LEADS).await;
    production.logged(LEADS).await;
    create(&scene, 1).await;
    scene.ready("a0").await;
    for replica in [staging, production] {
        assert_eq!(replica.process.terminate(SOON).await.0, 0);
    }
}
