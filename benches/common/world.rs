//! A control plane, a database and a keyring for one benchmark, and what all programs of it have done so far.
#![allow(dead_code, reason = "each benchmark uses its own part of it")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::support::cluster::{Cluster, SUITE_USER_AGENT, SeparateCluster};
use super::support::opsadmin::{Opsadmin, RunningController, spawn_controller};
use super::support::postgres::Postgres;
use super::support::process::Folder;
use super::support::proxy::Proxy;

const STATEMENTS: &str = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements";

/// All of it ends when this value is dropped.
pub struct World {
    cluster: SeparateCluster,
    postgres: Postgres,
    keyring: PathBuf,
    // Keeps the keyring as long as the world exists.
    _folder: Arc<Folder>,
}

/// How often each kind of write was sent, such as `patch apiaccounts/status`.
pub type Writes = BTreeMap<String, usize>;

impl World {
    /// Starts all of it, with these namespaces.
    pub async fn start(namespaces: &[&str]) -> Self {
        let cluster = Cluster::of_its_own().await;
        cluster.install_definitions().await;
        for namespace in namespaces {
            cluster.kubectl("", &["create", "namespace", namespace]).await.succeeded();
        }
        let folder = Folder::new("fleet");
        let keyring = folder.path().join("opsadmin.keyring");
        let init = Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]);
        init.run().await.succeeded();
        let postgres = Postgres::counting().await;
        postgres.execute("postgres", "CREATE EXTENSION pg_stat_statements").await;
        Self { cluster, postgres, keyring, _folder: folder }
    }

    /// A client that is not counted.
    pub async fn client(&self) -> Client {
        self.cluster.client().await
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The URL of the account database.
    pub fn database(&self) -> String {
        self.postgres.url("postgres")
    }

    /// Starts a controller for this namespace, with further arguments.
    pub fn controller(&self, namespace: &str, arguments: &[&str]) -> RunningController {
        spawn_controller(self.cluster.kubeconfig(), &[namespace], &self.database(), &self.keyring, arguments)
    }

    /// Starts a proxy for the API server, which can end watches as expired.
    pub async fn proxy(&self) -> Proxy {
        Proxy::new(self.cluster.kubeconfig(), &self.database()).await
    }

    /// Starts a controller for this namespace behind a proxy for the API server. It reaches the database directly.
    pub fn controller_behind(&self, proxy: &Proxy, namespace: &str) -> RunningController {
        spawn_controller(proxy.kubeconfig(), &[namespace], &self.database(), &self.keyring, &[])
    }

    /// Returns what the controllers so far have written in this namespace.
    pub fn writes(&self, namespace: &str) -> Writes {
        let requests = self.cluster.audit(namespace).expect("the cluster is the benchmark's own");
        let mut writes = Writes::new();
        for request in requests.iter().filter(|request| request.is_write() && request.user_agent != SUITE_USER_AGENT) {
            let slash = if request.subresource.is_empty() { "" } else { "/" };
            let kind = format!("{} {}{slash}{}", request.verb, request.resource, request.subresource);
            *writes.entry(kind).or_default() += 1;
        }
        writes
    }

    /// Returns how many requests of the controllers so far have read a single object of this namespace.
    pub fn single_reads(&self, namespace: &str) -> usize {
        let requests = self.cluster.audit(namespace).expect("the cluster is the benchmark's own");
        requests.iter().filter(|request| request.verb == "get" && request.user_agent != SUITE_USER_AGENT).count()
    }

    /// Returns how many statements the database has run so far, those for the beginnings and ends of transactions too.
    pub async fn statements(&self) -> i64 {
        self.number(STATEMENTS).await
    }

    /// Returns the size of the database in bytes.
    pub async fn database_bytes(&self) -> i64 {
        self.number("SELECT pg_database_size(current_database())").await
    }

    /// Returns the number that a query finds.
    pub async fn number(&self, query: &'static str) -> i64 {
        let mut connection = PgConnection::connect(&self.database()).await.expect("the database answers");
        let number = sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("the database answers");
        connection.close().await.expect("the connection is closed");
        number
    }
}
