//! The keyring's file changes while a controller runs: the controller uses the new keyring without a restart, and does
//! not use one that cannot open the secret keys.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use sqlx::PgPool;

use super::metrics::is;
use super::scene::Scene;
use crate::support::opsadmin::Opsadmin;

/// A keyring as the kubelet mounts a Secret: each version in a folder of its own, under a link that is replaced.
struct Mounted {
    folder: PathBuf,
    versions: usize,
}

impl Mounted {
    /// Mounts the contents for the first time.
    fn new(folder: PathBuf, contents: &[u8]) -> Self {
        fs::create_dir(&folder).expect("a new folder");
        symlink("..data/keyring", folder.join("keyring")).expect("a new link");
        let mut mounted = Self { folder, versions: 0 };
        mounted.update(contents);
        mounted
    }

    fn update(&mut self, contents: &[u8]) {
        self.versions += 1;
        let version = format!("..version{}", self.versions);
        fs::create_dir(self.folder.join(&version)).expect("a new folder");
        fs::write(self.folder.join(&version).join("keyring"), contents).expect("a new file");
        let link = self.folder.join("..data_tmp");
        symlink(version, &link).expect("a new link");
        fs::rename(link, self.folder.join("..data")).expect("the link is replaced");
    }
}

/// Returns the id of the key that has sealed the active key pair of this account.
async fn sealed_with(sql: &PgPool, account: &str) -> String {
    let query = "SELECT sealed_with FROM account_keys JOIN accounts ON accounts.id = account_id WHERE name = $1 AND expires_at IS NULL";
    sqlx::query_scalar(query).bind(account).fetch_one(sql).await.expect("one active key pair")
}

fn mark_is_of(secret: &Secret, key: &str) -> bool {
    let mark = secret.metadata.annotations.as_ref().and_then(|all| all.get("ops-admin.com/mark"));
    mark.is_some_and(|mark| mark.contains(key))
}

#[tokio::test]
async fn a_keyring_is_rotated_under_a_running_controller() {
    let mut scene = Scene::set("keyring").await;
    let source = scene.keyring.clone();
    let read = || fs::read(&source).expect("the keyring is there");
    let mut mounted = Mounted::new(source.with_extension("mounted"), &read());
    scene.keyring = mounted.folder.join("keyring");
    scene.start(&[]);
    let sql = scene.sql().await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    let keys = scene.data("acme-opsadmin").await;
    let old = sealed_with(&sql, "acme").await;

    let step = async |step: &str| {
        let call = Opsadmin::new().args(["keyring", "rotate", "--database", scene.database.url(), "--only", step]);
        call.args(["--keyring"]).args([&source]).run().await.succeeded();
    };
    step("add").await;
    mounted.update(&read());
    scene.logged(&format!("seals=\"{old}\"")).await;
    step("use").await;
    mounted.update(&read());
    let file: serde_json::Value = serde_json::from_slice(&read()).expect("it is JSON");
    let new = file["keys"][0]["id"].as_str().expect("a key has an id").to_owned();
    assert_ne!(new, old);
    scene.logged(&format!("seals=\"{new}\"")).await;
    scene.secret_where("acme-opsadmin", "to have a mark of the new key", |secret| mark_is_of(secret, &new)).await;
    scene.create("bolt", json!({})).await;
    scene.ready("bolt").await;
    assert_eq!((sealed_with(&sql, "acme").await, sealed_with(&sql, "bolt").await), (old, new.clone()));
    for last in ["reseal", "remove"] {
        step(last).await;
    }
    let rotated = read();
    mounted.update(&rotated);
    scene.logged(&format!("seals=\"{new}\" opens=\"\"")).await;
    assert_eq!(sealed_with(&sql, "acme").await, new);
    assert_eq!(scene.data("acme-opsadmin").await, keys, "the keys of the account are the same");

    mounted.update(b"{");
    scene.logged("the keyring's file is not used, and the present keyring stays in use").await;
    is(&scene, "opsadmin_keyring_refused", 1.0).await;
    scene.create("cora", json!({})).await;
    scene.ready("cora").await;
    let another = source.with_extension("another");
    Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&another]).run().await.succeeded();
    mounted.update(&fs::read(&another).expect("the keyring is there"));
    scene.logged("the keyring lacks the key").await;
    scene.annotate("acme", json!({ "ops-admin.com/rotate": "now" })).await;
    scene.event("acme", "Rotated").await;
    assert_eq!((sealed_with(&sql, "acme").await, sealed_with(&sql, "cora").await), (new.clone(), new));

    mounted.update(&rotated);
    is(&scene, "opsadmin_keyring_refused", 0.0).await;
    let log = scene.stop().await;
    assert!(!log.contains("KeyringMismatch"), "{log}");
    for secret in [&read(), &fs::read(&another).expect("the keyring is there")] {
        let file: serde_json::Value = serde_json::from_slice(secret).expect("it is JSON");
        let key = file["keys"][0]["key"].as_str().expect("a key");
        assert!(!log.contains(key), "no key is logged");
    }
}
