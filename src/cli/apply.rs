//! `opsadmin apply`: the main job without a cluster.

use super::LOCAL_CLUSTER;
use super::confirm::ConfirmArgs;
use super::database::{DatabaseArgs, KeyringArgs, OnUnknownAffiliate};
use super::known::Known;
use super::manifests::{ManifestArgs, count};
use super::output::{Format, Output};
use super::progress::Progress;
use super::prune::PruneArgs;
use super::report::{AccountReport, Report, Summary};
use super::surroundings::Machine;
use crate::account::{ClusterId, Owner};
use crate::database::AccountRegister;
use crate::manifests::Manifest;
use crate::reconcile::{Outcome, Reconciler};
use crate::secrets::directory::Directory;
use anyhow::Result;
use clap::Args;
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

    #[command(flatten)]
    prune: PruneArgs,

    #[command(flatten)]
    confirm: ConfirmArgs,

    /// How to print what was done.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
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
        database: &Arc<dyn AccountRegister>,
        cluster: &ClusterId,
        output: &mut Output,
    ) -> Result<ExitCode> {
        let reconciler = self.reconciler(Arc::clone(database)).await?;
        let mut known = Known::read(database.as_ref(), cluster).await?;
        let doomed = self.prune.doomed(manifests, database.as_ref(), cluster).await?;
        doomed.confirm(&self.confirm, output)?;
        let mut report = Report::default();
        // In text, each account's own lines tell how far it has come.
        let mut progress = (self.output != Format::Text).then(|| Progress::new(manifests.len(), "accounts applied"));
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        for manifest in manifests {
            // Heard between two accounts, never within one.
            if futures::poll!(interrupted.as_mut()).is_ready() {
                return self.interrupted(&report, manifests.len() + doomed.len(), output);
            }
            let known = known.take(&manifest.desired.owner);
            let outcome = reconciler.reconcile(&manifest.desired, None, known).await;
            self.tell(&manifest.desired.owner, &manifest.place.to_string(), &outcome, output)?;
            report.push(AccountReport::declared(manifest, &outcome));
            progress.iter_mut().for_each(Progress::step);
        }
        for owner in doomed.owners() {
            if futures::poll!(interrupted.as_mut()).is_ready() {
                return self.interrupted(&report, manifests.len() + doomed.len(), output);
            }
            let outcome = doomed.prune(owner, &reconciler).await;
            self.tell(owner, "--prune", &outcome, output)?;
            report.push(AccountReport::undeclared(owner, &outcome));
        }
        match self.output {
            Format::Text => output.line(&summary(&report.summary))?,
            format => output.value(format, &report)?,
        }
        Ok(if report.summary.refuse == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn interrupted(&self, report: &Report, all: usize, output: &mut Output) -> Result<ExitCode> {
        output.value(self.output, report)?;
        let left = count(all - report.accounts.len());
        output.complain(format!("interrupted; {left} not looked at: run the same command to go on"));
        Ok(ExitCode::from(INTERRUPTED))
    }

    /// Tells a person at once what came of an account.
    fn tell(&self, owner: &Owner, place: &str, outcome: &Outcome, output: &mut Output) -> Result<()> {
        if self.output == Format::Text {
            for done in &outcome.done {
                output.words(&format!("{}/{}: {done}", owner.namespace, owner.name))?;
            }
        }
        if let Some(refusal) = &outcome.refusal {
            let (namespace, name, reason) = (&owner.namespace, &owner.name, refusal.reason());
            output.complain(format!("{place}: {namespace}/{name}: {reason}: {refusal}"));
        }
        Ok(())
    }

    async fn reconciler(&self, database: Arc<dyn AccountRegister>) -> Result<Reconciler> {
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

fn summary(summary: &Summary) -> String {
    let all = count(summary.total());
    if summary.unchanged == summary.total() {
        return format!("{all}: nothing to change");
    }
    let Summary { create, adopt, restore, rotate, change, delete, refuse, unchanged } = summary;
    let (created, changed) = (create + restore, adopt + rotate + change);
    let ends = [(delete, "deleted"), (refuse, "refused")];
    let ends = ends.iter().filter(|(number, _)| **number > 0).map(|(number, what)| format!(", {number} {what}"));
    let text = format!("{all}: {created} created, {changed} changed, {unchanged} unchanged");
    [text].into_iter().chain(ends).collect()
}
