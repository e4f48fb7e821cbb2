//! A frozen controller: it reports what it would change, writes nothing but statuses and events, and carries everything
//! out after the freeze.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use sqlx::PgPool;

use super::metrics::{counted, is};
use super::scene::{SOON, Scene};
use super::writes::{EVENT, calls, writes};
use crate::support::opsadmin::Opsadmin;
use crate::support::wait::eventually;

/// Sweeps every second, and purges deleted accounts at once.
const EAGER: [&str; 4] =
    ["--sweep-interval=1s", "--deleted-account-retention=1s", "--journal-retention=1s", "--orphan-grace=1s"];

/// Returns everything that the controller can change in the database: accounts, keys and the journal, as text.
async fn content(sql: &PgPool) -> String {
    let all = "SELECT (SELECT json_agg(a ORDER BY id)::text FROM accounts a)
        || (SELECT json_agg(k ORDER BY id)::text FROM account_keys k)
        || (SELECT json_agg(j ORDER BY id)::text FROM account_journal j)";
    sqlx::query_scalar(all).fetch_one(sql).await.expect("the content")
}

/// Returns the fields in the status of a resource that is not Ready because of the freeze.
async fn pending(scene: &Scene, name: &str) -> Vec<String> {
    let status = scene.condition(name, "False", "Frozen").await.status.expect("it has a status");
    status.drift.into_iter().map(|drift| drift.field).collect()
}

async fn tamper(scene: &Scene, secret: &str) -> Secret {
    let patch = json!({ "stringData": { "OPSADMIN_API_KEY": "another" } });
    let patched = scene.secrets().patch(secret, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.expect("the API server takes the change")
}

#[tokio::test]
async fn a_frozen_controller_reports_everything_and_changes_nothing_until_the_freeze_ends() {
    let mut scene = Scene::with_controller("freeze", &[]).await;
    let sql = scene.sql().await;
    for name in ["acme", "calm", "ended", "lost", "purged", "tampered", "turned"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    scene.delete("purged").await;
    scene.stop().await;
    let keys = scene.data("tampered-opsadmin").await;
    let turned = scene.data("turned-opsadmin").await;
    let before = content(&sql).await;
    let earlier = calls(&scene).map(|calls| calls.len());

    scene.start(&[&["--freeze"], &EAGER[..]].concat());
    scene.create("fresh", json!({})).await;
    scene.change("acme", json!({ "enabled": false, "roles": ["Customer"] })).await;
    let other = tamper(&scene, "tampered-opsadmin").await;
    scene.annotate("turned", json!({ "ops-admin.com/rotate": "now" })).await;
    scene.accounts().delete("ended", &DeleteParams::default()).await.expect("the API server takes the deletion");
    scene.strip_finalizers("lost").await;
    scene.accounts().delete("lost", &DeleteParams::default()).await.expect("it goes at once");
    assert_eq!(pending(&scene, "fresh").await, ["account", "secret"]);
    assert_eq!(pending(&scene, "acme").await, ["enabled", "roles"]);
    assert_eq!(pending(&scene, "tampered").await, ["secret"]);
    assert_eq!(pending(&scene, "turned").await, ["keys"]);
    assert_eq!(pending(&scene, "ended").await, [""; 0]);
    let note = scene.event("ended", "Frozen").await;
    assert!(note.ends_with("After the freeze it handles: the deletion"), "{note}");
    is(&scene, "opsadmin_frozen", 1.0).await;
    counted(&scene, "opsadmin_orphans", 1.0).await;
    // More than one sweep after the grace period of the orphan and the retention of the deleted account.
    counted(&scene, r#"opsadmin_sweeps_total{result="done"}"#, 4.0).await;
    scene.stop().await;

    assert_eq!(content(&sql).await, before);
    let present = scene.secrets().get("tampered-opsadmin").await.expect("the Secret is there");
    assert_eq!(present.metadata.resource_version, other.metadata.resource_version);
    assert_eq!(scene.secrets().get_opt("fresh-opsadmin").await.expect("an answer"), None);
    let fresh = scene.accounts().get("fresh").await.expect("the resource is there");
    assert_eq!(fresh.metadata.finalizers, None);
    if let Some(earlier) = earlier {
        let mut written = writes(&calls(&scene).expect("there is an audit log")[earlier..]);
        written.retain(|write| write != EVENT);
        written.sort();
        written.dedup();
        let expected = ["acme", "ended", "fresh", "tampered", "turned"];
        assert_eq!(written, expected.map(|name| format!("patch apiaccounts/status {name}")));
    }

    scene.start(&EAGER);
    for name in ["fresh", "acme", "tampered", "turned", "calm"] {
        scene.ready(name).await;
    }
    assert_eq!(scene.data("tampered-opsadmin").await, keys, "the keys did not change");
    assert_ne!(scene.data("turned-opsadmin").await, turned, "the keys are rotated");
    eventually("the deletion, the orphan and the purge to be carried out", SOON, async || {
        let resource = scene.accounts().get_opt("ended").await.map_err(|error| error.to_string())?;
        let names = "SELECT name FROM accounts WHERE deleted_at IS NULL ORDER BY name";
        let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&sql).await.map_err(|error| error.to_string())?;
        let purged = "SELECT count(*) FROM accounts WHERE name = 'purged'";
        let purged: i64 = sqlx::query_scalar(purged).fetch_one(&sql).await.map_err(|error| error.to_string())?;
        let is_done = resource.is_none() && names == ["acme", "calm", "fresh", "tampered", "turned"] && purged == 0;
        if is_done { Ok(()) } else { Err(format!("{names:?} {purged}\n{}", scene.log())) }
    })
    .await;
    is(&scene, "opsadmin_frozen", 0.0).await;
}

#[tokio::test]
async fn a_frozen_controller_creates_no_database_and_no_keyring() {
    let scene = Scene::set("freeze without a database").await;
    let frozen = async |call: Opsadmin, url: &str| {
        let call =
            call.env("KUBECONFIG", scene.cluster.kubeconfig()).args(["controller", "--freeze", "--database", url]);
        let refused = call.args(["--cluster-id=here", "--metrics-address=off"]).run().await;
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        refused.stderr
    };
    let call = Opsadmin::new();
    let file = call.folder().join("opsadmin.db");
    let error = frozen(call, &format!("sqlite://{}", file.display())).await;
    assert!(error.contains("the database file does not exist, and a frozen controller creates none"), "{error}");
    assert!(!file.exists());
}
