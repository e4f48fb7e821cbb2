//! Outages of the account database, at the start or later, and a wrong keyring.

use std::time::{Duration, Instant};

use kube::api::DeleteParams;
use kube::config::Kubeconfig;
use opsadmin_operator::api::FINALIZER;
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::scene::{SOON, Scene};
use crate::support::forwarder::Forwarder;
use crate::support::opsadmin::{Opsadmin, spawn_controller};
use crate::support::pgbouncer::PgBouncer;
use crate::support::ports::free_port;
use crate::support::postgres::Postgres;
use crate::support::process::Folder;
use crate::support::wait::eventually;

#[tokio::test]
async fn a_database_outage_at_the_start_is_reported_and_ends_by_itself() {
    let mut scene = Scene::set("database away at start").await;
    let mut server = Postgres::new().await;
    let database = server.database("accounts").await;
    server.stop().await;
    scene.start_on(database.url(), &[]);
    scene.create("acme", json!({})).await;
    let account = scene.condition("acme", "Unknown", "DatabaseUnavailable").await;
    let conditions = &account.status.as_ref().expect("it has a status").conditions;
    assert!(conditions.iter().any(|c| c.type_ == "Reconciling" && c.status == "True"), "{conditions:?}");
    assert!(account.metadata.finalizers.is_none(), "nothing else changed");
    assert_eq!(scene.secrets().get_opt("acme-opsadmin").await.expect("an answer"), None);

    server.start().await;
    scene.ready("acme").await;
    scene.stop().await;
}

#[tokio::test]
async fn a_controller_without_an_answer_at_its_start_can_be_stopped() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let folder = Folder::new("silent");
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         contexts: [{{name: here, context: {{cluster: here, user: me}}}}]\n\
         clusters: [{{name: here, cluster: {{server: 'http://{}'}}}}]\n\
         users: [{{name: me, user: {{}}}}]\n",
        silent.local_addr().expect("it has an address")
    );
    let kubeconfig = folder.write("config", kubeconfig);
    let keyring = folder.path().join("keyring");
    Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]).run().await.succeeded();
    let controller = spawn_controller(&kubeconfig, &[], "sqlite://none.db", &keyring, &[]);
    // The controller asks for the cluster's id and waits for an answer.
    let asked = timeout(SOON, silent.accept()).await.expect("in time").expect("it is asked");
    let (code, log) = controller.terminate(SOON).await;
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("ERROR") && log.contains("stopped"), "{log}");
    drop(asked);
}

