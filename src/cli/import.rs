//! `opsadmin import`: imports accounts from a file into the account database, with the keys that partners use already.

use super::cluster::ClusterArgs;
use super::database::{DatabaseArgs, KeyringArgs, OnUnknownAffiliate, new_keyring};
use super::environment::SystemEnvironment;
use super::manifests::count_accounts;
use super::output::{Format, Output};
use super::progress::Progress;
use crate::account::{AccountId, Adopter, ClusterId, KeyId, KeyPair, KeyState, StoredKey};
use crate::database::{AccountAdmin, AccountDatabase, Action, Change, DatabaseError, DryRunDatabase, Keyring};
use crate::import::{self, ExistingNamesAndKeys, FileFormat, Line, Record};
use crate::reconcile::Environment;
use crate::reconcile::parse_namespace;
use crate::reconcile::random;
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde::Serialize;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The number of lines whose names and keys are looked up in one database read.
const LINES_PER_READ: usize = 500;

/// Import existing accounts into the account database, with their keys, so that partners keep their keys.
///
/// No resource declares an imported account. `opsadmin export` writes its manifest, and applying the manifest adopts
/// the account. If one line is wrong, no account is imported. Existing accounts are never overwritten.
///
/// The fields are name, description, enabled, useRefreshToken, affiliate, roles, allowedIPs, apiKey and secretKey, as
/// in `spec`, and namespace, as --for. The name and the keys are required. Keys may have any form, but a key that
/// begins with `opsa_pk_` or `opsa_sk_` must be a complete key that OpsAdmin created. In CSV, spaces separate roles and
/// addresses. Commas, semicolons or tabs separate cells, as in the heading.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin import accounts.csv --for partners --dry-run\n  opsadmin import accounts.jsonl \\\n    --database postgres://opsadmin@db.example.com/opsadmin \\\n    --keyring opsadmin.keyring\n\nA line of accounts.jsonl:\n  {\"name\": \"Acme\", \"roles\": [\"Customer\"], \"apiKey\": \"...\", \"secretKey\": \"...\"}"
)]
pub struct Import {
    /// The file, or - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The format of the file. Default: CSV for a name that ends with .csv or .tsv, otherwise JSON Lines.
    #[arg(long, value_name = "FORMAT")]
    format: Option<FileFormat>,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    keyring: KeyringArgs,

    /// What to do when OpsAdmin does not know an affiliate.
    #[arg(long, value_name = "ACTION", default_value = "refuse")]
    unknown_affiliate: OnUnknownAffiliate,

    /// The namespace whose ApiAccounts may adopt the accounts, on the cluster of the kubeconfig or --cluster-id. A line
    /// may name another namespace. Without --for, `apply` may adopt the accounts, and a controller adopts only the
    /// accounts that `opsadmin allow-adoption` names.
    #[arg(long = "for", value_name = "NAMESPACE", value_parser = parse_namespace)]
    namespace: Option<String>,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// Show what would be imported and what is wrong, and import nothing.
    #[arg(long)]
    dry_run: bool,

    /// How to print the result.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

/// The result of an import.
#[derive(Serialize)]
struct Summary {
    /// The number of accounts to import; 0 if a line is wrong.
    accounts: usize,
    /// Whether the accounts are in the database now.
    imported: bool,
    /// The problems, in the order of the lines.
    problems: Vec<Problem>,
}

/// A problem in one line.
#[derive(Serialize)]
struct Problem {
    /// The number of the line, counted from 1.
    line: usize,
    /// The message. It never repeats a value of the line, because a key may be in a wrong field.
    message: String,
}

impl Import {
    /// Imports all accounts, or prints what is wrong.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let lines = import::read(&self.read()?, self.format());
        let names_namespace = |line: &Line| line.record.as_ref().is_ok_and(|record| record.namespace.is_some());
        let cluster = if self.namespace.is_some() || lines.iter().any(names_namespace) {
            Some(self.cluster.id_without_client().await?)
        } else {
            None
        };
        if lines.is_empty() {
            bail!("{} has no account", self.file.display());
        }
        if self.dry_run {
            let database =
                self.database.open_read_only_if_exists().await?.map(|database| database as Arc<dyn AccountDatabase>);
            let dry_run = DryRunDatabase::without_keys(database, new_keyring()?);
            let tried = self.try_lines(&lines, cluster.as_ref(), &dry_run, &new_keyring()?).await;
            dry_run.close().await;
            return self.report(&Summary::of(tried?, false), output);
        }
        // A missing SQLite file is not created if the lines are wrong.
        if self.database.is_missing_file() {
            let tried = self.try_lines(&lines, cluster.as_ref(), &DryRunDatabase::new(None), &new_keyring()?).await?;
            if tried.is_err() {
                return self.report(&Summary::of(tried, false), output);
            }
        }
        let database = self.database.open()?;
        let imported = self.import(&lines, cluster.as_ref(), &database).await;
        // Closing an SQLite database merges its write-ahead log, so that one file remains.
        database.close().await;
        self.report(&imported?, output)
    }

