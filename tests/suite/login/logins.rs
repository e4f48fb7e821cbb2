//! Logins that succeed, and assertions that are used twice.

use opsadmin_operator::account::Role;
use serde_json::Value;
use std::time::Duration;

use super::scene::{ISSUER, SOON, Scene};
use crate::guides::{page, repository};
use crate::support::http::exchange;
use crate::support::run::run;

pub async fn an_account_logs_in_and_is_let_through_in_each_dialect(scene: Scene) {
    let client = scene.account("acme", |account| account.roles = [Role::Customer].into()).await;
    let server = scene.serve(&[]).await;
    let tokens = server.log_in(&client).await;
    assert_eq!((tokens.expires_in, &tokens.refresh), (300, &None));
    assert!(tokens.access.starts_with("opsa_at_"));

    let bearer = format!("Authorization: Bearer {}\r\n", tokens.access);
    let nginx = format!(
        "{bearer}X-Original-Method: GET\r\nX-Original-URI: /my-account/bills?year=2026\r\nX-Real-IP: 192.0.2.1\r\n"
    );
    let forward =
        format!("{bearer}X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /my-account\r\nX-Forwarded-For: 192.0.2.1\r\n");
    let envoy = format!("{bearer}X-Forwarded-For: 192.0.2.1\r\n");
    for (path, headers) in [
        ("/authz/nginx", &nginx),
        ("/authz/forward", &forward),
        ("/authz/envoy/my-account", &envoy),
        ("/authz/envoy/my-account/bills?year=2026", &envoy),
    ] {
        let answer = server.get_internal(path, headers).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        for header in [
            format!("opsadminaccount: {}", client.account.id),
            "opsadminroles: customer".into(),
            "opsadminplans: all".into(),
        ] {
            assert!(answer.headers.contains(&header), "{path}: {answer:?}");
        }
    }
    // A proxy asks at its own path: the headers of another dialect do not count there.
    assert_eq!(server.get_internal("/authz/nginx", &forward).await.status, 403);
    assert_eq!(server.authorize("", "/my-account").await.status, 401);
    server.logged(&["audit=\"login\"", &client.account.id.to_string(), "address=127.0.0.1"]).await;
}

pub async fn an_assertion_is_accepted_once_by_all_replicas_and_after_a_restart(scene: Scene) {
    let client = scene.account("acme", |_| {}).await;
    let (one, other) = (scene.serve(&[]).await, scene.serve(&[]).await);
    let assertion = client.assertion();
    assert_eq!(one.token(&assertion).await.status, 200);
    for server in [&one, &other] {
        assert_eq!(server.token(&assertion).await.status, 401);
        server.logged(&["rule=\"assertion-replayed\"", "audit=\"refusal\""]).await;
    }
    let (code, log) = one.process.terminate(Duration::from_secs(30)).await;
    assert_eq!(code, 0, "{log}");
    let restarted = scene.serve(&[]).await;
    assert_eq!(restarted.token(&assertion).await.status, 401);
    assert_eq!(restarted.token(&client.assertion()).await.status, 200);
    // Of concurrent uses, one is the first.
    let assertion = client.assertion();
    let tries = (0..8).map(|number| if number % 2 == 0 { &restarted } else { &other });
    let answers = futures::future::join_all(tries.map(|server| server.token(&assertion))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
}

pub async fn the_metadata_names_the_endpoints(scene: Scene) {
    let server = scene.serve(&[]).await;
    let request = "GET /.well-known/oauth-authorization-server HTTP/1.0\r\nHost: evil.test\r\n\r\n";
    let answer = exchange(&server.public, request).await.unwrap();
    let metadata: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(metadata["issuer"], ISSUER);
    assert_eq!(metadata["token_endpoint"], format!("{ISSUER}/token"));
    assert_eq!(metadata["revocation_endpoint"], format!("{ISSUER}/revoke"));
    assert!(!answer.body.contains("evil"), "{}", answer.body);
}

/// The login of `docs/login.md`, with nothing but the program's address changed.
pub async fn the_commands_of_the_page_log_in(scene: Scene) {
    let client = scene.account("acme", |account| account.roles = [Role::PlansAndRates].into()).await;
    let server = scene.serve_at_its_issuer().await;
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(repository("examples"), folder.path().join("examples")).unwrap();
    for (file, key) in [("api-key", &client.api_key), ("secret-key", &client.secret_key)] {
        std::fs::write(folder.path().join(file), key).unwrap();
    }
    let documented = page("docs/login.md");
    let run_block = async |number: usize, token: &str| {
        let block = documented.split("```bash\n").nth(number).unwrap().split("```").next().unwrap();
        let commands = block
            .replace("127.0.0.1:8088", &server.public)
            .replace("127.0.0.1:8089", &server.internal)
            .replace("opsa_at_...", token);
        let mut bash = std::process::Command::new("bash");
        bash.args(["-euc", &commands]).current_dir(folder.path());
        run(bash, "", SOON).await.succeeded()
    };
    let printed = run_block(1, "").await;
    let body: Value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    let printed = run_block(2, body["access_token"].as_str().unwrap()).await;
    assert!(printed.starts_with("HTTP/1.1 200") && printed.contains("opsadminplans: all"), "{printed}");
}
