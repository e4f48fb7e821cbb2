//! `opsadmin apply`: creates, updates and deletes accounts as manifests declare them, without a cluster.

use super::LOCAL_CLUSTER;
use super::allow_adoption::OnUnassigned;
use super::applied::{Applied, Stop};
use super::confirm::ConfirmArgs;
use super::creation::CreationArgs;
use super::database::{DatabaseArgs, KeyringArgs, OnUnknownAffiliate};
use super::environment::SystemEnvironment;
use super::manifests::{ManifestArgs, count_accounts};
use super::output::{Format, Output};
use super::prune::{PruneArgs, confirm};
use super::retention::RetentionArgs;
use super::revocation::RevocationArgs;
use crate::account::{Account, ClusterId, Owner};
use crate::database::{AccountAdmin, AccountDatabase, IsDeclared, Purged, Unpurged};
use crate::manifests::Manifest;
use crate::reconcile::{AlwaysCurrent, Done, Environment, NotReady, Outcome, Reconciler};
use crate::run::{FolderGuard, PruneSet, Run, Work};
use crate::secrets::directory::Directory;
use anyhow::Result;
use async_trait::async_trait;
use clap::Args;
use jiff::Timestamp;
use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// The number of accounts in a row for which the database does not answer before `apply` stops. Each of them waits for
/// the connection timeout, so trying all accounts would take too long.
const GIVE_UP_AFTER: usize = 3;

/// Create and update accounts as manifests declare them, without a cluster, and write their keys to Secret manifests.
///
/// Every manifest is checked first: if one is wrong, nothing is applied. Existing accounts are updated where they
/// differ, and keep their keys. Only the owner of the Secret manifests can read them. They are ready for
/// `kubectl apply`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin apply -f accounts/ --secrets ./secrets\n  opsadmin apply -f acme.yaml --secrets ./secrets \\\n    --database postgres://opsadmin@db.example.com/opsadmin \\\n    --keyring opsadmin.keyring"
)]
pub struct Apply {
    #[command(flatten)]
    manifests: ManifestArgs,

    /// The folder for the Secret manifests. A missing folder is created.
    #[arg(long, value_name = "FOLDER")]
    secrets: PathBuf,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    keyring: KeyringArgs,

    /// The cluster id that owns the accounts in the database. The accounts of a controller belong to the id of its
    /// cluster, and `apply` does not change them.
    #[arg(long, value_name = "ID", env = "OPSADMIN_CLUSTER_ID", default_value = LOCAL_CLUSTER, value_parser = ClusterId::parse)]
    cluster_id: ClusterId,

    /// What to do when OpsAdmin does not know an affiliate.
    #[arg(long, value_name = "ACTION", default_value = "refuse")]
    unknown_affiliate: OnUnknownAffiliate,

    /// Who may adopt an account that was imported for no namespace: nobody (refuse), or the first ApiAccount that
    /// declares its name (adopt).
    #[arg(long, value_name = "ACTION", default_value = "adopt")]
    unassigned_accounts: OnUnassigned,

    #[command(flatten)]
    prune: PruneArgs,

    #[command(flatten)]
    revocation: RevocationArgs,

    #[command(flatten)]
    retention: RetentionArgs,

    #[command(flatten)]
    creation: CreationArgs,

    #[command(flatten)]
    confirm: ConfirmArgs,

    /// How to print what was done.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

impl Apply {
    /// Applies the manifests, and prints what was done for each account.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let cluster = &self.cluster_id;
        let Some(manifests) = self.manifests.read(cluster, output) else {
            output.note("nothing was applied");
            return Ok(ExitCode::FAILURE);
        };
        let database = self.database.open()?;
        let result = self.apply(&manifests, &database, cluster, output).await;
        // Closing an SQLite database merges its write-ahead log, so that one file remains.
        database.close().await;
        result
    }

