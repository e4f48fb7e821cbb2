//! What runs beside the requests: notes, networks, metrics, an outage, TLS.

use opsadmin_operator::account::Role;
use std::collections::BTreeSet;
use std::time::Duration;

use super::scene::{SOON, Scene};
use crate::cli::documented::{documented, fields};
use crate::support::opsadmin::Opsadmin;
use crate::support::wait::eventually;
use serde_json::Value;

pub async fn what_is_noted_is_written_at_the_end(scene: Scene) {
    let client = scene.account("acme", |_| {}).await;
    let server = scene.serve(&[]).await;
    server.log_in(&client).await;
    server.log_in(&client).await;
    assert_eq!(scene.database.accounts.uses(Some(client.account.id)).await.unwrap(), []);
    let (code, log) = server.process.terminate(Duration::from_secs(30)).await;
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("stopped"), "{log}");
    let uses = scene.database.accounts.uses(Some(client.account.id)).await.unwrap();
    assert_eq!(uses.len(), 1);
    assert!(uses[0].key == client.account.keys[0].id && uses[0].first < uses[0].last, "{uses:?}");
}

pub async fn the_internal_listener_is_for_listed_networks(scene: Scene) {
    let client = scene.account("acme", |account| account.roles = [Role::Customer].into()).await;
    let server = scene.serve(&["--internal-networks", "192.0.2.0/24,2001:db8::/32"]).await;
    let token = server.log_in(&client).await.access;
    assert_eq!(server.authorize(&token, "/my-account").await.status, 403);
    assert_eq!(server.get_internal("/metrics", "").await.status, 403);
    assert_eq!(server.introspect("", &[("token", &token)]).await.status, 403);
    for probe in ["/livez", "/readyz"] {
        assert_eq!(server.get_internal(probe, "").await.status, 200);
    }
    server.logged(&["--internal-networks", "peer=127.0.0.1"]).await;
}

/// `docs/metrics.md` has one row for each metric, with its type and its labels.
pub async fn the_metrics_are_those_of_the_page(scene: Scene) {
    let client = scene.account("acme", |account| account.roles = [Role::Customer].into()).await;
    let server = scene.serve(&[]).await;
    let token = server.log_in(&client).await.access;
    assert_eq!(server.authorize(&token, "/plans").await.status, 403);
    assert_eq!(server.token("wrong").await.status, 401);
    let is_postgres = scene.fresh.file().is_none();
    if is_postgres {
        eventually("a heartbeat", SOON, async || server.metric("opsadmin_heartbeat_age_seconds").await.ok_or("none"))
            .await;
    }
    let text = server.get_internal("/metrics", "").await.body;
    let mut exposed = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let sample = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        let label = sample.and_then(|rest| rest.split_once('=')).map(|(label, _)| label.to_owned());
        exposed.insert((name.to_owned(), kind.to_owned(), label));
    }
    let page = crate::guides::page("docs/metrics.md");
    let (_, section) = page.split_once("\n## Metrics of an auth server\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `opsadmin_")).map(|row| {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect();
        (cells[1].clone(), cells[2].clone(), Some(cells[3].clone()).filter(|label| !label.is_empty()))
    });
    let described: BTreeSet<_> = rows.filter(|row| is_postgres || row.0 != "opsadmin_heartbeat_age_seconds").collect();
    assert_eq!(described, exposed);
}

/// `opsadmin logins` and `opsadmin logout`, with the fields that their page lists.
pub async fn staff_see_logins_and_end_them(scene: Scene) {
    let customer = |account: &mut opsadmin_operator::account::Settings| account.roles = [Role::Customer].into();
    let (client, other) = (scene.account("acme", customer).await, scene.account("other", customer).await);
    let server = scene.serve(&[]).await;
    let (first, kept) = (server.log_in(&client).await.access, server.log_in(&other).await.access);
    server.log_in(&client).await;
    assert_eq!(server.authorize(&first, "/my-account").await.status, 200);
    let run = async |arguments: &[&str]| {
        let call = Opsadmin::new().args(arguments).args(["--database", scene.fresh.url(), "-o", "json"]);
        serde_json::from_str::<Value>(&call.run().await.succeeded()).unwrap()
    };
    let all = run(&["logins"]).await;
    assert_eq!(all["logins"].as_array().unwrap().len(), 3);
    assert_eq!(fields(&all, &[]), documented("logins"));
    let own = run(&["logins", "acme"]).await;
    assert!(own["logins"].as_array().unwrap().iter().all(|login| login["name"] == "acme"), "{own}");
    let ended = run(&["logout", "acme"]).await;
    assert_eq!(ended, serde_json::json!({ "account": client.account.id.to_string(), "ended": 2 }));
    assert_eq!(fields(&ended, &[]), documented("logout"));
    server.eventually("the login to end", &first, 401).await;
    assert_eq!(server.authorize(&kept, "/my-account").await.status, 200);
    assert_eq!(run(&["logins", "acme"]).await["logins"], serde_json::json!([]));
}
