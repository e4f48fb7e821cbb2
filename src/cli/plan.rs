//! `opsadmin plan`: shows what `apply` or the controller would do, and changes nothing.

use super::LOCAL_CLUSTER;
use super::allow_adoption::OnUnassigned;
use super::cluster::ClusterArgs;
use super::creation::CreationArgs;
use super::database::{DatabaseArgs, KeyringArgs, OnUnknownAffiliate};
use super::environment::SystemEnvironment;
use super::manifests::{DEFAULT_NAMESPACE, ManifestArgs};
use super::output::Output;
use super::planned::{PlanFormat, Planned};
use super::progress::Progress;
use super::prune::PruneArgs;
use crate::account::{Account, ClusterId, KeyPair, Mark, Owner};
use crate::database::{AccountDatabase, DryRunDatabase, Keyring};
use crate::manifests::Manifest;
use crate::reconcile::Environment as _;
use crate::reconcile::{
    AllowEveryCreation, AlwaysCurrent, CreationGuard, Desired, Outcome, Reconciler, deletions_count_since,
    random_secret,
};
use crate::run::{ClusterState, Depth, ExistingAccounts, FolderGuard, PruneSet, Query, Run, Summary, Turn, Work};
use crate::secrets::{DryRunSecrets, IssuedKeys, SecretManifest, SecretStore, directory::Directory};
use anyhow::Result;
use async_trait::async_trait;
use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// The exit code of `--detailed-exitcode` when the plan has changes.
const CHANGES: u8 = 2;

/// Returns the Secret that the account has if it was written after the last change of the keys. It contains no real
/// secret key, because a plan reads accounts without their secret keys.
fn secret_as_written(desired: &Desired, account: &Account) -> Option<Box<Secret>> {
    let key = account.active_key()?;
    let keys = IssuedKeys { pair: KeyPair::without_secret(key.id, key.api_key.clone()), mark: Mark::unknown() };
    Some(Box::new(SecretManifest::new(&desired.secret, desired.identity(), &keys).to_secret()))
}

/// Returns a warning for an account whose keys were rotated lately: without reading its Secret, the plan does not
/// know whether the Secret has the new key pair.
fn rotation_warning(account: &Account) -> Option<String> {
    let active = account.active_key().filter(|_| account.keys.len() > 1)?;
    Some(format!(
        "its keys were rotated at {:.0}; whether its Secret has the new pair {} was not looked at",
        active.created, active.id
    ))
}

const NAMESPACE_HELP: &str = "The namespace of resources that name no namespace. Default: default; with --on-cluster, the namespace of the kubeconfig's context";
const CLUSTER_ID_HELP: &str = "The cluster id that owns the accounts in the database: the id that `apply` or the controller runs with. Default: local, as for `apply`; with --on-cluster, the UID of the cluster's namespace kube-system, as for a controller that runs there";
const KEYRING_HELP: &str = "The keyring that seals secret keys in the database. With --secrets, the plan needs it to compare contents; default: the file beside the SQLite file, with the ending .keyring. With --on-cluster, the plan uses it only if it is given, and then reads the contents of Secrets. Without it, the plan reads only their metadata, and assumes that their contents are as they were written";
const PRUNE_HELP: &str = "Also show what happens to accounts of this --cluster-id that no manifest declares. Then name all manifests: an account without a manifest is pruned. With --on-cluster, show what the controller does when the resources of these accounts are deleted there, by their deletionPolicy";

/// Show what `apply` or the controller would do, and change nothing.
///
/// The plan runs the same code as `apply` and the controller, on a database and Secrets that are only read. Rights to
/// read are enough. For the accounts of a controller, give --on-cluster: the plan then reads its ApiAccounts and
/// Secrets too. For the accounts of `apply`, give --secrets. Without either option, no Secret is read, and the plan
/// says so. It then assumes that the Secret of each existing account is as it was last written and is written again
/// with new keys, and that the Secret of a deleted account was deleted with it.
#[derive(Debug, Args)]
#[command(
    mut_arg("namespace", |namespace| namespace.help(NAMESPACE_HELP)),
    mut_arg("cluster_id", |id| id.help(CLUSTER_ID_HELP)),
    mut_arg("kubeconfig", |file| file.requires("on_cluster")),
    mut_arg("context", |name| name.requires("on_cluster")),
    mut_arg("keyring", |file| file.help(KEYRING_HELP)),
    mut_arg("prune", |prune| prune.help(PRUNE_HELP)),
    after_help = "Examples:\n  opsadmin plan -f accounts/ --on-cluster -o markdown \\\n    --database postgres://reader@db.example.com/opsadmin > comment.md\n  opsadmin plan -f accounts/ --secrets ./secrets\n  opsadmin plan -f accounts/ --detailed-exitcode \\\n    --cluster-id production \\\n    --database postgres://reader@db.example.com/opsadmin"
)]
pub struct Plan {
    #[command(flatten)]
    manifests: ManifestArgs,

