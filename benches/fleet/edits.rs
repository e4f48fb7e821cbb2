//! The time from an edit of an ApiAccount to the committed change in the database, while 50 edits a second come in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use opsadmin_operator::api::ApiAccount;
use serde_json::json;
use sqlx::postgres::PgListener;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::processes::processor_time;
use super::times::{Times, difference};

const EDITS: usize = 500;
const PAUSE: Duration = Duration::from_millis(20);
const EACH_WITHIN: Duration = Duration::from_secs(30);

/// What the edits took.
pub struct Edits {
    /// From each edit to its change in the database, the shortest first.
    times: Vec<Duration>,
    /// The processor time of each program for all of them.
    pub processor_time: Times,
}

impl Edits {
    /// The time within which this share of all edits was in the database.
    pub fn within(&self, percent: usize) -> Duration {
        let last = self.times.len().saturating_sub(1);
        self.times.get(last * percent / 100).copied().unwrap_or_default()
    }

    /// The number of edits.
    pub fn count(&self) -> usize {
        self.times.len()
    }
}

/// Writes `text` into as many accounts of the namespace as there are, at most [`EDITS`], and waits until all of it is in the
/// database.
pub async fn measure(client: &Client, namespace: &str, database: &str, accounts: usize, text: &'static str) -> Edits {
    let mut notifications = PgListener::connect(database).await.expect("the database answers");
    notifications.listen("opsadmin_accounts").await.expect("it can be listened to");
    let sent: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let edited = EDITS.min(accounts);
    let before = processor_time();
    let editing = tokio::spawn(edit(client.clone(), namespace.to_owned(), edited, text, Arc::clone(&sent)));
    let mut times = Vec::new();
    while times.len() < edited {
        let notification = timeout(EACH_WITHIN, notifications.recv()).await;
        let notification = notification.expect("each edit arrives").expect("the database tells each change");
        let heard = Instant::now();
        let told: serde_json::Value = serde_json::from_str(notification.payload()).expect("it is JSON");
        let name = told["name"].as_str().expect("the account has an owner");
        if let Some(at) = sent.lock().expect("no panic").remove(name) {
            times.push(heard - at);
        }
    }
    editing.await.expect("the edits are sent");
    times.sort_unstable();
    Edits { times, processor_time: difference(&processor_time(), &before) }
}

async fn edit(
    client: Client,
    namespace: String,
    count: usize,
    text: &'static str,
    sent: Arc<Mutex<HashMap<String, Instant>>>,
) {
    let api: Api<ApiAccount> = Api::namespaced(client, &namespace);
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut edits = JoinSet::new();
    for number in 0..count {
        ticks.tick().await;
        let (api, sent) = (api.clone(), Arc::clone(&sent));
        edits.spawn(async move {
            let name = format!("partner-{number}");
            let patch = Patch::Merge(json!({"spec": {"description": text}}));
            sent.lock().expect("no panic").insert(name.clone(), Instant::now());
            let edited = api.patch(&name, &PatchParams::default(), &patch).await;
            edited.unwrap_or_else(|error| panic!("editing {name}: {error}"));
        });
    }
    edits.join_all().await;
}
