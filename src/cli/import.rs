//! `opsadmin import`: accounts that exist elsewhere, with the keys that their partners have.

use super::cluster::ClusterArgs;
use super::database::{DatabaseArgs, KeyringArgs, OnUnknownAffiliate, new_keyring};
use super::environment::SystemEnvironment;
use super::manifests::count;
use super::output::{Format, Output};
use super::progress::Progress;
use crate::account::{AccountId, Adopter, ClusterId, KeyId, KeyPair, KeyState, StoredKey};
use crate::database::{AccountDatabase, AccountRegister, Action, Change, DatabaseError, DryRunDatabase, Keyring};
use crate::import::{self, FileFormat, Line, Record, Taken};
use crate::reconcile::parse_namespace;
use crate::reconcile::{Environment, RandomnessError};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde::Serialize;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use zeroize::Zeroizing;

/// How many lines are looked up in one read.
const AT_ONCE: usize = 500;

/// Bring existing accounts into the account database, with their keys, so that partners keep theirs.
///
/// Each account gets a row that no resource declares; `opsadmin export` then writes its manifest, and applying that adopts
/// it. All accounts are imported or, if one line is wrong, none; nothing that exists is overwritten.
///
/// The fields are name, description, enabled, useRefreshToken, affiliate, roles, allowedIPs, apiKey and secretKey, as in
/// `spec`, and namespace, as --for; name and keys are required. Keys may have any form, but what begins with `opsa_pk_` or `opsa_sk_` must be a whole key
/// that OpsAdmin made. In CSV, roles and addresses are separated by spaces, and cells by what separates the heading: commas, semicolons or tabs.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin import accounts.csv --for partners --dry-run\n  opsadmin import accounts.jsonl \\\n    --database postgres://opsadmin@db.example.com/opsadmin \\\n    --keyring opsadmin.keyring\n\nA line of accounts.jsonl:\n  {\"name\": \"Acme\", \"roles\": [\"Customer\"], \"apiKey\": \"...\", \"secretKey\": \"...\"}"
)]
pub struct Import {
    /// The file, or - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// How it is written. Default: CSV for a name that ends with .csv or .tsv, otherwise JSON Lines.
    #[arg(long, value_name = "FORMAT")]
    format: Option<FileFormat>,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    keyring: KeyringArgs,

    /// What to do about an affiliate that OpsAdmin does not know.
    #[arg(long, value_name = "ACTION", default_value = "refuse")]
    unknown_affiliate: OnUnknownAffiliate,

    /// The namespace whose ApiAccounts may take the accounts over, on the cluster of the kubeconfig or --cluster-id; a line may
    /// name another one. Without it, `apply` takes them over, and a controller only what `opsadmin allow-adoption` names.
    #[arg(long = "for", value_name = "NAMESPACE", value_parser = parse_namespace)]
    namespace: Option<String>,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// Say what would be imported and what is wrong, and import nothing.
    #[arg(long)]
    dry_run: bool,

    /// How to print what came of it.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

/// What came of an import.
#[derive(Serialize)]
struct Summary {
    /// How many accounts there are to import; 0 if a line is wrong.
    accounts: usize,
    /// Whether they are in the database now.
    imported: bool,
    /// What is wrong, by line.
    problems: Vec<Problem>,
}

/// What is wrong with a line.
#[derive(Serialize)]
struct Problem {
    /// Its number, from 1.
    line: usize,
    /// What is wrong; never with a value of the line, which may be a key in a wrong field.
    message: String,
}

impl Import {
    /// Imports them all, or says what is wrong.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let lines = import::read(&self.read()?, self.format());
        let names_one = |line: &Line| line.record.as_ref().is_ok_and(|record| record.namespace.is_some());
        let cluster = if self.namespace.is_some() || lines.iter().any(names_one) {
            Some(self.cluster.id_alone().await?)
        } else {
            None
        };
        if lines.is_empty() {
            bail!("{} has no account", self.file.display());
        }
        if self.dry_run {
            let database = self.database.open_to_read().await?.map(|database| database as Arc<dyn AccountDatabase>);
            let dry_run = DryRunDatabase::without_keys(database, new_keyring()?);
            let rehearsed = self.rehearse(&lines, cluster.as_ref(), &dry_run, &new_keyring()?).await;
            dry_run.close().await;
            return self.conclude(&Summary::of(rehearsed?, false), output);
        }
        // A database that is yet to be made is not made for lines that are wrong.
        if self.database.is_missing_file() {
            let rehearsed =
                self.rehearse(&lines, cluster.as_ref(), &DryRunDatabase::new(None), &new_keyring()?).await?;
            if rehearsed.is_err() {
                return self.conclude(&Summary::of(rehearsed, false), output);
            }
        }
        let database = self.database.open()?;
        let imported = self.import(&lines, cluster.as_ref(), &database).await;
        // Leaves an embedded database as one file.
        database.close().await;
        self.conclude(&imported?, output)
    }

