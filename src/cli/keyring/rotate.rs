//! `opsadmin keyring rotate`: adds a new key to the keyring, seals all secret keys in the database with it, and removes
//! the old keys.

use crate::cli::database::{DatabaseArgs, KeyringArgs, new_key};
use crate::cli::environment::SystemEnvironment;
use crate::cli::output::{Format, FormatArgs, Output};
use crate::database::{AccountRegister, Keyring, LockedKeyring, Resealed, SealedPair};
use crate::reconcile::Environment;
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

/// The number of key pairs that are sealed again in one transaction. Other writers wait for the transaction.
const BATCH: u16 = 100;

/// Add a new key to the keyring, seal every secret key in the database with it, and remove the old key when no secret
/// key is sealed with it any more. The keys of partners do not change.
///
/// The command checks this database only, so each database needs its own keyring. A removed key is moved to
/// FILE.removed beside the keyring FILE, and can be restored from there. Delete that file when no other database and no
/// backup is sealed with the key; after a leak, as soon as possible.
///
/// After an interruption, the same command continues where it stopped. Two of them never run at once on one file.
/// Programs that hold a copy of the keyring, such as a running controller and OpsAdmin's API servers, must have each
/// new file before the next step. In this case, run the steps one by one, with --only add, use, reseal and remove, and
/// hand out the file after add, after use and after remove. An `apply`, `import` or `rotate` that started earlier is
/// refused when it seals with a removed key; run it again then.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin keyring rotate --database sqlite://opsadmin.db\n  opsadmin keyring rotate --only add \\\n    --database postgres://opsadmin@db.example.com/opsadmin \\\n    --keyring opsadmin.keyring"
)]
pub(super) struct Rotate {
    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    keyring: KeyringArgs,

    /// Do only this step. Default: all steps, one after the other.
    #[arg(long, value_name = "STEP")]
    only: Option<Step>,

    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Add a new key, which opens and does not seal yet.
    Add,
    /// Seal with the key that was added last, from now on.
    Use,
    /// Seal again every secret key that another key has sealed.
    Reseal,
    /// Remove the keys that no secret key is sealed with any more.
    Remove,
}

/// What this run did, and the keyring after it. It is also printed when the run fails halfway.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rotated {
    /// The file of the keyring.
    keyring: String,
    #[serde(flatten)]
    done: Done,
    /// The id of the key that seals now.
    seals: String,
    /// The ids of the other keys in the keyring. While there are any, the rotation is not finished.
    opens: Vec<String>,
}

/// The steps that were done so far.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    /// The id of the key that was added.
    added: Option<String>,
    /// Whether this run changed which key seals.
    switched: bool,
    /// The number of secret keys that were sealed again.
    resealed: u64,
    /// The number of secret keys that cannot be opened and were not changed.
    unreadable: u64,
    /// The ids of the keys that were removed.
    removed: Vec<String>,
    /// The file that holds the removed keys.
    removed_to: Option<String>,
}

impl Rotate {
    /// Rotates the keyring, and prints what was done.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let path = self.keyring.path(&self.database)?;
        let locked = LockedKeyring::take(&path)?;
        let database = self.database.open_existing().await?;
        let rotated = self.rotate(Rotation::of(locked, path, self.format.format), database.as_ref(), output).await;
        database.close().await;
        rotated
    }

    /// Runs the steps until one fails. Prints what was done in either case.
    async fn rotate(
        &self,
        mut rotation: Rotation,
        database: &dyn AccountRegister,
        output: &mut Output,
    ) -> Result<ExitCode> {
        rotation.keyring().check(&database.sealing_keys_in_use().await?)?;
        let steps_result = self.steps(&mut rotation, database, output).await;
        output.value(rotation.format, &rotation.into_result())?;
        steps_result.map(|()| ExitCode::SUCCESS)
    }

    async fn steps(&self, rotation: &mut Rotation, database: &dyn AccountRegister, output: &mut Output) -> Result<()> {
        let does = |step: Step| self.only.is_none_or(|only| only == step);
        let is_under_way = rotation.keyring().ids().count() > 1;
        match self.only {
            Some(Step::Add) if is_under_way => bail!(
                "{} has more than one key already: a rotation is under way; go on with --only use, reseal or remove",
                rotation.path.display()
            ),
            None if is_under_way => output.note("going on with the rotation that is under way"),
            None => {
                // The first write to the database: if the user lacks the right, this fails before the file changes.
                rotation.supersede(database).await?;
                rotation.add(output)?;
            }
            Some(Step::Add) => rotation.add(output)?,
            Some(_) => {}
        }
        if does(Step::Use) {
            rotation.switch(database, output).await?;
        }
        if does(Step::Reseal) {
            rotation.reseal(database, output).await?;
        }
        if does(Step::Remove) {
            rotation.remove(database, output).await?;
        }
        Ok(())
    }
}

/// A running rotation: the locked file of the keyring, and what was done so far.
struct Rotation {
    locked: LockedKeyring,
    path: PathBuf,
    format: Format,
    done: Done,
}

impl Rotation {
    /// Starts a rotation.
    fn of(locked: LockedKeyring, path: PathBuf, format: Format) -> Self {
        Self { locked, path, format, done: Done::default() }
    }

    fn keyring(&self) -> &Keyring {
        self.locked.keyring()
    }