    async fn import(
        &self,
        lines: &[Line],
        cluster: Option<&ClusterId>,
        database: &Arc<dyn AccountAdmin>,
    ) -> Result<Summary> {
        // The keyring is loaded first, so that an error in it leaves the database without tables.
        let keyring = self.keyring.load(&self.database, database.as_ref()).await?;
        database.migrate().await?;
        keyring.check(&database.sealing_keys_in_use().await?)?;
        let dry_run = DryRunDatabase::new(Some(Arc::clone(database) as Arc<dyn AccountDatabase>));
        let tried = self.try_lines(lines, cluster, &dry_run, &keyring).await?;
        if let Ok(changes) = &tried {
            commit(changes, database.as_ref()).await?;
        }
        Ok(Summary::of(tried, true))
    }

    /// Tries every line on a dry-run database, each after the lines before it. Returns all changes, or all problems if
    /// there is one.
    async fn try_lines(
        &self,
        lines: &[Line],
        cluster: Option<&ClusterId>,
        dry_run: &DryRunDatabase,
        keyring: &Keyring,
    ) -> Result<Result<Vec<Change>, Vec<Problem>>> {
        let (mut changes, mut problems) = (Vec::new(), Vec::new());
        let mut progress = Progress::new(lines.len(), "lines checked");
        for lines in lines.chunks(LINES_PER_READ) {
            let taken = ExistingNamesAndKeys::of(lines, dry_run).await?;
            for Line { number: line, record } in lines {
                let wrong = match record {
                    Err(wrong) => wrong.clone(),
                    Ok(record) => match self.try_line(record, cluster, &taken, dry_run, keyring).await? {
                        Ok(change) => {
                            changes.push(change);
                            Vec::new()
                        }
                        Err(error) => vec![explain(error)?],
                    },
                };
                progress.step();
                problems.extend(wrong.into_iter().map(|message| Problem { line: *line, message }));
            }
        }
        Ok(if problems.is_empty() { Ok(changes) } else { Err(problems) })
    }

    async fn try_line(
        &self,
        record: &Record,
        cluster: Option<&ClusterId>,
        taken: &ExistingNamesAndKeys,
        dry_run: &DryRunDatabase,
        keyring: &Keyring,
    ) -> Result<Result<Change, DatabaseError>> {
        if let Err(not_ready) = taken.check(record) {
            return Ok(Err(not_ready));
        }
        let change = self.change(record, cluster, keyring)?;
        Ok(dry_run.commit(&change).await.map(|_| change))
    }

    fn report(&self, summary: &Summary, output: &mut Output) -> Result<ExitCode> {
        let code = if summary.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        if self.output != Format::Text {
            output.value(self.output, summary)?;
            return Ok(code);
        }
        for Problem { line, message } in &summary.problems {
            output.note(format!("{}:{line}: {message}", self.file.display()));
        }
        let accounts = count_accounts(summary.accounts);
        if !summary.problems.is_empty() {
            output.note("nothing was imported");
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
        let (account, at) = (AccountId::from_random(random(&SystemEnvironment)?), SystemEnvironment.now());
        let pair = KeyPair { id: KeyId::from_random(random(&SystemEnvironment)?), api_key, secret_key };
        let sealed = keyring.seal(account, pair.id, &pair.secret_key, random(&SystemEnvironment)?);
        let key = StoredKey { id: pair.id, api_key: pair.api_key, sealed, state: KeyState::Active, created: at };
        let action = Action::Import { settings, key, adopter, unknown_affiliate: self.unknown_affiliate.into() };
        Ok(Change { account, action, at, actor: "import".to_owned(), generation: None, requested_by: None })
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
    /// Returns the result. `committed` says whether the changes were written to the database, if no line is wrong.
    fn of(tried: Result<Vec<Change>, Vec<Problem>>, committed: bool) -> Self {
        match tried {
            Ok(changes) => Self { accounts: changes.len(), imported: committed, problems: Vec::new() },
            Err(problems) => Self { accounts: 0, imported: false, problems },
        }
    }
}

/// Commits all changes in one transaction. If the answer of the database is lost, reads the first account: all accounts
/// exist or none of them.
async fn commit(changes: &[Change], database: &dyn AccountAdmin) -> Result<()> {
    let committed = database.commit_all(changes).await;
    if let (Err(error @ DatabaseError::Unavailable { .. }), Some(first)) = (&committed, changes.first()) {
        let unknown =
            || format!("{error}; it is not known whether they were imported: check with `opsadmin get --unowned`");
        if database.find_by_id(first.account).await.with_context(unknown)?.is_some() {
            return Ok(());
        }
    }
    committed.context("nothing was imported")
}

/// Returns what a user can do about a line that the database refused.
///
/// # Errors
/// The database failed for a reason that has nothing to do with the line.
fn explain(error: DatabaseError) -> Result<String> {
    match error {
        DatabaseError::NameTaken { .. } => {
            Ok("name: another account has this name, and the import overwrites no existing account".to_owned())
        }
        DatabaseError::KeyTaken => Ok("apiKey: another account has this API key".to_owned()),
        DatabaseError::KeyRevoked => {
            Ok("apiKey: this key pair was revoked, or purged with its account, and is not used again; give \
             the account another key pair, or see `Accounts that exist already` in docs/lifecycle.md"
                .to_owned())
        }
        DatabaseError::UnknownAffiliate { .. } => {
            let hint = "register it there, or import with --unknown-affiliate register";
            Ok(format!("affiliate: OpsAdmin knows no affiliate of this name; {hint}"))
        }
        other => Err(other.into()),
    }
}
