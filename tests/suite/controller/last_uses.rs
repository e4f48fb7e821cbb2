//! When key pairs were used to log in, as statuses, events, logs and metrics show it. The tests write the table that an
//! auth server writes.

use jiff::{Timestamp, ToSpan as _};
use opsadmin_operator::api::KeyStatus;
use serde_json::json;

use super::drift::SWEEPING;
use super::metrics::is;
use super::scene::{SOON, Scene};
use crate::database_contract::fixture::Fresh;
use crate::support::wait::eventually;

struct Stage {
    scene: Scene,
    database: Fresh,
}

impl Stage {
    async fn on(test_name: &str, database: Fresh) -> Self {
        let mut scene = Scene::set(test_name).await;
        scene.start_on(database.url(), &SWEEPING);
        Self { scene, database }
    }

    async fn by_hand(&self, sql: &str) {
        self.database.by_hand(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Records a use of this key pair, as an auth server does.
    async fn used(&self, pair: &str, at: Timestamp) {
        let at = at.as_microsecond();
        self.by_hand(&format!(
            "INSERT INTO key_uses (key_id, first_used_at, last_used_at) VALUES ('{pair}', {at}, {at}) \
             ON CONFLICT (key_id) DO UPDATE SET last_used_at = excluded.last_used_at"
        ))
        .await;
    }

    async fn keys(&self, account: &str) -> Vec<KeyStatus> {
        let account = self.scene.accounts().get(account).await.expect("it is there");
        account.status.map(|status| status.keys).unwrap_or_default()
    }

    /// Waits until the status shows this last use of a key pair, and returns all its key pairs.
    async fn shown(&self, account: &str, pair: &str, at: Timestamp) -> Vec<KeyStatus> {
        eventually(&format!("{account} to show the use of {pair} at {at}"), SOON, async || {
            let keys = self.keys(account).await;
            let shows = |key: &KeyStatus| key.id == pair && key.last_used.as_ref().is_some_and(|used| used.0 == at);
            if keys.iter().any(shows) { Ok(keys) } else { Err(format!("{keys:?}\n{}", self.scene.log())) }
        })
        .await
    }
}

/// The time this long ago, in whole seconds, as a status shows it.
fn minutes_ago(minutes: i64) -> Timestamp {
    Timestamp::from_second((Timestamp::now() - minutes.minutes()).as_second()).expect("it is a time")
}

async fn a_partner_changes_over_late(database: Fresh) {
    let stage = Stage::on("last uses", database).await;
    let scene = &stage.scene;
    scene.create("acme", json!({ "rotation": { "trigger": "one", "overlap": "4h" } })).await;
    scene.create("other", json!({})).await;
    scene.ready("other").await;
    let first = scene.ready("acme").await.status.expect("it has a status").keys.remove(0);
    assert_eq!(first.last_used, None, "nobody has used it");
    let long_ago = minutes_ago(200);
    stage.used(&first.id, long_ago).await;
    stage.shown("acme", &first.id, long_ago).await;

    scene.change("acme", json!({ "rotation": { "trigger": "two" } })).await;
    let rotated = scene.ready("acme").await.status.expect("it has a status").keys;
    assert_eq!(rotated[1].id, first.id);
    assert!(rotated[1].last_used.is_some() && rotated[0].last_used.is_none(), "{rotated:?}");

    // The rotation was three hours ago, and ends in one hour.
    let (created, expires) = (minutes_ago(180).as_microsecond(), minutes_ago(-60).as_microsecond());
    stage.by_hand(&format!("UPDATE account_keys SET created_at = {created} WHERE id = '{}'", rotated[0].id)).await;
    let earlier = minutes_ago(600).as_microsecond();
    stage
        .by_hand(&format!(
            "UPDATE account_keys SET created_at = {earlier}, expires_at = {expires} WHERE id = '{}'",
            first.id
        ))
        .await;
    let [first_half, second_half] =
        ["first", "second"].map(|half| format!(r#"opsadmin_old_keys_in_use{{overlap_half="{half}"}}"#));
    stage.used(&first.id, minutes_ago(150)).await;
    is(scene, &first_half, 1.0).await;
    stage.used(&first.id, minutes_ago(5)).await;
    is(scene, &second_half, 1.0).await;
    is(scene, &first_half, 0.0).await;
    let note = scene.event("acme", "OldKeysInUse").await;
    assert!(note.contains(&first.id) && note.contains("a partner still logs in"), "{note}");
    assert!(!note.contains(&first.api_key), "an event has no key");
    scene.logged(&note).await;

    // The first login with the new pair is shown at once.
    let lately = minutes_ago(1);
    stage.used(&rotated[0].id, lately).await;
    stage.shown("acme", &rotated[0].id, lately).await;
    assert_eq!(stage.keys("other").await[0].last_used, None);
}

#[tokio::test]
async fn a_partner_that_changes_over_late_is_told_on_postgres() {
    a_partner_changes_over_late(Fresh::postgres("last uses").await).await;
}

#[tokio::test]
async fn a_partner_that_changes_over_late_is_told_on_sqlite() {
    a_partner_changes_over_late(Fresh::sqlite()).await;
}

#[tokio::test]
async fn without_the_right_to_read_uses_everything_else_goes_on() {
    let stage = Stage::on("no uses", Fresh::sqlite()).await;
    let scene = &stage.scene;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    stage.by_hand("ALTER TABLE key_uses RENAME TO key_uses_away").await;
    scene.logged("a sweep could not read when key pairs were used").await;
    stage.by_hand("UPDATE accounts SET description = 'by hand' WHERE owner_name = 'acme'").await;
    scene.event("acme", "DriftCorrected").await;
    assert_eq!(stage.keys("acme").await[0].last_used, None);
}
