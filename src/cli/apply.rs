//! `opsadmin apply`: the main job without a cluster.

use super::LOCAL_CLUSTER;
use super::database::{DatabaseArgs, KeyringArgs, OnUnknownAffiliate};
use super::manifests::{ManifestArgs, count};
use super::output::Output;
use super::surroundings::Machine;
use crate::account::{Account, ClusterId, Owner};
use crate::database::{AccountDatabase, DatabaseError};
use crate::manifests::Manifest;
use crate::reconcile::{Done, Outcome, Reconciler};
use crate::secrets::directory::Directory;
use anyhow::Result;
use clap::Args;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// The exit code of a program that Ctrl-C ended, as shells count it.
const INTERRUPTED: u8 = 130;

/// Make accounts as manifests declare them, without a cluster, and write their keys to Secret manifests.
///
/// Every manifest is checked first: if one is wrong, nothing is applied. Accounts that exist are changed where they
/// differ, and keep their keys. The Secret manifests are readable by their owner only and ready for `kubectl apply`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin apply -f accounts/ --secrets ./secrets\n  opsadmin apply -f acme.yaml --secrets ./secrets --database postgres://opsadmin@db.example.com/opsadmin --keyring opsadmin.keyring"
)]
pub struct Apply {
    #[command(flatten)]
    manifests: ManifestArgs,

    /// The folder for the Secret manifests; it is made if there is none.
    #[arg(long, value_name = "FOLDER")]
    secrets: PathBuf,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    keyring: KeyringArgs,

    /// In whose name accounts are owned in the database. A controller's accounts belong to its cluster, and `apply` leaves
    /// them alone.
    #[arg(long, value_name = "ID", env = "OPSADMIN_CLUSTER_ID", default_value = LOCAL_CLUSTER)]
    cluster_id: String,

    /// What to do about an affiliate that OpsAdmin does not know.
    #[arg(long, value_name = "ACTION", default_value = "refuse")]
    unknown_affiliate: OnUnknownAffiliate,
}

/// How many accounts came out which way.
#[derive(Default)]
struct Tally {
    created: usize,
    changed: usize,
    unchanged: usize,
    refused: usize,
}

impl Apply {
    /// Applies them, and prints what was done for each.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let cluster = ClusterId::parse(&self.cluster_id)?;
        let Some(manifests) = self.manifests.read(&cluster, output) else {
            output.complain("nothing was applied");
            return Ok(ExitCode::FAILURE);
        };
        let database = self.database.open()?;
        let result = self.apply(&manifests.accounts, &database, &cluster, output).await;
        // Leaves an embedded database as one file.
        database.close().await;
        result
    }

    async fn apply(
        &self,
        manifests: &[Manifest],
        database: &Arc<dyn AccountDatabase>,
        cluster: &ClusterId,
        output: &mut Output,
    ) -> Result<ExitCode> {
        let reconciler = self.reconciler(Arc::clone(database)).await?;
        let mut known = known(database.as_ref(), cluster).await?;
        let mut tally = Tally::default();
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        for manifest in manifests {
            // Heard between two accounts, never within one.
            if futures::poll!(interrupted.as_mut()).is_ready() {
                let left = manifests.len() - tally.total();
                output.complain(&format!("interrupted; {} not looked at: run the same command to go on", count(left)));
                return Ok(ExitCode::from(INTERRUPTED));
            }
            let known = known.remove(&manifest.desired.owner);
            let outcome = reconciler.reconcile(&manifest.desired, None, known).await;
            tally.count(&outcome);
            print(manifest, &outcome, output)?;
        }
        output.line(&tally.to_string())?;
        Ok(if tally.refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn reconciler(&self, database: Arc<dyn AccountDatabase>) -> Result<Reconciler> {
        database.migrate().await?;
        let keyring = self.keyring.load(&self.database, database.as_ref()).await?;
        keyring.check(&database.sealing_keys_in_use().await?)?;
        Ok(Reconciler {
            secrets: Arc::new(Directory::open(&self.secrets)?),
            database,
            keyring,
            unknown_affiliate: self.unknown_affiliate.into(),
            actor: "apply".to_owned(),
            surroundings: Arc::new(Machine),
        })
    }
}

/// The accounts there are, in one read instead of one for each; if one of them cannot be read, each is read by itself.
async fn known(database: &dyn AccountDatabase, cluster: &ClusterId) -> Result<HashMap<Owner, Account>> {
    let accounts = match database.list_by_cluster(cluster).await {
        Err(DatabaseError::Inconsistent { .. }) => Vec::new(),
        accounts => accounts?,
    };
    Ok(accounts.into_iter().filter_map(|account| Some((account.owner.clone()?, account))).collect())
}

fn print(manifest: &Manifest, outcome: &Outcome, output: &mut Output) -> Result<()> {
    let owner = &manifest.desired.owner;
    for done in &outcome.done {
        output.line(&format!("{}/{}: {done}", owner.namespace, owner.name))?;
    }
    if let Some(refusal) = &outcome.refusal {
        output.complain(&format!(
            "{}: {}/{}: {}: {refusal}",
            manifest.place,
            owner.namespace,
            owner.name,
            refusal.reason()
        ));
    }
    Ok(())
}

impl Tally {
    fn count(&mut self, outcome: &Outcome) {
        let is_new = |done: &Done| matches!(done, Done::Created { .. } | Done::Restored { .. });
        let counter = match outcome {
            Outcome { refusal: Some(refusal), .. } if !refusal.is_wanted() => &mut self.refused,
            Outcome { done, .. } if done.is_empty() => &mut self.unchanged,
            Outcome { done, .. } if done.iter().any(is_new) => &mut self.created,
            _ => &mut self.changed,
        };
        *counter += 1;
    }

    fn total(&self) -> usize {
        self.created + self.changed + self.unchanged + self.refused
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = count(self.total());
        if self.unchanged == self.total() {
            return write!(f, "{all}: nothing to change");
        }
        write!(f, "{all}: {} created, {} changed, {} unchanged", self.created, self.changed, self.unchanged)?;
        if self.refused > 0 {
            write!(f, ", {} refused", self.refused)?;
        }
        Ok(())
    }
}