#[tokio::test]
async fn a_later_database_outage_is_reported_and_missed_changes_are_reconciled() {
    let mut scene = Scene::set("database away later").await;
    let mut server = Postgres::new().await;
    let database = server.database("accounts").await;
    scene.start_on(database.url(), &[]);
    scene.create("changed", json!({})).await;
    scene.create("deleted", json!({})).await;
    scene.ready("changed").await;
    scene.ready("deleted").await;
    let keys = scene.data("changed-opsadmin").await;

    server.stop().await;
    scene.change("changed", json!({ "enabled": false })).await;
    scene.condition("changed", "Unknown", "DatabaseUnavailable").await;
    scene.accounts().delete("deleted", &DeleteParams::default()).await.expect("the API server takes it");
    let deleted = scene.condition("deleted", "Unknown", "DatabaseUnavailable").await;
    let finalizers = deleted.metadata.finalizers.unwrap_or_default();
    assert_eq!(finalizers, [FINALIZER], "it is not gone while it may still authenticate");

    server.start().await;
    scene.ready("changed").await;
    assert_eq!(scene.data("changed-opsadmin").await, keys);
    eventually("the deletion to be done", SOON, async || match scene.accounts().get_opt("deleted").await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    scene.stop().await;
}

#[tokio::test]
async fn a_switchover_is_followed_to_the_new_primary() {
    let mut scene = Scene::set("switchover").await;
    let mut primary = Postgres::new().await;
    let address = Forwarder::to(primary.port()).await;
    scene.start_on(&address.url(&primary.url("postgres")), &[]);
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    let keys = scene.data("acme-opsadmin").await;
    let standby = primary.standby().await;
    standby.caught_up_with(&primary).await;

    // The old primary is a standby before the address moves.
    primary.stop().await;
    standby.promote().await;
    primary.start_behind(&standby).await;
    scene.change("acme", json!({ "enabled": false })).await;
    let account = scene.condition("acme", "Unknown", "DatabaseUnavailable").await;
    let conditions = account.status.expect("it has a status").conditions;
    assert!(conditions[0].message.contains("it takes no writes: it is a standby"), "{conditions:?}");
    address.point_to(standby.port());

    scene.ready("acme").await;
    assert_eq!(scene.data("acme-opsadmin").await, keys);
    let mut sql = PgConnection::connect(&standby.url("postgres")).await.expect("it answers");
    let enabled: bool = sqlx::query_scalar("SELECT enabled FROM accounts").fetch_one(&mut sql).await.expect("a row");
    assert!(!enabled, "the account no longer authenticates where the API looks");
    // The controller receives notifications from the new primary, as before.
    sqlx::query("UPDATE accounts SET enabled = TRUE").execute(&mut sql).await.expect("it is taken");
    scene.event("acme", "DriftCorrected").await;
    scene.stop().await;
}

#[tokio::test]
async fn a_refused_login_is_reported_and_a_new_password_needs_no_restart() {
    let mut scene = Scene::set("password changed").await;
    let server = Postgres::new().await;
    server.ask_for_scram().await;
    server.execute("postgres", "CREATE ROLE ops LOGIN PASSWORD 'first'").await;
    server.execute("postgres", "CREATE DATABASE accounts OWNER ops").await;
    let folder = Folder::new("password");
    let file = folder.write("password", "wrong\n");
    let url = format!("postgres://ops@127.0.0.1:{}/accounts", server.port());
    scene.start_on(&url, &["--database-password-file", file.to_str().expect("it is text")]);
    scene.create("acme", json!({})).await;
    is_stalled(&scene).await;
    folder.write("password", "first\n");
    scene.ready("acme").await;

    server.execute("postgres", "ALTER ROLE ops PASSWORD 'second'").await;
    let kill = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'ops'";
    server.execute("postgres", kill).await;
    scene.change("acme", json!({ "enabled": false })).await;
    is_stalled(&scene).await;
    folder.write("password", "second\n");
    scene.ready("acme").await;
    let log = scene.stop().await;
    assert!(!log.contains("second") && !log.contains("wrong"), "{log}");
}

async fn is_stalled(scene: &Scene) {
    eventually("the login to be said as refused", SOON, async || {
        let account = scene.accounts().get("acme").await.map_err(|error| error.to_string())?;
        let conditions = account.status.unwrap_or_default().conditions;
        let said = |type_: &str| conditions.iter().find(|c| c.type_ == type_ && c.reason == "DatabaseUnavailable");
        match (said("Ready"), said("Stalled")) {
            (Some(ready), Some(_)) if ready.message.contains("refuses the login") => Ok(()),
            _ => Err(format!("{conditions:?}\n{}", scene.log())),
        }
    })
    .await;
}

#[tokio::test]
async fn changes_of_the_secret_during_an_outage_are_done_afterwards() {
    let mut scene = Scene::set("database away secret").await;
    let mut server = Postgres::new().await;
    let database = server.database("accounts").await;
    scene.start_on(database.url(), &[]);
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;

    server.stop().await;
    scene.change("acme", json!({ "secret": { "labels": { "team": "partners" }, "keys": { "apiKey": "id" } } })).await;
    scene.condition("acme", "Unknown", "DatabaseUnavailable").await;
    server.start().await;
    scene.ready("acme").await;
    let secret = scene.secrets().get("acme-opsadmin").await.expect("the Secret is there");
    assert_eq!(secret.metadata.labels.expect("it has labels").get("team").map(String::as_str), Some("partners"));
    assert!(scene.data("acme-opsadmin").await.contains_key("id"));
    scene.stop().await;
}

#[tokio::test]
async fn a_keyring_that_does_not_open_the_database_ends_the_program() {
    let mut scene = Scene::with_controller("wrong keyring", &[]).await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    let log = scene.stop().await;
    assert!(log.contains("created the account and its keys"), "{log}");

    let other = Opsadmin::new();
    let keyring = scene.keyring.with_extension("other");
    other.args(["keyring", "init", "--keyring"]).args([&keyring]).run().await.succeeded();
    let controller =
        spawn_controller(scene.cluster.kubeconfig(), &[scene.namespace.name()], scene.database.url(), &keyring, &[]);
    let (code, log) = controller.wait(Duration::from_mins(1)).await;
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("the keyring lacks the key"), "{log}");
}

