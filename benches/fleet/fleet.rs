//! One fleet: made by the bare loop and by the controller in one run, looked over after a restart, and edited.

use std::time::Duration;

use kube::Api;
use opsadmin_operator::api::ApiAccount;

use super::edits::{self, Edits};
use super::phase::{self, CONTROLLER, Phase};
use super::processes::{Memory, memory, processor_time};
use super::times::{Times, difference};
use super::world::World;
use super::{accounts, bare};

const NAMESPACE: &str = "partners";

/// The namespaces of the bare loop, which runs before the controller and after it, so that a machine that becomes slower
/// meanwhile does not decide.
const BARE: [&str; 2] = ["bare-before", "bare-after"];

/// The reconciles that had nothing to do.
const UNCHANGED: &str = r#"opsadmin_reconciles_total{result="unchanged""#;

/// The objects that the controller created.
const CREATED: &str = r#"opsadmin_kubernetes_requests_total{verb="create",result="done""#;

/// Arguments with which the controller sweeps all the time while accounts are edited.
const SWEEPS: [&str; 2] = ["--sweep-interval", "1s"];

/// How long after the first edit the watches expire, in the measure of edits during lists.
const EXPIRED_AFTER: Duration = Duration::from_secs(2);

/// The number of accounts of the bare loop, if the fleet has more. The API server takes about 200 KiB for each ApiAccount
/// that was just written, and the speed of the loop does not depend on the number.
const BARE_AT_MOST: usize = 10_000;

/// A namespace without accounts.
const EMPTY: &str = "empty";

/// The figures of one fleet.
pub struct Measured {
    pub accounts: usize,
    pub bare: [BareLoop; 2],
    pub idle: Memory,
    pub new: Phase,
    pub restart: Phase,
    pub edits: Edits,
    pub edits_during_lists: Edits,
    pub database_bytes: i64,
}

/// The figures of the bare loop.
pub struct BareLoop {
    pub accounts: usize,
    pub time: Duration,
    pub processor_time: Times,
}

/// Measures a fleet of this size.
pub async fn measure(accounts: usize) -> Measured {
    let world = World::start(&[NAMESPACE, BARE[0], BARE[1], EMPTY]).await;
    eprintln!("a controller without accounts");
    let nothing = phase::start(&world, EMPTY, &[], 0, has_swept).await;
    let idle = memory(CONTROLLER);
    phase::end(nothing).await;
    let before = bare_loop(&world, BARE[0], accounts.min(BARE_AT_MOST)).await;
    eprintln!("creating {accounts} ApiAccounts for the controller");
    create(&world, NAMESPACE, accounts).await;
    eprintln!("starting the controller");
    let all_ready = |metrics: &str| value(metrics, r#"opsadmin_accounts{reason="Reconciled"}"#) == accounts;
    // Each new account is a Secret and an event that the controller creates.
    let all_told = |metrics: &str| sum(metrics, CREATED) + sum(metrics, "opsadmin_events_lost_total") >= 2 * accounts;
    let new = Phase::run(&world, NAMESPACE, accounts, all_ready, all_told).await;
    let after = bare_loop(&world, BARE[1], accounts.min(BARE_AT_MOST)).await;
    eprintln!("restarting the controller");
    let looked_over = |metrics: &str| sum(metrics, UNCHANGED) >= accounts;
    let restart = Phase::run(&world, NAMESPACE, accounts, looked_over, |_| true).await;
    eprintln!("editing accounts");
    let running = phase::start(&world, NAMESPACE, &SWEEPS, accounts, looked_over).await;
    let edits = edits::measure(&world.client().await, NAMESPACE, &world.database(), accounts, "edited").await;
    phase::end(running).await;
    let edits_during_lists = edits_during_lists(&world, accounts, looked_over).await;
    Measured {
        accounts,
        bare: [before, after],
        idle,
        new,
        restart,
        edits,
        edits_during_lists,
        database_bytes: world.database_bytes().await,
    }
}

/// Edits accounts while the controller reads its lists again, because its watches have expired.
async fn edits_during_lists(world: &World, accounts: usize, looked_over: impl Fn(&str) -> bool) -> Edits {
    eprintln!("editing accounts while the lists begin again");
    let proxy = world.proxy().await;
    let running = world.controller_behind(&proxy, NAMESPACE);
    phase::shows(&running, accounts, looked_over).await;
    let expiring = async {
        tokio::time::sleep(EXPIRED_AFTER).await;
        for resource in ["apiaccounts", "secrets"] {
            proxy.views.expire(resource);
        }
    };
    let (client, database) = (world.client().await, world.database());
    let editing = edits::measure(&client, NAMESPACE, &database, accounts, "edited again");
    let (edits, ()) = futures::future::join(editing, expiring).await;
    phase::end(running).await;
    edits
}

async fn bare_loop(world: &World, namespace: &str, accounts: usize) -> BareLoop {
    eprintln!("creating {accounts} ApiAccounts for the bare loop");
    create(world, namespace, accounts).await;
    eprintln!("the bare loop");
    let before = processor_time();
    let time = bare::run(world.client().await, namespace, &world.database(), accounts).await;
    BareLoop { accounts, time, processor_time: difference(&processor_time(), &before) }
}

/// Creates this number of ApiAccounts in the namespace.
async fn create(world: &World, namespace: &str, count: usize) {
    let api: Api<ApiAccount> = Api::namespaced(world.client().await, namespace);
    accounts::create(&api, (0..count).map(|number| accounts::account(namespace, number))).await;
}

/// Returns whether the first sweep has ended.
fn has_swept(metrics: &str) -> bool {
    value(metrics, r#"opsadmin_sweeps_total{result="done"}"#) > 0
}

/// Returns the sum of all series whose line begins so.
fn sum(metrics: &str, beginning: &str) -> usize {
    metrics.lines().filter(|line| line.starts_with(beginning)).map(number_at_the_end).sum()
}

/// Returns the value of a series, and 0 if there is none.
fn value(metrics: &str, series: &str) -> usize {
    metrics.lines().find(|line| line.starts_with(series)).map_or(0, number_at_the_end)
}

fn number_at_the_end(line: &str) -> usize {
    let number = line.rsplit(' ').next().and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("{line:?} has no whole number"))
}
