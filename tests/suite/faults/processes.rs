//! Controllers under load that are killed or stopped, and two controllers instead of one.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use opsadmin_operator::api::ApiAccount;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::stage::{CLUSTER, Stage};
use super::state::Keys;
use crate::controller::scene::SOON;
use crate::support::opsadmin::spawn_controller;
use crate::support::process::Folder;
use crate::support::proxy::{Call, Fault, Proxy, listed};

const ACCOUNTS: u64 = 20;
const CHANGES: u64 = 60;
const KILLS: u64 = 15;

/// The duration of each writing call while controllers are killed.
const SLOW: Duration = Duration::from_millis(30);

/// The default grace period of a pod. Kubernetes kills a controller that takes longer.
const GRACE: Duration = Duration::from_secs(30);

/// A random number generator (`SplitMix64`). It returns the same numbers for the same seed on any machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Returns the seeds to try: one, or the number that a longer run requests.
fn seeds() -> std::ops::Range<u64> {
    let more = env::var("OPSADMIN_TEST_SEEDS").ok();
    0..more.map_or(1, |number| number.parse().expect("OPSADMIN_TEST_SEEDS is a number"))
}

/// A user who creates, changes and deletes accounts. Returns what is declared in the end, with `None` for a deleted
/// account.
async fn user(client: Client, namespace: String, seed: u64) -> BTreeMap<String, Option<Value>> {
    let accounts: Api<ApiAccount> = Api::namespaced(client, &namespace);
    let mut dice = Dice(seed);
    let mut declared = BTreeMap::new();
    for number in 0..ACCOUNTS {
        let name = format!("a{number}");
        create(&accounts, &name).await;
        declared.insert(name, Some(json!({})));
        sleep(Duration::from_millis(dice.below(50))).await;
    }
    for change in 0..CHANGES {
        let name = format!("a{}", dice.below(ACCOUNTS));
        let spec = match dice.below(8) {
            0 => {
                if declared.insert(name.clone(), None) == Some(None) {
                    continue;
                }
                accounts.delete(&name, &DeleteParams::default()).await.expect("the API server takes it");
                sleep(Duration::from_millis(dice.below(50))).await;
                continue;
            }
            1 | 2 => json!({ "enabled": false }),
            3 => json!({ "enabled": true }),
            4 => json!({ "secret": { "name": format!("{name}-{}", dice.below(3)) } }),
            5 => json!({ "name": format!("{name} renamed {}", dice.below(3)) }),
            _ => json!({ "description": format!("change {change}") }),
        };
        let Some(Some(known)) = declared.get_mut(&name) else { continue };
        merge(known, &spec);
        let patch = Patch::Merge(json!({ "spec": spec }));
        accounts.patch(&name, &PatchParams::default(), &patch).await.expect("the API server takes it");
        sleep(Duration::from_millis(dice.below(50))).await;
    }
    declared
}

async fn create(accounts: &Api<ApiAccount>, name: &str) {
    let account =
        json!({ "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": name }, "spec": {} });
    let account = serde_json::from_value(account).expect("it is an ApiAccount");
    accounts.create(&PostParams::default(), &account).await.expect("the API server takes it");
}

fn merge(known: &mut Value, change: &Value) {
    for (key, value) in change.as_object().into_iter().flatten() {
        known[key] = value.clone();
    }
}

/// Checks that no known key is lost or changed.
fn check_same_keys(before: &mut Keys, now: Keys) {
    for (name, keys) in before.iter() {
        assert_eq!(Some(keys), now.get(name), "the keys of {name} were lost or changed");
    }
    *before = now;
}

/// Checks that everything is as declared, was created once, and has the keys that were seen first.
async fn check_declared(stage: &Stage, declared: &BTreeMap<String, Option<Value>>, mut keys: Keys) {
    for (name, spec) in declared {
        match spec {
            Some(_) => drop(stage.scene.ready(name).await),
            None => stage.gone(name).await,
        }
    }
    stage.quiet().await;
    let (seen, now) = stage.look().await;
    check_same_keys(&mut keys, now);
    let made = i64::try_from(seen.accounts.len()).expect("it is a small number");
    assert_eq!(seen.rows, (made, made), "one account and one pair each\n{seen:#?}");
    for (name, spec) in declared {
        if spec.is_none() && !seen.accounts.contains_key(name) {
            // The account was deleted before a controller saw it.
            continue;
        }
        let (account, journal) = (&seen.accounts[name], &seen.journal[name]);
        let created = journal.iter().filter(|line| line.starts_with("created")).count();
        assert_eq!(created, 1, "{name}: {journal:?}");
        let Some(spec) = spec else {
            assert!(account.starts_with("deleted"), "{name}: {account}");
            continue;
        };
        let enabled = format!("enabled: {}", spec["enabled"].as_bool().unwrap_or(true));
        let description = format!("description: {:?}", spec["description"].as_str().unwrap_or_default());
        let called = format!("name: {:?}", spec["name"].as_str().unwrap_or(name));
        for wanted in ["live", &enabled, &description, &called] {
            assert!(account.contains(wanted), "{name}: {wanted} is not in {account}");
        }
        let secret = spec["secret"]["name"].as_str().map_or_else(|| format!("{name}-opsadmin"), ToOwned::to_owned);
        let holds = format!(
            "owners [{name:?}], {{\"OPSADMIN_API_KEY\": \"API key 0 of {name}\", \"OPSADMIN_SECRET_KEY\": \"secret key 0 of {name}\"}}"
        );
        assert_eq!(seen.secrets.get(&secret), Some(&holds), "{name}: {:?}", seen.secrets.keys());
        assert!(seen.resources[name].ends_with("lies []"), "{}", seen.resources[name]);
    }
    let live = declared.values().flatten().count();
    assert_eq!(seen.secrets.len(), live, "no Secret is left over: {:?}", seen.secrets.keys());
}