    /// Plan what the controller of the kubeconfig's cluster does after the manifests are applied there. The ApiAccounts
    /// and the metadata of the Secrets are listed, and nothing is written.
    #[arg(long, conflicts_with = "secrets")]
    on_cluster: bool,

    /// With --on-cluster: do not list Secrets, for users who must not have the right to read them. The plan assumes
    /// that each Secret that the status of an ApiAccount names exists as it was written. A foreign Secret in its place
    /// is not seen.
    #[arg(long, requires = "on_cluster")]
    without_secrets: bool,

    /// The folder of the Secret manifests, to compare them with the accounts. Needs the keyring.
    #[arg(long, value_name = "FOLDER")]
    secrets: Option<PathBuf>,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    keyring: KeyringArgs,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// What to do when OpsAdmin does not know an affiliate.
    #[arg(long, value_name = "ACTION", default_value = "refuse")]
    unknown_affiliate: OnUnknownAffiliate,

    /// Who may adopt an account that was imported for no namespace: nobody (refuse), or the first ApiAccount that
    /// declares its name (adopt). Default: adopt, as for `apply`; with --on-cluster refuse, as for a controller.
    #[arg(long, value_name = "ACTION")]
    unassigned_accounts: Option<OnUnassigned>,

    #[command(flatten)]
    prune: PruneArgs,

    #[command(flatten)]
    creation: CreationArgs,

    /// Exit with 0 if there is nothing to do, 2 if there is, and 1 for an error or a refusal.
    #[arg(long)]
    detailed_exitcode: bool,

    /// How to print the plan.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: PlanFormat,
}

