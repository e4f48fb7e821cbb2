//! One round: an operator runs, many objects are created, and all become Ready; then all are deleted.

use std::collections::HashSet;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, DynamicObject, ListParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt};
use tokio::time::{sleep, timeout};

use super::accounts;
use super::entries::{Entry, Running};
use super::machine::{Machine, Use};
use super::processes::{Memory, memory, processor_time};
use super::provider_sql::{ADMINISTRATOR, ProviderSql};
use super::support::wait::eventually;
use super::times::{Times, difference};
use super::world::{World, Writes};

/// The time without a write after which nothing more is expected of an operator.
const QUIET: Duration = Duration::from_secs(4);

/// How long an operator may take for one object, and for its start.
const FOR_ONE: Duration = Duration::from_millis(500);
const STARTED_WITHIN: Duration = Duration::from_mins(1);

const AT_A_TIME: usize = 16;

/// The figures of one round.
pub struct Round {
    pub entry: &'static Entry,
    /// From the first creation until all are Ready.
    pub ready: Duration,
    /// What else used the processors in this time.
    pub machine: Use,
    /// What the operator wrote, until it had nothing more to write.
    pub writes: Writes,
    /// How many statements the database ran.
    pub statements: i64,
    /// The processor time of each program, until nothing more was written.
    pub processor_time: Times,
    /// The operator's memory with one object.
    pub before: Memory,
    /// The operator's memory with all of them.
    pub after: Memory,
    /// From the first deletion until no object exists.
    pub deleted: Duration,
}

/// Measures an operator with this number of objects.
pub async fn measure(world: &World, provider_sql: &ProviderSql, entry: &'static Entry, count: usize) -> Round {
    let (name, process) = (entry.operator.name(), entry.operator.process());
    eprintln!("{name}, {}: one object, to see it work", entry.settings);
    let running = entry.start(world, provider_sql).await;
    let api: Api<DynamicObject> = Api::namespaced_with(world.client().await, entry.namespace, &entry.kind());
    make(&api, &running, vec![entry.object(count)]).await;
    quiet(world, entry.namespace).await;

    eprintln!("{name}, {}: {count} objects", entry.settings);
    let before = memory(process);
    let objects = (0..count).map(|number| entry.object(number)).collect();
    let (writes, statements) = (world.writes(entry.namespace), world.statements().await);
    let times = processor_time();
    let machine = Machine::look();
    let ready = make(&api, &running, objects).await;
    let machine = machine.used();
    quiet(world, entry.namespace).await;
    let processor_time = difference(&processor_time(), &times);
    let since = |(kind, count): (String, usize)| {
        let count = count - writes.get(&kind).copied().unwrap_or_default();
        (count > 0).then_some((kind, count))
    };
    let (after, writes) = (memory(process), world.writes(entry.namespace).into_iter().filter_map(since).collect());
    let statements = world.statements().await - statements;
    check(world, entry, count + 1).await;

    eprintln!("{name}, {}: deleting them", entry.settings);
    let deleted = delete(&api, count + 1).await;
    running.end().await;
    Round { entry, ready, machine, writes, statements, processor_time, before, after, deleted }
}

/// Creates these objects, and waits until all are Ready. Returns how long that took.
async fn make(api: &Api<DynamicObject>, running: &Running, objects: Vec<DynamicObject>) -> Duration {
    let within = within(objects.len());
    let names = objects.iter().map(ResourceExt::name_any).collect();
    let begun = Instant::now();
    let watching = tokio::spawn(timeout(within, all_ready(api.clone(), names)));
    accounts::create(api, objects.into_iter()).await;
    let all = watching.await.expect("the watch does not panic");
    all.unwrap_or_else(|_| panic!("not all objects were Ready within {within:?}; the log:\n{}", running.log()));
    begun.elapsed()
}

/// Waits until all objects with these names are Ready.
async fn all_ready(api: Api<DynamicObject>, mut names: HashSet<String>) {
    let mut seen = pin!(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
    while !names.is_empty() {
        let object = seen.next().await.expect("a watch has no end");
        // The watch begins again after an error.
        if let Ok(object) = object
            && is_ready(&object)
        {
            names.remove(&object.name_any());
        }
    }
}

fn is_ready(object: &DynamicObject) -> bool {
    let conditions = object.data.pointer("/status/conditions").and_then(|conditions| conditions.as_array());
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// Waits until the operator writes nothing more.
async fn quiet(world: &World, namespace: &str) {
    let mut last = world.writes(namespace);
    loop {
        sleep(QUIET).await;
        let now = world.writes(namespace);
        if now == last {
            return;
        }
        last = now;
    }
}

/// Checks that each object has credentials in a Secret and is in the database: Ready must not be an empty word.
async fn check(world: &World, entry: &Entry, count: usize) {
    let secrets: Api<Secret> = Api::namespaced(world.client().await, entry.namespace);
    let secrets = secrets.list(&ListParams::default()).await.expect("they can be listed");
    let is_whole = |secret: &&Secret| {
        let data = secret.data.iter().flatten().filter(|(_, value)| !value.0.is_empty());
        secret.name_any() != ADMINISTRATOR && data.count() >= 2
    };
    assert_eq!(secrets.iter().filter(is_whole).count(), count, "Secrets with a name and a password");
    assert_eq!(world.number(entry.stored).await, i64::try_from(count).expect("it is small"), "{}", entry.stored);
}

/// Deletes all objects, and waits until none exists. Returns how long that took.
async fn delete(api: &Api<DynamicObject>, count: usize) -> Duration {
    let objects = api.list_metadata(&ListParams::default()).await.expect("they can be listed");
    let begun = Instant::now();
    stream::iter(objects.iter().map(ResourceExt::name_any))
        .for_each_concurrent(AT_A_TIME, async |name| {
            let deleted = api.delete(&name, &DeleteParams::default()).await;
            deleted.unwrap_or_else(|error| panic!("deleting {name}: {error}"));
        })
        .await;
    eventually("all objects to be gone", within(count), async || {
        let left = api.list_metadata(&ListParams::default().limit(1)).await.map_err(|error| error.to_string())?;
        if left.items.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    begun.elapsed()
}

fn within(count: usize) -> Duration {
    STARTED_WITHIN + FOR_ONE * u32::try_from(count).expect("it is a small number")
}