async fn killed_at_random_moments(mut stage: Stage, seed: u64) {
    eprintln!("seed {seed}");
    let declared = tokio::spawn(user(stage.scene.client.clone(), stage.scene.namespace.name().to_owned(), seed));
    let mut dice = Dice(!seed);
    let mut keys = Keys::new();
    stage.start().await;
    // With this delay, a call is under way most of the time, and a kill probably interrupts it.
    stage.proxy.trace.meet_all(|call| !call.is_read(), Fault::Delay(SLOW));
    for _ in 0..KILLS {
        sleep(Duration::from_millis(dice.below(400))).await;
        stage.scene.kill().await;
        check_same_keys(&mut keys, stage.look().await.1);
        stage.launch(&[]);
    }
    stage.proxy.trace.heal();
    let declared = declared.await.expect("the user is done");
    check_declared(&stage, &declared, keys).await;
}

#[tokio::test]
async fn killed_at_random_moments_on_postgres() {
    for seed in seeds() {
        killed_at_random_moments(Stage::set("killed").await, seed).await;
    }
}

#[tokio::test]
async fn killed_at_random_moments_on_sqlite() {
    for seed in seeds() {
        let folder = Folder::new("sqlite");
        killed_at_random_moments(Stage::on_sqlite("killed", &folder).await, seed).await;
    }
}

#[tokio::test]
async fn stopped_under_load_it_completes_what_it_has_begun() {
    let mut stage = Stage::with_controller("asked to end").await;
    let slow = Fault::Delay(Duration::from_secs(1));
    stage.proxy.trace.meet_all(|call| call.what == "POST secrets", slow);
    stage.proxy.trace.begin();
    for number in 0..40 {
        create(&stage.scene.accounts(), &format!("a{number}")).await;
    }
    let in_flight = |call: &Call| call.what == "POST secrets" && call.number == 3;
    assert!(stage.proxy.trace.seen(SOON, in_flight).await.is_some(), "{}", stage.calls());
    let controller = stage.scene.controller.take().expect("a controller is running");
    let (code, log) = controller.terminate(GRACE).await;
    assert_eq!(code, 0, "{log}");

    // The controller does not wait for the answer to the last statement of the listening connection.
    let is_unanswered = |call: &Call| call.answer.is_empty() && call.what != "UNLISTEN *";
    let unanswered: Vec<Call> = stage.proxy.trace.calls().into_iter().filter(is_unanswered).collect();
    assert!(unanswered.is_empty(), "{}", listed(&unanswered));
    let (seen, _) = stage.look().await;
    assert!(seen.rows.0 >= 3, "{seen:?}");
    let is_ready = |name: &&String| seen.resources[*name].contains("Ready True Reconciled");
    let half: Vec<_> = seen.accounts.keys().filter(|name| !is_ready(name)).collect();
    assert!(half.is_empty(), "these were begun and not finished: {half:?}");
    assert_eq!(seen.secrets.len(), seen.accounts.len());
    assert!(seen.accounts.len() < 40, "there was more to do than it could: {}", seen.accounts.len());
}

#[tokio::test]
async fn two_at_once_do_no_harm() {
    let mut stage = Stage::set("two controllers").await;
    let other = Proxy::new(stage.scene.cluster.kubeconfig(), stage.database_url()).await;
    let namespace = stage.scene.namespace.name().to_owned();
    let second = spawn_controller(
        other.kubeconfig(),
        &[&namespace],
        other.database_url(),
        &stage.scene.keyring,
        &["--cluster-id", CLUSTER, "--deletion-brake", "100"],
    );
    stage.start().await;
    let declared = user(stage.scene.client.clone(), namespace, 7).await;
    check_declared(&stage, &declared, Keys::new()).await;

    // Afterwards, neither controller writes any more.
    let both = Arc::clone(&other.trace);
    both.quiet(Duration::from_secs(2)).await;
    stage.proxy.trace.begin();
    both.begin();
    stage.proxy.trace.quiet(Duration::from_secs(3)).await;
    let calls: Vec<Call> = [stage.proxy.trace.calls(), both.calls()].concat();
    let writes: Vec<Call> = calls.into_iter().filter(|call| !call.is_read()).collect();
    assert!(writes.is_empty(), "they go on writing\n{}", listed(&writes));
    let (code, log) = second.terminate(GRACE).await;
    assert_eq!(code, 0, "{log}");
}