    async fn import(
        &self,
        lines: &[Line],
        cluster: Option<&ClusterId>,
        database: &Arc<dyn AccountRegister>,
    ) -> Result<Summary> {
        // Whatever is wrong with the keyring is said before there is a table.
        let keyring = self.keyring.load(&self.database, database.as_ref()).await?;
        database.migrate().await?;
        keyring.check(&database.sealing_keys_in_use().await?)?;
        let dry_run = DryRunDatabase::new(Some(Arc::clone(database) as Arc<dyn AccountDatabase>));
        let rehearsed = self.rehearse(lines, cluster, &dry_run, &keyring).await?;
        if let Ok(changes) = &rehearsed {
            commit(changes, database.as_ref()).await?;
        }
        Ok(Summary::of(rehearsed, true))
    }

    /// Every change that is needed, each tried on what the ones before leave; or what is wrong, if one cannot be made.
    async fn rehearse(
        &self,
        lines: &[Line],
        cluster: Option<&ClusterId>,
        dry_run: &DryRunDatabase,
        keyring: &Keyring,
    ) -> Result<Result<Vec<Change>, Vec<Problem>>> {
        let (mut changes, mut problems) = (Vec::new(), Vec::new());
        let mut progress = Progress::new(lines.len(), "lines checked");
        for lines in lines.chunks(AT_ONCE) {
            let taken = Taken::of(lines, dry_run).await?;
            for Line { number: line, record } in lines {
                let wrong = match record {
                    Err(wrong) => wrong.clone(),
                    Ok(record) => match self.rehearse_one(record, cluster, &taken, dry_run, keyring).await? {
                        Ok(change) => {
                            changes.push(change);
                            Vec::new()
                        }
                        Err(not_ready) => vec![explained(not_ready)?],
                    },
                };
                progress.step();
                problems.extend(wrong.into_iter().map(|message| Problem { line: *line, message }));
            }
        }
        Ok(if problems.is_empty() { Ok(changes) } else { Err(problems) })
    }

    async fn rehearse_one(
        &self,
        record: &Record,
        cluster: Option<&ClusterId>,
        taken: &Taken,
        dry_run: &DryRunDatabase,
        keyring: &Keyring,
    ) -> Result<Result<Change, DatabaseError>> {
        if let Err(not_ready) = taken.check(record) {
            return Ok(Err(not_ready));
        }
        let change = self.change(record, cluster, keyring)?;
        Ok(dry_run.commit(&change).await.map(|_| change))
    }

    fn conclude(&self, summary: &Summary, output: &mut Output) -> Result<ExitCode> {
        let code = if summary.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        if self.output != Format::Text {
            output.value(self.output, summary)?;
            return Ok(code);
        }
        for Problem { line, message } in &summary.problems {
            output.complain(format!("{}:{line}: {message}", self.file.display()));
        }
        let accounts = count(summary.accounts);
        if !summary.problems.is_empty() {
            output.complain("nothing was imported");
        } else if summary.imported {
            let manifests = if summary.accounts == 1 { "its manifest" } else { "their manifests" };
            output.line(&format!("{accounts} imported; `opsadmin export` writes {manifests}"))?;
        } else {
            output.line(&format!("{accounts} can be imported"))?;
        }
        Ok(code)
    }