    /// Adds a new key to the keyring.
    fn add(&mut self, output: &mut Output) -> Result<()> {
        self.locked.replace(self.keyring().clone().with_another(new_key()?))?;
        self.done.added = self.keyring().ids().last().map(str::to_owned);
        self.print_text(output, &format!("added a key to {}; back it up", self.path.display()))
    }

    /// Records in the database that another key will replace the key that seals now.
    async fn supersede(&self, database: &dyn AccountRegister) -> Result<()> {
        Ok(database.supersede(sealing(self.keyring()), SystemEnvironment.now()).await?)
    }

    /// Makes the key that was added last the sealing key. After that, the old key is the last one in the keyring. The
    /// database knows the old key, so a repeated run does not switch back.
    async fn switch(&mut self, database: &dyn AccountRegister, output: &mut Output) -> Result<()> {
        let (in_use, outgoing) = (database.sealing_keys_in_use().await?, database.outgoing_keys().await?);
        let is_new = |key: &str| !in_use.contains(key) && !outgoing.contains(key);
        if self.keyring().ids().count() > 1 && self.keyring().ids().last().is_some_and(is_new) {
            self.supersede(database).await?;
            self.locked.replace(self.keyring().clone().sealing_with_the_last())?;
            self.done.switched = true;
        }
        let since = if self.done.switched { "from now on" } else { "already" };
        self.print_text(output, &format!("the key {} seals {since}", sealing(self.keyring())))
    }

    /// Seals again every secret key that another key has sealed.
    async fn reseal(&mut self, database: &dyn AccountRegister, output: &mut Output) -> Result<()> {
        let sealing = sealing(self.keyring()).to_owned();
        let pairs = database.sealed_pairs().await?;
        let all: u64 = pairs.iter().filter(|(key, _)| **key != sealing).map(|(_, pairs)| pairs).sum();
        let mut last: Option<SealedPair> = None;
        loop {
            let pairs = database.sealed_otherwise(&sealing, last.as_ref(), BATCH).await?;
            let Some(end) = pairs.last() else { break };
            let mut resealed = Vec::new();
            for SealedPair { account, key } in &pairs {
                match self.keyring().open(*account, key.id, &key.sealed) {
                    Ok(secret_key) => {
                        let mut nonce = [0; 12];
                        SystemEnvironment.fill(&mut nonce)?;
                        let sealed = self.keyring().seal(*account, key.id, &secret_key, nonce);
                        let before = key.sealed.sealed_with.clone();
                        resealed.push(Resealed { account: *account, key: key.id, before, sealed });
                    }
                    Err(error) => {
                        self.done.unreadable += 1;
                        output.note(error);
                    }
                }
            }
            self.done.resealed += database.reseal(&resealed, SystemEnvironment.now()).await?;
            output.note(format!("{} of {all} secret keys sealed anew", self.done.resealed));
            last = Some(end.clone());
        }
        if self.done.unreadable > 0 {
            bail!(
                "secret keys that cannot be opened: {}; they were left as they are, and so was the key that they need",
                self.done.unreadable
            );
        }
        let pairs = database.sealed_pairs().await?;
        match pairs.iter().filter(|(key, _)| **key != sealing).map(|(_, pairs)| pairs).sum() {
            0 => self.print_text(output, &format!("every secret key is sealed with the key {sealing}")),
            sealed_meanwhile => {
                output.note(format!("secret keys that were sealed with another key meanwhile: {sealed_meanwhile}"));
                Ok(())
            }
        }
    }

    /// Removes the keys that no secret key is sealed with. The database retires them first, so that no program seals
    /// with them any more.
    async fn remove(&mut self, database: &dyn AccountRegister, output: &mut Output) -> Result<()> {
        self.keyring().check(&database.sealing_keys_in_use().await?)?;
        let others: BTreeSet<String> = self.keyring().ids().skip(1).map(str::to_owned).collect();
        let retired = database.retire(&others, SystemEnvironment.now()).await?;
        if !retired.is_empty() {
            self.locked.remove(&retired)?;
            self.done.removed_to = Some(self.locked.removed().display().to_string());
        }
        self.done.removed.extend(retired);
        for key in &self.done.removed {
            self.print_text(output, &format!("removed the key {key}, which nothing in this database is sealed with"))?;
        }
        if let Some(file) = &self.done.removed_to {
            self.print_text(
                output,
                &format!("removed keys are in {file}; delete it once no other database and no backup needs them"),
            )?;
        }
        if others.is_empty() {
            output.note("there is no other key to remove");
        }
        for key in self.keyring().ids().skip(1) {
            output.note(format!("kept the key {key}: secret keys are still sealed with it, and `keyring rotate --only reseal` seals them anew"));
        }
        Ok(())
    }

    /// Prints a line of text now. JSON and YAML are printed at the end.
    fn print_text(&self, output: &mut Output, text: &str) -> Result<()> {
        if self.format == Format::Text { output.line(text) } else { Ok(()) }
    }

    fn into_result(self) -> Rotated {
        Rotated {
            keyring: self.path.display().to_string(),
            seals: sealing(self.keyring()).to_owned(),
            opens: self.keyring().ids().skip(1).map(str::to_owned).collect(),
            done: self.done,
        }
    }
}

/// Returns the id of the key that seals.
fn sealing(keyring: &Keyring) -> &str {
    keyring.ids().next().unwrap_or_default()
}
