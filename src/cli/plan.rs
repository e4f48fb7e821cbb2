//! `opsadmin plan`: what `apply` or the controller would do, without doing it.

use super::LOCAL_CLUSTER;
use super::database::{DatabaseArgs, KeyringArgs, OnUnknownAffiliate, new_keyring};
use super::known::{BATCH, Known};
use super::manifests::ManifestArgs;
use super::output::Output;
use super::planned::{PlanFormat, Planned};
use super::progress::Progress;
use super::prune::PruneArgs;
use super::report::{AccountReport, Summary};
use super::surroundings::Machine;
use crate::account::ClusterId;
use crate::database::{AccountDatabase, Keyring, Rehearsal};
use crate::manifests::Manifest;
use crate::reconcile::Reconciler;
use crate::secrets::{self, SecretStore, directory::Directory};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// The exit code that says that there is something to do.
const CHANGES: u8 = 2;

/// Show what `apply` or the controller would do, and change nothing.
///
/// The same code runs that would do it, over a database and Secrets that are only read; rights to read the database are
/// enough. Without --secrets no Secret is looked at and no keyring is needed: Secrets of accounts that exist are taken to
/// be right.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin plan -f accounts/ --secrets ./secrets\n  opsadmin plan -f accounts/ --database postgres://reader@db.example.com/opsadmin --cluster-id production --detailed-exitcode\n  opsadmin plan -f accounts/ -o markdown > comment.md"
)]
pub struct Plan {
    #[command(flatten)]
    manifests: ManifestArgs,

    /// The folder of the Secret manifests, to compare them too. Needs the keyring.
    #[arg(long, value_name = "FOLDER")]
    secrets: Option<PathBuf>,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    keyring: KeyringArgs,

    /// In whose name accounts are owned in the database: what `apply` or the controller runs with. A controller names its
    /// accounts after the UID of its cluster's namespace kube-system unless told otherwise.
    #[arg(long, value_name = "ID", env = "OPSADMIN_CLUSTER_ID", default_value = LOCAL_CLUSTER)]
    cluster_id: String,

    /// What would be done about an affiliate that OpsAdmin does not know.
    #[arg(long, value_name = "ACTION", default_value = "refuse")]
    unknown_affiliate: OnUnknownAffiliate,

    #[command(flatten)]
    prune: PruneArgs,

    /// Exit with 0 if there is nothing to do, 2 if there is, and 1 for an error or a refusal.
    #[arg(long)]
    detailed_exitcode: bool,

    /// How to print it.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: PlanFormat,
}

impl Plan {
    /// Plans, and prints the plan.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let cluster = ClusterId::parse(&self.cluster_id)?;
        let Some(manifests) = self.manifests.read(&cluster, output) else {
            return Ok(ExitCode::FAILURE);
        };
        let database = self.database.open_to_read().await?.map(|database| database as Arc<dyn AccountDatabase>);
        let summary = self.plan(&manifests, database.clone(), &cluster, output).await;
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
        output: &mut Output,
    ) -> Result<Summary> {
        let (database, keyring) = self.rehearsal(database).await?;
        let database = Arc::new(database);
        let secrets = Arc::new(self.secrets()?);
        let doomed = self.prune.doomed(manifests, database.as_ref(), cluster).await?;
        let reconciler = Reconciler {
            database: Arc::clone(&database) as Arc<dyn AccountDatabase>,
            secrets: Arc::clone(&secrets) as Arc<dyn SecretStore>,
            keyring,
            unknown_affiliate: self.unknown_affiliate.into(),
            actor: "plan".to_owned(),
            surroundings: Arc::new(Machine),
        };
        let mut planned = Planned::new(self.output);
        let mut progress = Progress::new(manifests.len(), "accounts planned");
        for batch in manifests.chunks(BATCH) {
            let mut known = Known::read(database.as_ref(), batch).await?;
            let present = batch.iter().filter(|manifest| known.has(&manifest.desired.owner));
            secrets.assume(present.map(|manifest| manifest.desired.secret.at.clone()).collect());
            for manifest in batch {
                let known = known.take(&manifest.desired.owner);
                let outcome = reconciler.reconcile(&manifest.desired, None, known).await;
                planned.push(&AccountReport::declared(manifest, &outcome), &mut progress, output)?;
                progress.step();
            }
        }
        for owner in doomed.owners() {
            let outcome = doomed.prune(owner, &reconciler).await;
            planned.push(&AccountReport::undeclared(owner, &outcome), &mut progress, output)?;
        }
        drop(progress);
        planned.finish(output)
    }

    /// The database, read only, and the keyring that opens what it gives out.
    async fn rehearsal(&self, database: Option<Arc<dyn AccountDatabase>>) -> Result<(Rehearsal, Keyring)> {
        let keyring = match &self.secrets {
            Some(_) => self.keyring.load_to_read(&self.database, database.as_deref()).await?,
            None => None,
        };
        let Some(keyring) = keyring else {
            let keyring = new_keyring()?;
            return Ok((Rehearsal::without_keys(database, keyring.clone()), keyring));
        };
        let database = Rehearsal::new(database);
        keyring.check(&database.sealing_keys_in_use().await?)?;
        Ok((database, keyring))
    }

    /// The Secrets, read only, or not looked at.
    fn secrets(&self) -> Result<secrets::Rehearsal> {
        Ok(match &self.secrets {
            Some(folder) => secrets::Rehearsal::new(Arc::new(Directory::open_to_read(folder)?)),
            None => secrets::Rehearsal::unseen(),
        })
    }
}