    fn change(&self, record: &Record, cluster: Option<&ClusterId>, keyring: &Keyring) -> Result<Change> {
        let Record { settings, namespace, api_key, secret_key } = record.clone();
        let namespace = namespace.or_else(|| self.namespace.clone());
        let adopter = namespace.zip(cluster.cloned());
        let adopter = adopter.map(|(namespace, cluster)| Adopter { cluster, namespace, name: None });
        let (account, at) = (AccountId::from_random(random()?), SystemEnvironment.now());
        let pair = KeyPair { id: KeyId::from_random(random()?), api_key, secret_key };
        let sealed = keyring.seal(account, pair.id, &pair.secret_key, random()?);
        let key = StoredKey { id: pair.id, api_key: pair.api_key, sealed, state: KeyState::Active, created: at };
        let action = Action::Import { settings, key, adopter, unknown_affiliate: self.unknown_affiliate.into() };
        Ok(Change { account, action, at, actor: "import".to_owned(), generation: None })
    }

    fn format(&self) -> FileFormat {
        let is_csv = |ending: &std::ffi::OsStr| ["csv", "tsv"].iter().any(|csv| ending.eq_ignore_ascii_case(csv));
        let is_csv = self.file.extension().is_some_and(is_csv);
        self.format.unwrap_or(if is_csv { FileFormat::Csv } else { FileFormat::Jsonl })
    }

    fn read(&self) -> Result<Zeroizing<String>> {
        let mut bytes = Zeroizing::new(Vec::new());
        let read = if self.file.as_os_str() == "-" {
            std::io::stdin().read_to_end(&mut bytes)
        } else {
            std::fs::File::open(&self.file).and_then(|mut file| file.read_to_end(&mut bytes))
        };
        read.with_context(|| format!("cannot read {}", self.file.display()))?;
        import::decode(&bytes).map_err(|fault| anyhow!("cannot read {}: {fault}", self.file.display()))
    }
}

impl Summary {
    /// What came of the lines; `committed`: unless one was wrong, they are in the database.
    fn of(rehearsed: Result<Vec<Change>, Vec<Problem>>, committed: bool) -> Self {
        match rehearsed {
            Ok(changes) => Self { accounts: changes.len(), imported: committed, problems: Vec::new() },
            Err(problems) => Self { accounts: 0, imported: false, problems },
        }
    }
}

/// Makes them all, or none. An answer that got lost is found by reading: they are there together, or none of them is.
async fn commit(changes: &[Change], database: &dyn AccountRegister) -> Result<()> {
    let committed = database.commit_all(changes).await;
    if let (Err(error @ DatabaseError::Unavailable { .. }), Some(first)) = (&committed, changes.first()) {
        let unknown =
            || format!("{error}; whether they were imported is not known: look with `opsadmin get --unowned`");
        if database.find_by_id(first.account).await.with_context(unknown)?.is_some() {
            return Ok(());
        }
    }
    committed.context("nothing was imported")
}

/// What a person can do about a line that was refused.
///
/// # Errors
/// The database itself failed, whatever the line says.
fn explained(not_ready: DatabaseError) -> Result<String> {
    match not_ready {
        DatabaseError::NameTaken { .. } => {
            Ok("name: another account has this name, and nothing that exists is overwritten".to_owned())
        }
        DatabaseError::KeyTaken => Ok("apiKey: another account has this API key".to_owned()),
        DatabaseError::KeyRevoked => {
            Ok("apiKey: this pair was revoked, or purged with its account, and is not used again; give \
             the account another pair, or see `Accounts that exist already` in docs/lifecycle.md"
                .to_owned())
        }
        DatabaseError::UnknownAffiliate { .. } => {
            let hint = "register it there, or import with --unknown-affiliate register";
            Ok(format!("affiliate: OpsAdmin knows no affiliate of this name; {hint}"))
        }
        other => Err(other.into()),
    }
}

fn random<const N: usize>() -> Result<[u8; N], RandomnessError> {
    let mut bytes = [0; N];
    SystemEnvironment.fill(&mut bytes)?;
    Ok(bytes)
}