    async fn apply(
        &self,
        manifests: &[Manifest],
        database: &Arc<dyn AccountAdmin>,
        cluster: &ClusterId,
        output: &mut Output,
    ) -> Result<ExitCode> {
        let started_at = SystemEnvironment.now();
        let (reconciler, folder) = self.reconciler(manifests, Arc::clone(database)).await?;
        let prune_set = self.prune.prune_set(manifests, database.as_ref(), cluster, Some(&folder)).await?;
        confirm(&prune_set, &self.confirm, output)?;
        let work = Enforce { reconciler, prune_set: &prune_set };
        let mut run = Run::new(manifests, &prune_set, database.as_ref());
        let mut applied = Applied::new(self.output, manifests.len() + prune_set.len());
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        let (mut outages, mut is_narrower) = (0, false);
        loop {
            let turn = match run.next(&work).await {
                Ok(None) => break,
                Ok(Some(turn)) => turn,
                Err(error) => return applied.stop(Stop::ReadFailed(error), output),
            };
            // Ctrl-C takes effect between two accounts, never within one.
            if futures::poll!(interrupted.as_mut()).is_ready() {
                return applied.stop(Stop::Interrupted, output);
            }
            let (outcome, report) = run.perform(turn, &work).await;
            is_narrower |= outcome.done.iter().any(Done::may_narrow_access);
            if let Some(report) = report {
                applied.push(&outcome, &report, output)?;
            }
            outages = if is_away(&outcome) { outages + 1 } else { 0 };
            if outages == GIVE_UP_AFTER {
                return applied.stop(Stop::DatabaseAway, output);
            }
        }
        if is_narrower {
            self.revocation.in_force().await;
        }
        let code = applied.finish(output)?;
        let declared: HashSet<&Owner> = manifests.iter().map(|manifest| &manifest.desired.owner).collect();
        self.purge(database.as_ref(), cluster, &|owner| declared.contains(owner), started_at, output).await;
        self.trim_journal(database.as_ref(), started_at, output).await;
        Ok(code)
    }

    /// Purges accounts that were deleted longer ago than `--deleted-account-retention`, and none that this run deleted.
    /// An error is printed and does not fail the run: the declared accounts are already in sync, and the next run
    /// purges again.
    async fn purge(
        &self,
        database: &dyn AccountDatabase,
        cluster: &ClusterId,
        is_declared: IsDeclared<'_>,
        started_at: Timestamp,
        output: &Output,
    ) {
        let Ok(before) = started_at.checked_sub(self.retention.deleted_account_retention) else {
            return;
        };
        match database.purge(cluster, is_declared, before, SystemEnvironment.now()).await {
            Ok(Purged { accounts, refused }) => {
                if accounts > 0 {
                    output.note(format!(
                        "purged {} that had been deleted for longer than --deleted-account-retention",
                        count_accounts(accounts)
                    ));
                }
                for Unpurged { account, owner, reason } in refused {
                    output.note(format!(
                        "the deleted account {account} of {}/{} cannot be purged: {reason}; remove what refers to it",
                        owner.namespace, owner.name
                    ));
                }
            }
            Err(error) => output.note(format!(
                "accounts that were deleted long ago could not be purged: {error}; the next run does it"
            )),
        }
    }

    /// Removes journal entries that are older than `--journal-retention`.
    async fn trim_journal(&self, database: &dyn AccountDatabase, started_at: Timestamp, output: &Output) {
        let Some(before) = self.retention.journal_retention.and_then(|kept| started_at.checked_sub(kept).ok()) else {
            return;
        };
        match database.trim_journal(before).await {
            Ok(0) => {}
            Ok(1) => output.note("removed 1 entry of the journal that was older than --journal-retention"),
            Ok(entries) => {
                output
                    .note(format!("removed {entries} entries of the journal that were older than --journal-retention"));
            }
            Err(error) => {
                output.note(format!("old journal entries could not be removed: {error}; the next run removes them"));
            }
        }
    }

    async fn reconciler(
        &self,
        manifests: &[Manifest],
        database: Arc<dyn AccountAdmin>,
    ) -> Result<(Reconciler, Arc<Directory>)> {
        // Keyring and folder are opened first, so that an error in them leaves the database without tables.
        let keyring = self.keyring.load(&self.database, database.as_ref()).await?;
        let folder = Arc::new(Directory::open(&self.secrets)?);
        database.migrate().await?;
        keyring.check(&database.sealing_keys_in_use().await?)?;
        let accounts = Arc::clone(&database) as Arc<dyn AccountDatabase>;
        let reconciler = Reconciler {
            creations: Arc::new(FolderGuard::new(manifests, &folder, accounts, self.creation.confirm_creation)),
            secrets: Arc::clone(&folder) as _,
            database,
            keyring: keyring.into(),
            unknown_affiliate: self.unknown_affiliate.into(),
            unassigned: self.unassigned_accounts.into(),
            actor: "apply".to_owned(),
            environment: Arc::new(SystemEnvironment),
            declarations: Arc::new(AlwaysCurrent),
        };
        Ok((reconciler, folder))
    }
}

/// Brings each account to its declared state.
struct Enforce<'a> {
    reconciler: Reconciler,
    prune_set: &'a PruneSet,
}

#[async_trait]
impl Work for Enforce<'_> {
    async fn reconcile(&self, manifest: &Manifest, known: Option<Account>) -> Outcome {
        self.reconciler.reconcile(&manifest.desired, None, known).await
    }

    async fn prune(&self, owner: &Owner) -> Outcome {
        self.prune_set.delete(owner, &self.reconciler).await
    }
}

fn is_away(outcome: &Outcome) -> bool {
    matches!(&outcome.not_ready, Some(NotReady::Database(error)) if error.is_unavailable())
}
