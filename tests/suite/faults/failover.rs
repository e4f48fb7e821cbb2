//! The failover of a replicated PostgreSQL that loses commits: the primary crashes, and a standby that lacks its last
//! commits takes over.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::controller::scene::{SOON, Scene};
use crate::support::forwarder::Forwarder;
use crate::support::opsadmin::Opsadmin;
use crate::support::postgres::Postgres;
use crate::support::wait::eventually;

/// The database of these servers, which is there from the beginning.
const DATABASE: &str = "postgres";

/// A primary and its standby behind one address, and a controller that knows only the address.
struct Replicated {
    scene: Scene,
    primary: Postgres,
    standby: Postgres,
    address: Forwarder,
}

impl Replicated {
    async fn text(&self, server: &Postgres, query: &str) -> Result<Option<String>, String> {
        let mut connection = PgConnection::connect(&server.url(DATABASE)).await.map_err(|error| error.to_string())?;
        let found = sqlx::query_scalar(AssertSqlSafe(query)).fetch_optional(&mut connection).await;
        found.map_err(|error| error.to_string())
    }

    /// Ends the replication. The standby lacks every later commit.
    async fn cut(&self) {
        self.standby.execute(DATABASE, "ALTER SYSTEM SET primary_conninfo = ''").await;
        self.standby.execute(DATABASE, "SELECT pg_reload_conf()").await;
        let receivers = "SELECT count(*)::text FROM pg_stat_wal_receiver";
        eventually("the standby to receive nothing", SOON, async || {
            match self.text(&self.standby, receivers).await? {
                Some(none) if none == "0" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Waits until the new primary answers a query with this text.
    async fn answers(&self, query: &str, expected: &str) {
        eventually(&format!("{query} to answer {expected}"), SOON, async || {
            match self.text(&self.standby, query).await? {
                Some(found) if found == expected => Ok(()),
                other => Err(format!("{other:?}\n{}", self.scene.log())),
            }
        })
        .await;
    }

    /// Returns the active API key of the account of this resource, from the new primary.
    async fn active_key(&self, resource: &str) -> Result<Option<String>, String> {
        let query = format!(
            "SELECT api_key FROM account_keys JOIN accounts ON accounts.id = account_id \
             WHERE owner_name = '{resource}' AND expires_at IS NULL"
        );
        self.text(&self.standby, &query).await
    }

    async fn key(&self, resource: &str) -> Result<String, String> {
        let secret = self.scene.secrets().get(&format!("{resource}-opsadmin")).await;
        let mut data = crate::controller::scene::texts(&secret.map_err(|error| error.to_string())?);
        data.remove("OPSADMIN_API_KEY").ok_or_else(|| "the Secret has no API key".to_owned())
    }

    /// Waits until the Secret has the active key of the account, and returns it.
    async fn agreed(&self, resource: &str) -> String {
        eventually(&format!("Secret and account of {resource} to agree"), SOON, async || {
            let (secret, account) = (self.key(resource).await?, self.active_key(resource).await?);
            if account.as_ref() == Some(&secret) {
                return Ok(secret);
            }
            Err(format!("{secret} {account:?}\n{}", self.scene.log()))
        })
        .await
    }
}

async fn replicated() -> Replicated {
    let primary = Postgres::new().await;
    let address = Forwarder::to(primary.port()).await;
    let mut scene = Scene::set("failover").await;
    let url = address.url(&primary.url(DATABASE));
    scene.start_on(&url, &["--sweep-interval", "1s", "--orphan-grace", "2s", "--deletion-brake", "100"]);
    for number in 0..6 {
        scene.create(&format!("kept-{number}"), json!({})).await;
    }
    for name in ["rotated", "disabled", "deleted"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    for number in 0..6 {
        scene.ready(&format!("kept-{number}")).await;
    }
    let standby = primary.standby().await;
    standby.caught_up_with(&primary).await;
    Replicated { scene, primary, standby, address }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_and_secrets_agree_again_after_a_failover_that_lost_commits() {
    let mut servers = replicated().await;
    servers.cut().await;

    // The standby lacks all of this.
    for name in ["lost-0", "lost-1"] {
        servers.scene.create(name, json!({ "roles": ["Customer"] })).await;
        servers.scene.ready(name).await;
    }
    servers.scene.change("rotated", json!({ "rotation": { "trigger": "now" } })).await;
    servers.scene.ready("rotated").await;
    servers.scene.change("disabled", json!({ "enabled": false })).await;
    servers.scene.ready("disabled").await;
    servers.scene.delete("deleted").await;
    let mut before = BTreeMap::new();
    for name in ["kept-0", "kept-5", "lost-0", "lost-1", "disabled"] {
        before.insert(name, servers.key(name).await.expect("it has a Secret"));
    }
    // The primary crashes under load.
    for number in 0..3 {
        servers.scene.create(&format!("during-{number}"), json!({})).await;
    }
    servers.primary.crash().await;
    servers.standby.promote().await;
    // Another change, which gets the version that the lost one had. So the version does not show that it was lost.
    let edit = "UPDATE accounts SET description = 'by hand' WHERE owner_name = 'disabled'";
    servers.standby.execute(DATABASE, edit).await;
    let state = "SELECT version || ' ' || enabled FROM accounts WHERE owner_name = 'disabled'";
    servers.answers(state, "2 true").await;
    servers.address.point_to(servers.standby.port());

    for (name, key) in &before {
        assert_eq!(servers.agreed(name).await, *key, "{name} has the keys that it had");
    }
    for name in ["rotated", "during-0", "during-1", "during-2"] {
        servers.agreed(name).await;
    }
    let rights = "SELECT role FROM account_roles JOIN accounts ON accounts.id = account_id WHERE owner_name = 'lost-0'";
    servers.answers(rights, "Customer").await;
    servers.scene.event("lost-0", "Recovered").await;
    let disabled = "SELECT enabled || description FROM accounts WHERE owner_name = 'disabled'";
    servers.answers(disabled, "false").await;
    // Nothing declares the account whose deletion was lost. It is an orphan.
    servers.answers("SELECT (deleted_at IS NOT NULL)::text FROM accounts WHERE owner_name = 'deleted'", "true").await;
    servers.scene.logged("continues from an earlier state").await;
    for name in ["rotated", "disabled", "lost-0", "lost-1", "during-0", "during-1", "during-2"] {
        servers.scene.ready(name).await;
    }

    servers.scene.stop().await;
    let doctor = Opsadmin::new().args(["doctor", "--on-cluster", "-n", servers.scene.namespace.name(), "--kubeconfig"]);
    let doctor = doctor.args([servers.scene.cluster.kubeconfig()]).args(["--database", &servers.standby.url(DATABASE)]);
    doctor.args(["--keyring"]).args([&servers.scene.keyring]).run().await.succeeded();
}
