//! The auth server serves by TLS, with the files that are there now.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::scene::{SOON, Scene};
use crate::support::certificates::{Authority, Pair};
use crate::support::run::{Finished, run};
use crate::support::wait::eventually;

/// Asks with curl, which trusts the authority in this file only.
async fn curl(authority: &Path, url: &str) -> Finished {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(authority).arg(url);
    run(curl, "", SOON).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_listeners_serve_by_tls_and_use_renewed_files() {
    let scene = Scene::sqlite().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |pair: &Pair| {
        fs::write(path("tls.crt"), &pair.certificate).unwrap();
        fs::write(path("tls.key"), &pair.key).unwrap();
    };
    let [first, second] = ["first.pem", "second.pem"].map(|name| {
        let authority = Authority::new();
        fs::write(path(name), authority.certificate()).unwrap();
        (path(name), authority.server(&["127.0.0.1"]))
    });
    write(&first.1);
    let (certificate, key) = (path("tls.crt").display().to_string(), path("tls.key").display().to_string());
    let files = ["--tls-certificate", certificate.as_str(), "--tls-key", key.as_str()];
    let server = scene.serve(&files).await;
    let both = scene.start_at(scene.fresh.url(), &[&files[..], &["--internal-tls"]].concat()).await;
    let urls = [
        format!("https://{}/.well-known/oauth-authorization-server", server.public),
        format!("https://{}/livez", both.internal),
    ];
    for url in &urls {
        curl(&first.0, url).await.succeeded();
        let plain = curl(&first.0, &url.replace("https:", "http:")).await;
        assert!(!plain.status.success(), "{plain:?}");
    }

    // Two files that do not belong together are not used.
    fs::write(path("tls.key"), &second.1.key).unwrap();
    server.logged(&["not for the private key"]).await;
    curl(&first.0, &urls[0]).await.succeeded();

    write(&second.1);
    for url in &urls {
        eventually("the renewed certificate to be used", SOON, async || {
            let answer = curl(&second.0, url).await;
            if answer.status.success() { Ok(()) } else { Err(answer.stderr) }
        })
        .await;
        let old = curl(&first.0, url).await;
        assert!(!old.status.success(), "the old certificate is still used: {old:?}");
    }
}