#[tokio::test]
async fn a_controller_that_waits_for_its_first_lists_can_be_stopped() {
    let scene = Scene::set("stopped early").await;
    let nobody = scene.keyring.with_extension("kubeconfig");
    let mut kubeconfig = Kubeconfig::read_from(scene.cluster.kubeconfig()).expect("it can be read");
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        cluster.server = Some(format!("https://127.0.0.1:{}", free_port()));
    }
    let kubeconfig = serde_json::to_string(&kubeconfig).expect("it serializes");
    std::fs::write(&nobody, kubeconfig).expect("it can be written");
    let controller =
        spawn_controller(&nobody, &["somewhere"], scene.database.url(), &scene.keyring, &["--cluster-id", "here"]);
    eventually("the controller to say why it waits", SOON, async || {
        let log = controller.log();
        if log.contains("cannot watch Secrets") { Ok(()) } else { Err(log) }
    })
    .await;
    let (code, log) = controller.terminate(Duration::from_secs(20)).await;
    assert_eq!(code, 0, "{log}");
}

#[tokio::test]
async fn with_a_pooler_in_transaction_mode_everything_works_and_the_sweep_finds_drift() {
    let mut scene = Scene::set("pooler").await;
    let pooler = PgBouncer::before(scene.database.url(), "transaction", &[]).await;
    scene.start_on(&pooler.url(scene.database.url()), &["--sweep-interval", "2s"]);
    for name in ["one", "two", "three", "four"] {
        scene.create(name, json!({})).await;
    }
    for name in ["one", "two", "three", "four"] {
        scene.ready(name).await;
    }
    scene.logged("the account database does not report changes").await;
    let sql = scene.sql().await;
    sqlx::query("UPDATE accounts SET enabled = FALSE WHERE name = 'one'").execute(&sql).await.expect("it is taken");
    scene.event("one", "DriftCorrected").await;
    scene.delete("two").await;
    let log = scene.stop().await;
    assert!(!log.contains("prepared statement"), "{log}");
}

#[tokio::test]
async fn a_start_without_the_database_writes_one_status_for_each_account_after_a_while() {
    const ACCOUNTS: usize = 4;
    let mut scene = Scene::set("start in an outage").await;
    let mut server = Postgres::new().await;
    let database = server.database("accounts").await;
    scene.start_on(database.url(), &[]);
    let names: Vec<_> = (0..ACCOUNTS).map(|number| format!("a{number}")).collect();
    for name in &names {
        scene.create(name, json!({})).await;
    }
    for name in &names {
        scene.ready(name).await;
    }
    scene.stop().await;
    server.stop().await;
    let Some(before) = scene.cluster.audit(scene.namespace.name()) else { return };
    let started = Instant::now();
    scene.start_on(database.url(), &[]);
    scene.logged("waiting for the account database").await;
    scene.condition("a0", "Unknown", "DatabaseUnavailable").await;
    assert!(started.elapsed() >= Duration::from_secs(30), "a database that is a little late is told of");
    for name in &names {
        scene.condition(name, "Unknown", "DatabaseUnavailable").await;
    }
    server.start().await;
    for name in &names {
        scene.ready(name).await;
    }
    scene.stop().await;
    let after = scene.cluster.audit(scene.namespace.name()).expect("it was there before");
    let writes = after[before.len()..].iter().filter(|call| {
        call.user_agent.starts_with("opsadmin/") && !["get", "list", "watch"].contains(&call.verb.as_str())
    });
    // One write reports the outage and one write reports its end. There is no event.
    assert_eq!(writes.count(), 2 * ACCOUNTS, "{}", scene.log());
}
