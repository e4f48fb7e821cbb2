//! The arguments that name one account.

use super::cluster::ClusterArgs;
use super::lookup::{self, Resource};
use super::output::Output;
use super::text::display_name;
use crate::account::{Account, AccountId, ClusterId};
use crate::api::ApiAccount;
use crate::database::{AccountAdmin, DatabaseError};
use crate::kube_error::with_advice;
use crate::reconcile::parse_namespace;
use anyhow::{Result, anyhow};
use clap::Args;
use kube::Api;

/// How names are read: as names of accounts, or as names of resources in a namespace.
#[derive(Debug, Args)]
pub struct NamedBy {
    /// The namespace of an ApiAccount: NAME is then the resource's, on the cluster of the kubeconfig or --cluster-id, or on the
    /// only one that has it where there is no kubeconfig.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = parse_namespace)]
    pub namespace: Option<String>,

    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// The name of one account.
#[derive(Debug, Args)]
pub struct AccountArgs {
    /// The account's name in OpsAdmin, its id, its API key, or its ApiAccount as NAME or NAMESPACE/NAME; with --namespace, the
    /// name of its ApiAccount.
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    by: NamedBy,
}

/// The resource of an account on a cluster.
#[derive(Debug)]
pub enum OnCluster {
    /// The account was not named by its resource on a cluster.
    NotAsked,
    /// The cluster has no such resource.
    Absent,
    /// The account's resource.
    Found(Box<ApiAccount>),
}

impl AccountArgs {
    /// Finds the account.
    pub async fn find(&self, database: &dyn AccountAdmin) -> Result<Account> {
        self.by.find(database, &self.name).await
    }

    /// Finds the account's id. An id is returned as it is, also for an account that was purged.
    pub async fn find_id(&self, database: &dyn AccountAdmin) -> Result<AccountId> {
        // The journal has entries of accounts that were purged or cannot be read.
        match (self.by.id(&self.name), self.find(database).await) {
            (Some(id), Err(_)) => Ok(id),
            (_, found) => Ok(found?.id),
        }
    }

    /// Reads the account's resource from the cluster, if the account was named by it.
    pub async fn resource(&self) -> Result<OnCluster> {
        match (&self.by.namespace, self.by.cluster.given_id()) {
            (Some(namespace), None) => {
                let Some(client) = self.by.cluster.client_if_any()? else { return Ok(OnCluster::NotAsked) };
                let accounts: Api<ApiAccount> = Api::namespaced(client, namespace);
                let found = accounts.get_opt(&self.name).await.map_err(|error| {
                    let said =
                        with_advice(&error, "this needs the right to get it, or --cluster-id instead of the cluster");
                    anyhow!(
                        "cannot read the ApiAccount {}/{}: {said}",
                        display_name(namespace),
                        display_name(&self.name)
                    )
                });
                Ok(found?.map_or(OnCluster::Absent, |found| OnCluster::Found(Box::new(found))))
            }
            _ => Ok(OnCluster::NotAsked),
        }
    }
}

impl NamedBy {
    /// Finds the account of this name.
    pub async fn find(&self, database: &dyn AccountAdmin, name: &str) -> Result<Account> {
        let Some(namespace) = &self.namespace else {
            return lookup::by_text(database, name, self.cluster.given_id(), lookup::BY_OPTION).await;
        };
        let cluster = self.cluster.id_if_any().await?;
        let cluster = cluster.as_ref().map(ClusterId::as_str);
        lookup::by_resource(database, &Resource { cluster, namespace: Some(namespace), name }).await
    }

    fn id(&self, name: &str) -> Option<AccountId> {
        self.namespace.is_none().then(|| AccountId::parse(name)).flatten()
    }
}

/// Returns the accounts of a list that can be read, and whether that is all of them. Prints why another one cannot be read.
pub fn readable(listed: Vec<Result<Account, DatabaseError>>, output: &Output) -> (Vec<Account>, bool) {
    let (mut accounts, mut is_whole) = (Vec::new(), true);
    for account in listed {
        match account {
            Ok(account) => accounts.push(account),
            Err(error) => {
                output.note(format!("left out an account: {error}"));
                is_whole = false;
            }
        }
    }
    (accounts, is_whole)
}
