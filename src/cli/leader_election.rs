//! The options of the leader election.

use super::cluster::ClusterArgs;
use super::database::DatabaseArgs;
use super::environment::SystemEnvironment;
use crate::controller::LeaseSettings;
use crate::reconcile::{is_dns_subdomain, parse_namespace, random};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use kube::Client;
use std::fmt::Write as _;

/// The options that decide which of several controllers writes.
#[derive(Debug, Args)]
pub struct LeaderElectionArgs {
    /// Whether several controllers elect the one that writes. auto: on in a pod that uses its service account and
    /// PostgreSQL. Needs PostgreSQL.
    #[arg(long, value_name = "WHEN", env = "OPSADMIN_LEADER_ELECTION", default_value = "auto")]
    leader_election: When,

    /// The namespace of the Lease. Default: the namespace of the pod.
    #[arg(long, value_name = "NAMESPACE", env = "OPSADMIN_LEASE_NAMESPACE", value_parser = parse_namespace)]
    lease_namespace: Option<String>,

    /// The name of the Lease. Controllers with the same Lease elect one leader. Controllers for other namespaces or for
    /// another OpsAdmin, in the same namespace, need another name.
    #[arg(
        long,
        value_name = "NAME",
        env = "OPSADMIN_LEASE_NAME",
        default_value = "opsadmin-operator",
        value_parser = parse_lease_name
    )]
    lease_name: String,
}

/// When to hold an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    /// In a pod with PostgreSQL.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl LeaderElectionArgs {
    /// Returns the Lease of the election; `None`: there is no election.
    ///
    /// # Errors
    /// The election is on, and the database is an SQLite file, or no namespace is known.
    pub fn lease(
        &self,
        cluster: &ClusterArgs,
        client: &Client,
        database: &DatabaseArgs,
    ) -> Result<Option<LeaseSettings>> {
        let is_own_pod = cluster.is_own_pod();
        match self.leader_election {
            When::Off => return Ok(None),
            When::Auto if database.is_sqlite() || !is_own_pod => return Ok(None),
            When::On if database.is_sqlite() => bail!(
                "--leader-election on needs PostgreSQL: an SQLite file has one writer; run one replica with --leader-election auto"
            ),
            When::Auto | When::On => {}
        }
        let namespace = match &self.lease_namespace {
            Some(namespace) => namespace.clone(),
            None if is_own_pod => client.default_namespace().to_owned(),
            None => bail!("the leader election needs --lease-namespace outside of a pod"),
        };
        let mut identity = std::env::var("POD_NAME").or_else(|_| whoami::hostname()).unwrap_or_default();
        identity.push('_');
        for byte in random::<8>(&SystemEnvironment)? {
            write!(identity, "{byte:02x}")?;
        }
        Ok(Some(LeaseSettings { namespace, name: self.lease_name.clone(), identity }))
    }
}

fn parse_lease_name(text: &str) -> Result<String, String> {
    if is_dns_subdomain(text) {
        return Ok(text.to_owned());
    }
    Err("a Lease has a name of lower-case letters, digits, - and .".to_owned())
}
