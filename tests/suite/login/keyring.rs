//! The keyring changes while an auth server runs: no login fails, and a file that cannot be used is not used.

use std::fs;

use super::scene::{AuthServer, SOON, Scene};
use crate::support::opsadmin::Opsadmin;
use crate::support::wait::eventually;

pub async fn a_rotation_of_the_keyring_refuses_no_login(scene: Scene) {
    let client = scene.account("acme", |_| {}).await;
    let server = scene.serve(&[]).await;
    let file = scene.keyring_file();
    let read = || fs::read_to_string(&file).unwrap();
    server.log_in(&client).await;
    let before = read();
    for step in ["add", "use", "reseal", "remove"] {
        let call = Opsadmin::new().args(["keyring", "rotate", "--only", step, "--database", scene.fresh.url()]);
        call.args(["--keyring"]).args([&file]).run().await.succeeded();
        if step != "reseal" {
            has_read(&server, &read()).await;
        }
        server.log_in(&client).await;
    }
    assert_ne!(before, read());

    let rotated = read();
    for unusable in ["{", &before] {
        fs::write(&file, unusable).unwrap();
        refuses_the_file(&server, 1.0).await;
        server.log_in(&client).await;
        fs::write(&file, &rotated).unwrap();
        refuses_the_file(&server, 0.0).await;
    }
    let (code, log) = server.process.terminate(SOON).await;
    assert_eq!(code, 0);
    for keyring in [&before, &rotated] {
        let keyring: serde_json::Value = serde_json::from_str(keyring).unwrap();
        assert!(!log.contains(keyring["keys"][0]["key"].as_str().unwrap()), "no key is logged");
    }
}

/// Waits until the server uses the keyring in its file.
async fn has_read(server: &AuthServer, keyring: &str) {
    let keyring: serde_json::Value = serde_json::from_str(keyring).unwrap();
    let mut keys = keyring["keys"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap());
    let seals = format!("seals=\"{}\" opens=\"", keys.next().unwrap());
    let opens: Vec<&str> = keys.collect();
    eventually("the keyring to be read", SOON, async || {
        let log = server.process.log();
        let last = log.lines().rfind(|line| line.contains("its keyring is used")).unwrap_or_default();
        let used = last.split_once(&seals).and_then(|(_, rest)| rest.split_once('"'));
        let is_it = used.is_some_and(|(used, _)| match &opens[..] {
            [] => used.is_empty(),
            opens => opens.iter().all(|key| used.contains(key)),
        });
        if is_it { Ok(()) } else { Err(log) }
    })
    .await;
}

async fn refuses_the_file(server: &AuthServer, expected: f64) {
    eventually("the metric to tell", SOON, async || {
        let refused = server.metric("opsadmin_keyring_refused").await;
        if refused == Some(expected) { Ok(()) } else { Err(format!("{refused:?}")) }
    })
    .await;
}
