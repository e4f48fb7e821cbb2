//! `opsadmin doctor`: reads an installation and reports what is wrong with it.

mod cluster;

use super::LOCAL_CLUSTER;
use super::cluster::ClusterArgs;
use super::database::{DatabaseArgs, KeyringArgs};
use super::manifests::count_accounts;
use super::output::{Format, FormatArgs, Output};
use crate::account::{ClusterId, Owner};
use crate::database::{AccountAdmin, DatabaseError, Keyring, RoleProblem};
use crate::doctor::{Check, CheckedSecret, Finding, Installation};
use crate::reconcile::parse_namespace;
use crate::secrets::directory::Directory;
use crate::secrets::{Lookup, ResourceIdentity, SecretStore};
use anyhow::Result;
use clap::Args;
use cluster::Cluster;
use serde::Serialize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The exit code when something is wrong.
const FINDINGS: u8 = 2;

/// The bits of a file mode that give access to users other than the owner.
const OTHERS: u32 = 0o077;

/// Check an installation, and report what is wrong with it and what to do. Nothing is changed.
///
/// Every row is read and every sealed key is opened. With --secrets or --on-cluster, every Secret is compared with its
/// account. After a restore from a backup, the command shows whether the restored data is complete. Exit code 0: all is
/// well, 2: something is wrong, 1: something could not be checked.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin doctor --secrets ./secrets\n  opsadmin doctor --on-cluster \\\n    --database postgres://opsadmin@db.example.com/opsadmin \\\n    --keyring production.keyring\n  opsadmin doctor --auth-server-role opsadmin_auth \\\n    --database postgres://opsadmin@db.example.com/opsadmin \\\n    --keyring production.keyring"
)]
pub struct Doctor {
    /// Also check the ApiAccounts and Secrets of the kubeconfig's cluster, its CustomResourceDefinition, and whether
    /// the user of the kubeconfig has the rights that a controller needs.
    #[arg(long, conflicts_with = "secrets")]
    on_cluster: bool,

    /// Also check the Secret manifests in this folder.
    #[arg(long, value_name = "FOLDER")]
    secrets: Option<PathBuf>,

    /// With --on-cluster: a namespace that the controller watches; may be given more than once. Default: all
    /// namespaces.
    #[arg(short, long = "namespace", value_name = "NAMESPACE", value_parser = parse_namespace, requires = "on_cluster")]
    namespaces: Vec<String>,

    /// Also check the rights of this role of PostgreSQL, as which an auth server logs in: whether it has all that it needs,
    /// and nothing more.
    #[arg(long, value_name = "ROLE")]
    auth_server_role: Option<String>,

    #[command(flatten)]
    cluster: ClusterArgs,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    keyring: KeyringArgs,

    #[command(flatten)]
    format: FormatArgs,
}

/// The result of the checks.
#[derive(Serialize, Default)]
struct Report {
    /// The problems.
    findings: Vec<Finding>,
    /// The checks that could not be done.
    unchecked: Vec<Unchecked>,
    /// The number of accounts that were read.
    accounts: usize,
    /// The number of Secrets that were compared; null: Secrets were not read.
    secrets: Option<usize>,
    /// The number of ApiAccounts that were read; null: ApiAccounts were not read.
    resources: Option<usize>,
}

/// A check that could not be done.
#[derive(Serialize)]
struct Unchecked {
    /// The check.
    check: Check,
    /// Why the check could not be done.
    reason: String,
}

impl Report {
    fn unchecked(&mut self, check: Check, reason: &impl ToString) {
        self.unchecked.push(Unchecked { check, reason: reason.to_string() });
    }
}