impl Plan {
    /// Prints the plan, and returns the exit code.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let client = if self.on_cluster { Some(self.cluster.client()?) } else { None };
        let cluster = match &client {
            Some(client) => self.cluster.id(client).await?,
            None => self.cluster.given_id().cloned().map_or_else(|| ClusterId::parse(LOCAL_CLUSTER), Ok)?,
        };
        let namespace = client.as_ref().map_or(DEFAULT_NAMESPACE, Client::default_namespace);
        let Some(manifests) = self.manifests.read_in(namespace, &cluster, output) else {
            return Ok(ExitCode::FAILURE);
        };
        let database =
            self.database.open_read_only_if_exists().await?.map(|database| database as Arc<dyn AccountDatabase>);
        let summary = self.plan(&manifests, database.clone(), &cluster, client, output).await;
        if let Some(database) = database {
            database.close().await;
        }
        Ok(match summary? {
            summary if summary.refuse > 0 => ExitCode::FAILURE,
            summary if summary.changes() > 0 && self.detailed_exitcode => ExitCode::from(CHANGES),
            _ => ExitCode::SUCCESS,
        })
    }

    async fn plan(
        &self,
        manifests: &[Manifest],
        database: Option<Arc<dyn AccountDatabase>>,
        cluster: &ClusterId,
        client: Option<Client>,
        output: &mut Output,
    ) -> Result<Summary> {
        let (database, keyring) = self.dry_run(database).await?;
        let database = Arc::new(database);
        let folder = self.secrets.as_deref().map(Directory::open_to_read).transpose()?.map(Arc::new);
        let prune_set = self.prune.prune_set(manifests, database.as_ref(), cluster, folder.as_deref()).await?;
        let on_cluster = match client {
            Some(client) => Some(self.read_cluster(client, cluster, manifests, &prune_set, database.as_ref()).await?),
            None => None,
        };
        let accounts = Arc::clone(&database) as Arc<dyn AccountDatabase>;
        let creations: Arc<dyn CreationGuard> = match (&on_cluster, &folder) {
            (Some(on_cluster), _) => Arc::new(on_cluster.creations(accounts)),
            (None, Some(folder)) => {
                Arc::new(FolderGuard::new(manifests, folder, accounts, self.creation.confirm_creation))
            }
            (None, None) => Arc::new(AllowEveryCreation),
        };
        let secrets = Arc::new(match (&on_cluster, folder) {
            (Some(on_cluster), _) => on_cluster.secrets(),
            (None, Some(folder)) => DryRunSecrets::new(folder),
            (None, None) => DryRunSecrets::unseen(),
        });
        let unassigned = if on_cluster.is_some() { OnUnassigned::Refuse } else { OnUnassigned::Adopt };
        let reconciler = Reconciler {
            database: Arc::clone(&database) as Arc<dyn AccountDatabase>,
            secrets: Arc::clone(&secrets) as Arc<dyn SecretStore>,
            keyring: keyring.into(),
            unknown_affiliate: self.unknown_affiliate.into(),
            unassigned: self.unassigned_accounts.unwrap_or(unassigned).into(),
            actor: "plan".to_owned(),
            environment: Arc::new(SystemEnvironment),
            declarations: Arc::new(AlwaysCurrent),
            creations,
        };
        let work = DryRun {
            reconciler,
            prune_set: &prune_set,
            on_cluster,
            database: Arc::clone(&database),
            secrets,
            compares_secrets: self.compares_secrets(),
        };
        let mut run = Run::new(manifests, &prune_set, database.as_ref());
        let mut planned = Planned::new(self.output, self.compares_secrets());
        let mut progress = Progress::new(manifests.len(), "accounts planned");
        loop {
            let turn = match run.next(&work).await {
                Ok(None) => break,
                Ok(Some(turn)) => turn,
                Err(error) => {
                    drop(progress);
                    planned.abort(output)?;
                    return Err(error.into());
                }
            };
            if let (_, Some(report)) = run.perform(turn, &work).await {
                planned.push(&report, &mut progress, output)?;
                if matches!(turn, Turn::Declared(_)) {
                    progress.step();
                }
            }
        }
        drop(progress);
        planned.finish(output)
    }

    async fn read_cluster(
        &self,
        client: Client,
        cluster: &ClusterId,
        manifests: &[Manifest],
        prune_set: &PruneSet,
        database: &DryRunDatabase,
    ) -> Result<ClusterState> {
        let since = deletions_count_since(SystemEnvironment.now());
        let deletions = if self.prune.prune { Some(database.deletions(cluster, since).await?) } else { None };
        let query = Query { client, cluster, secrets: self.depth(), brake: self.prune.deletion_brake, deletions };
        ClusterState::read(query, manifests, prune_set).await
    }

    /// Whether Secrets are read, so that what is planned for them follows from what they are.
    fn compares_secrets(&self) -> bool {
        if self.on_cluster { !self.without_secrets } else { self.secrets.is_some() }
    }

    /// How much of a cluster's Secrets is read.
    fn depth(&self) -> Depth {
        match &self.keyring.keyring {
            _ if self.without_secrets => Depth::Nothing,
            Some(_) => Depth::Contents,
            None => Depth::Metadata,
        }
    }

    /// Returns a dry-run database, and the keyring that opens the secret keys of its accounts.
    async fn dry_run(&self, database: Option<Arc<dyn AccountDatabase>>) -> Result<(DryRunDatabase, Keyring)> {
        let reads_contents = self.secrets.is_some() || (self.on_cluster && self.depth() == Depth::Contents);
        let keyring =
            if reads_contents { self.keyring.load_read_only(&self.database, database.as_deref()).await? } else { None };
        let Some(keyring) = keyring else {
            let keyring = Keyring::placeholder(random_secret(&SystemEnvironment)?);
            return Ok((DryRunDatabase::without_keys(database, keyring.clone()), keyring));
        };
        let database = DryRunDatabase::new(database);
        keyring.check(&database.sealing_keys_in_use().await?)?;
        Ok((database, keyring))
    }
}

/// Reconciles each account over a database and Secrets that are only read.
struct DryRun<'a> {
    reconciler: Reconciler,
    prune_set: &'a PruneSet,
    on_cluster: Option<ClusterState>,
    database: Arc<DryRunDatabase>,
    secrets: Arc<DryRunSecrets>,
    compares_secrets: bool,
}

#[async_trait]
impl Work for DryRun<'_> {
    fn begin_batch(&self, batch: &[&Manifest], known: &ExistingAccounts) {
        let assumed = batch.iter().filter_map(|manifest| {
            let account = known.with_secret(&manifest.desired.owner)?;
            Some((manifest.desired.secret.at.clone(), secret_as_written(&manifest.desired, account)))
        });
        self.secrets.assume(assumed.collect());
    }

    async fn reconcile(&self, manifest: &Manifest, known: Option<Account>) -> Outcome {
        match &self.on_cluster {
            Some(on_cluster) => on_cluster.reconcile(manifest, known, &self.reconciler).await,
            None => self.reconciler.reconcile(&manifest.desired, None, known).await,
        }
    }

    async fn prune(&self, owner: &Owner) -> Outcome {
        match &self.on_cluster {
            Some(on_cluster) => on_cluster.prune(owner, &self.reconciler).await,
            None => self.prune_set.delete(owner, &self.reconciler).await,
        }
    }

    fn warning(&self, known: Option<&Account>) -> Option<String> {
        known.filter(|_| !self.compares_secrets).and_then(rotation_warning)
    }

    /// Each account is declared once, so that only those to which nothing was done are read again.
    fn end_batch(&self) {
        self.database.compact();
        self.secrets.forget_contents();
    }
}
