//! PostgreSQL as a pod.

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Error};

use crate::support::wait::eventually;
use crate::world::{SOON, World, repository};

/// The password and the claim that `postgresql.yaml` names.
const PASSWORD: &str = "only-for-tests";
const CLAIM: &str = "data-postgresql-0";

/// A PostgreSQL server in a namespace.
pub struct Database {
    url: String,
}

impl Database {
    /// Starts a server, and waits until it answers.
    pub async fn start(world: &World, namespace: &str) -> Self {
        world.volume(namespace, CLAIM).await;
        let manifests = repository("tests/pods/postgresql.yaml").display().to_string();
        world.cluster.kubectl(namespace, &["apply", "--server-side", "-f", &manifests]).await.succeeded();
        // The cluster has no DNS.
        let address = ["get", "service", "postgresql", "-o", "jsonpath={.spec.clusterIP}"];
        let address = world.cluster.kubectl(namespace, &address).await.succeeded();
        let database = Self { url: format!("postgres://opsadmin:{PASSWORD}@{address}/postgres") };
        database.wait_until_it_answers(world, namespace).await;
        database
    }

    /// Returns the URL of the database, for pods and for the node.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Deletes the server's pod, and waits until the next pod answers. The volume stays.
    pub async fn restart(&self, world: &World, namespace: &str) {
        // `kubectl` waits until the pod is gone. Only then may the next one start.
        world.cluster.kubectl(namespace, &["delete", "pod", "postgresql-0"]).await.succeeded();
        self.wait_until_it_answers(world, namespace).await;
    }

    async fn wait_until_it_answers(&self, world: &World, namespace: &str) {
        eventually("PostgreSQL to answer", SOON, async || {
            let answer = async { PgConnection::connect(&self.url).await?.close().await };
            match answer.await {
                Ok(()) => Ok(()),
                Err(error) => Err(not_yet(world, namespace, error).await),
            }
        })
        .await;
    }
}

async fn not_yet(world: &World, namespace: &str, error: Error) -> String {
    let log = world.cluster.kubectl(namespace, &["logs", "postgresql-0", "--tail=20"]).await;
    format!("{error}\n{}\n{}", log.stdout + &log.stderr, world.state(namespace).await)
}