impl Doctor {
    /// Checks the installation, and prints the findings.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let mut report = Report::default();
        match self.database.open_existing().await {
            Ok(database) => {
                let checked = self.check(database.as_ref(), &mut report).await;
                database.close().await;
                checked?;
            }
            Err(error) => match error.downcast()? {
                DatabaseError::OlderSchema { pending } => {
                    let problem = format!("it lacks the migrations {}", pending.join(", "));
                    report.findings.push(Check::Schema.found("the database", problem, "run `opsadmin migrate`"));
                    report.unchecked(Check::Rows, &"the schema of the database is older than this program");
                }
                other => return Err(other.into()),
            },
        }
        report.findings.sort_by_key(|finding| finding.check);
        self.print(&report, output)?;
        Ok(match (report.findings.is_empty(), report.unchecked.is_empty()) {
            (false, _) => ExitCode::from(FINDINGS),
            (true, false) => ExitCode::FAILURE,
            (true, true) => ExitCode::SUCCESS,
        })
    }

    async fn check(&self, database: &dyn AccountAdmin, report: &mut Report) -> Result<()> {
        let path = self.keyring.path(&self.database)?;
        let keyring = Keyring::load(&path)?;
        report.findings.extend(readable_by_others(&path));
        match database.missing_privileges().await {
            Ok(missing) => report.findings.extend(missing.into_iter().map(|missing| {
                let problem = format!("the database's user may not {missing}");
                Check::Rights.found(
                    "the database",
                    problem,
                    "grant it to the database user of the controller or of `apply`",
                )
            })),
            Err(error) => report.unchecked(Check::Rights, &error),
        }
        if let Some(role) = &self.auth_server_role {
            self.check_auth_server(role, database, report).await;
        }
        let listed = database.list().await?;
        let accounts: Vec<_> = listed.into_iter().map(|account| account.map_err(|error| error.to_string())).collect();
        report.accounts = accounts.len();
        let (cluster, secrets, resources) = if self.on_cluster {
            let client = self.cluster.client()?;
            let id = self.cluster.id(&client).await?;
            let on_cluster = Cluster { client, id: id.clone(), namespaces: &self.namespaces };
            on_cluster.check(report).await;
            let resources = on_cluster.resources(report).await;
            (id, on_cluster.secrets(report).await, resources)
        } else {
            let id = self.cluster.given_id().cloned().map_or_else(|| ClusterId::parse(LOCAL_CLUSTER), Ok)?;
            let folder = self.secrets.as_deref().map(Directory::open_to_read).transpose()?;
            let secrets = match folder {
                Some(folder) => Some(in_folder(&folder, &id).await?),
                None => None,
            };
            (id, secrets, None)
        };
        report.secrets = secrets.as_ref().map(Vec::len);
        report.resources = resources.as_ref().map(Vec::len);
        let installation = Installation { accounts, keyring: &keyring, cluster, secrets, resources };
        report.findings.extend(installation.diagnose());
        Ok(())
    }

    async fn check_auth_server(&self, role: &str, database: &dyn AccountAdmin, report: &mut Report) {
        if self.database.is_sqlite() {
            return report.unchecked(Check::Rights, &"an SQLite file has no roles; leave --auth-server-role out");
        }
        match database.auth_server_role_problems(role).await {
            Ok(problems) => report.findings.extend(problems.into_iter().map(|RoleProblem { problem, remedy }| {
                let subject = format!("the role {role} of an auth server");
                Check::Rights.found(subject, format!("it {problem}"), format!("run `{remedy}` in the database"))
            })),
            Err(error) => report.unchecked(Check::Rights, &error),
        }
    }

    fn print(&self, report: &Report, output: &mut Output) -> Result<()> {
        if self.format.format != Format::Text {
            return output.value(self.format.format, report);
        }
        for Finding { check, subject, problem, advice } in &report.findings {
            output.sentence(&format!("{}: {subject}: {problem}; {advice}", check.as_str()))?;
        }
        for Unchecked { check, reason } in &report.unchecked {
            output.note(format!("{}: could not be checked: {reason}", check.as_str()));
        }
        let mut read = vec![count_accounts(report.accounts)];
        let of = |number: Option<usize>, one: &str, many: &str| {
            number.map(|number| format!("{number} {}", if number == 1 { one } else { many }))
        };
        read.extend(of(report.resources, "ApiAccount", "ApiAccounts"));
        read.extend(of(report.secrets, "Secret", "Secrets"));
        let found = match report.findings.len() {
            0 if report.unchecked.is_empty() => "all is well".to_owned(),
            0 => "no problem found by the checks that could run".to_owned(),
            1 => "1 finding".to_owned(),
            some => format!("{some} findings"),
        };
        output.line(&format!("{}: {found}", read.join(", ")))
    }
}

/// Reads the Secrets in a folder that belong to accounts of this cluster.
async fn in_folder(folder: &Directory, cluster: &ClusterId) -> Result<Vec<CheckedSecret>> {
    let mut seen = Vec::new();
    let mut owners: Vec<Owner> = folder.owners_of_secrets(|owner| owner.cluster == *cluster);
    owners.sort();
    for owner in owners {
        for at in folder.owned_by(&ResourceIdentity { owner: owner.clone(), uid: None }).await? {
            if let Lookup::Found(found) = folder.find(&at, None).await? {
                seen.push(CheckedSecret { at, owner: owner.clone(), keys: found.keys() });
            }
        }
    }
    Ok(seen)
}

fn readable_by_others(keyring: &Path) -> Option<Finding> {
    let mode = keyring.metadata().ok()?.mode();
    (mode & OTHERS != 0).then(|| {
        let problem = format!("other users may read or write it (mode {:o})", mode & 0o777);
        Check::Keyring.found(format!("the keyring {}", keyring.display()), problem, "chmod 600")
    })
}
