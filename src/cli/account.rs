//! One account, as the command line names it.

use super::cluster::ClusterArgs;
use super::output::Output;
use super::text::display_name;
use crate::account::{Account, AccountId, AccountName, Life, Owner, comparable_name};
use crate::api::ApiAccount;
use crate::database::{AccountRegister, DatabaseError};
use crate::kube_error::with_advice;
use crate::reconcile::parse_namespace;
use anyhow::{Result, anyhow, bail};
use clap::Args;
use kube::Api;

/// The most accounts that an error tells of instead.
const NEAR: usize = 3;

/// What names are to be taken for: names of accounts, or of resources in a namespace.
#[derive(Debug, Args)]
pub struct NamedBy {
    /// The namespace of an ApiAccount: NAME is then the resource's, on the cluster of the kubeconfig or --cluster-id.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = parse_namespace)]
    pub namespace: Option<String>,

    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// One account.
#[derive(Debug, Args)]
pub struct AccountArgs {
    /// The account's name in OpsAdmin, or its id; with --namespace, the name of its ApiAccount.
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    by: NamedBy,
}

/// What a cluster has of an account.
#[derive(Debug)]
pub enum OnCluster {
    /// There is no cluster to ask.
    NotAsked,
    /// No such resource.
    Absent,
    /// The account's resource.
    Found(Box<ApiAccount>),
}

impl AccountArgs {
    /// The account.
    pub async fn find(&self, database: &dyn AccountRegister) -> Result<Account> {
        self.by.find(database, &self.name).await
    }

    /// The account's id, also of one that is gone, if it was named by that.
    pub async fn find_id(&self, database: &dyn AccountRegister) -> Result<AccountId> {
        // Of an account that is gone, or has a value that cannot be read, the journal still tells.
        match (self.by.id(&self.name), self.find(database).await) {
            (Some(id), Err(_)) => Ok(id),
            (_, found) => Ok(found?.id),
        }
    }

    /// What its cluster has under the resource's name, if that is how the account was named.
    pub async fn resource(&self) -> Result<OnCluster> {
        match (&self.by.namespace, self.by.cluster.given_id()) {
            (Some(namespace), None) => {
                let accounts: Api<ApiAccount> = Api::namespaced(self.by.cluster.client()?, namespace);
                let found = accounts.get_opt(&self.name).await.map_err(|error| {
                    let said =
                        with_advice(&error, "it takes the right to get it, or --cluster-id instead of the cluster");
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
    /// The account of this name.
    pub async fn find(&self, database: &dyn AccountRegister, name: &str) -> Result<Account> {
        if let Some(namespace) = &self.namespace {
            let cluster = self.cluster.id_without_client().await?;
            let owner = Owner { cluster, namespace: namespace.clone(), name: name.to_owned() };
            return database.find_by_owner(&owner).await?.ok_or_else(|| {
                anyhow!(
                    "the account database has no account of the ApiAccount {}/{} of the cluster {}; one that was purged is found by its id alone",
                    display_name(namespace),
                    display_name(name),
                    owner.cluster,
                )
            });
        }
        by_name_or_id(database, name).await
    }

    fn id(&self, name: &str) -> Option<AccountId> {
        self.namespace.is_none().then(|| AccountId::parse(name)).flatten()
    }
}

/// The account of this name in OpsAdmin, or of this id.
pub async fn by_name_or_id(database: &dyn AccountRegister, name: &str) -> Result<Account> {
    // An id is one account's for ever, and a name may be made to look like it.
    if let Some(id) = AccountId::parse(name)
        && let Some(account) = database.find_by_id(id).await?
    {
        return Ok(account);
    }
    match database.find_by_name(&AccountName::parse(name.trim())?).await? {
        Some(account) => Ok(account),
        None => bail!("there is no account {name:?}{}; `opsadmin get` lists them", near(database, name).await),
    }
}

/// The accounts of a list that can be read, and whether that is all of them. What is wrong with another is printed, and keeps
/// nobody from seeing these.
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

/// What may have been meant by a name that no account has, in words that go on the sentence.
async fn near(database: &dyn AccountRegister, name: &str) -> String {
    // What cannot be read is no reason to say anything else than that this one is not there.
    let accounts = database.list().await.unwrap_or_default();
    let said = accounts.iter().flatten().filter_map(|account| match (&account.owner, account.life) {
        (_, Life::Deleted { .. }) if comparable_name(&account.settings.name) == comparable_name(name) => {
            Some(format!("a deleted one had the name, and its id is {}", account.id))
        }
        (Some(owner), _) if owner.name == name => {
            let (resource, id) = (display_name(&format!("{}/{}", owner.namespace, owner.name)), account.id);
            Some(format!(
                "the ApiAccount {resource} declares {}, and its id is {id}",
                display_name(&account.settings.name)
            ))
        }
        _ => None,
    });
    said.take(NEAR).flat_map(|said| ["; ".to_owned(), said]).collect()
}
