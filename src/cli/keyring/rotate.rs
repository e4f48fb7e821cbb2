//! `opsadmin keyring rotate`: a new key seals from now on, and what older ones sealed is sealed anew.

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

/// How many pairs are sealed anew in one transaction, which others wait for.
const BATCH: u16 = 100;

/// Put a new key into the keyring, seal every secret key in the database with it, and remove the old key once nothing is
/// sealed with it any more. Partners notice nothing: their keys stay as they are.
///
/// Only this database is asked, so each needs a keyring of its own. A key that is removed goes into FILE.removed beside the
/// keyring FILE, from where it can be put back; delete that file once no other database and no backup is sealed with it, after a
/// leak as soon as you can.
///
/// Whatever interrupts it, the same command goes on where it was, and two never run at once on one file. Programs that hold a
/// copy of the keyring, such as a running controller and OpsAdmin's API servers, must have each new file before the next step:
/// run it step by step then, with --only add, use, reseal and remove, and hand the file out after each of the first two and
/// after the last. What an `apply`, an `import` or a `rotate` that began before is still to seal with a key that is gone is
/// refused; run it again then.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin keyring rotate --database sqlite://opsadmin.db\n  opsadmin keyring rotate --only add \\\n    --database postgres://opsadmin@db.example.com/opsadmin \\\n    --keyring opsadmin.keyring"
)]
pub(super) struct Rotate {
    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    keyring: KeyringArgs,

    /// Do one step. Default: all of them, one after the other.
    #[arg(long, value_name = "STEP")]
    only: Option<Step>,

    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// A new key, which opens and does not seal yet.
    Add,
    /// The key that was added last seals from now on.
    Use,
    /// What other keys sealed is sealed anew.
    Reseal,
    /// Keys that nothing is sealed with any more go.
    Remove,
}

/// What this run did, and how the keyring is after it; also of a run that failed on its way.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rotated {
    /// The keyring's file.
    keyring: String,
    #[serde(flatten)]
    done: Done,
    /// The key that seals now.
    seals: String,
    /// The other keys that are still there: the rotation is under way as long as there are any.
    opens: Vec<String>,
}

/// What was done so far.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    /// The key that was added, if one was.
    added: Option<String>,
    /// Whether another key seals since this run.
    switched: bool,
    /// How many secret keys were sealed anew.
    resealed: u64,
    /// How many secret keys cannot be opened, and were left as they are.
    unreadable: u64,
    /// The keys that were removed.
    removed: Vec<String>,
    /// The file that has them now, if any were removed.
    removed_to: Option<String>,
}

impl Rotate {
    /// Rotates, and prints what was done.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let path = self.keyring.path(&self.database)?;
        let held = LockedKeyring::take(&path)?;
        let database = self.database.open_existing().await?;
        let rotated = self.rotate(Rotation::of(held, path, self.format.format), database.as_ref(), output).await;
        database.close().await;
        rotated
    }

    /// Goes on until something is in the way; what was done until then is told in either case.
    async fn rotate(
        &self,
        mut rotation: Rotation,
        database: &dyn AccountRegister,
        output: &mut Output,
    ) -> Result<ExitCode> {
        rotation.keyring().check(&database.sealing_keys_in_use().await?)?;
        let ended = self.steps(&mut rotation, database, output).await;
        output.value(rotation.format, &rotation.told())?;
        ended.map(|()| ExitCode::SUCCESS)
    }

    async fn steps(&self, rotation: &mut Rotation, database: &dyn AccountRegister, output: &mut Output) -> Result<()> {
        let does = |step: Step| self.only.is_none_or(|only| only == step);
        let is_under_way = rotation.keyring().ids().count() > 1;
        match self.only {
            Some(Step::Add) if is_under_way => bail!(
                "{} has more than one key already: a rotation is under way; go on with --only use, reseal or remove",
                rotation.path.display()
            ),
            None if is_under_way => output.complain("going on with the rotation that is under way"),
            None => {
                // Before anything is done to the file: this is the first that takes the right to write.
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

/// A rotation, with the keyring's file, and what was done so far.
struct Rotation {
    held: LockedKeyring,
    path: PathBuf,
    format: Format,
    done: Done,
}

impl Rotation {
    /// One that has done nothing yet.
    fn of(held: LockedKeyring, path: PathBuf, format: Format) -> Self {
        Self { held, path, format, done: Done::default() }
    }

    fn keyring(&self) -> &Keyring {
        self.held.keyring()
    }

    /// Adds a key.
    fn add(&mut self, output: &mut Output) -> Result<()> {
        self.held.replace(self.keyring().clone().with_another(new_key()?))?;
        self.done.added = self.keyring().ids().last().map(str::to_owned);
        self.tell(output, &format!("added a key to {}; back it up", self.path.display()))
    }

    /// Takes down that the key that seals now is about to be an old one.
    async fn supersede(&self, database: &dyn AccountRegister) -> Result<()> {
        Ok(database.supersede(sealing(self.keyring()), SystemEnvironment.now()).await?)
    }

    /// Has the key seal that was added last. Afterwards the last one is an old one, which the database knows.
    async fn switch(&mut self, database: &dyn AccountRegister, output: &mut Output) -> Result<()> {
        let (in_use, outgoing) = (database.sealing_keys_in_use().await?, database.outgoing_keys().await?);
        let is_new = |key: &str| !in_use.contains(key) && !outgoing.contains(key);
        if self.keyring().ids().count() > 1 && self.keyring().ids().last().is_some_and(is_new) {
            self.supersede(database).await?;
            self.held.replace(self.keyring().clone().sealing_with_the_last())?;
            self.done.switched = true;
        }
        let since = if self.done.switched { "from now on" } else { "already" };
        self.tell(output, &format!("the key {} seals {since}", sealing(self.keyring())))
    }

    /// Seals anew whatever another key has sealed.
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
                        output.complain(error);
                    }
                }
            }
            self.done.resealed += database.reseal(&resealed, SystemEnvironment.now()).await?;
            output.complain(format!("{} of {all} secret keys sealed anew", self.done.resealed));
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
            0 => self.tell(output, &format!("every secret key is sealed with the key {sealing}")),
            meanwhile => {
                output.complain(format!("secret keys that were sealed with another key meanwhile: {meanwhile}"));
                Ok(())
            }
        }
    }

    /// Removes the keys that nothing needs any more, once nobody can seal with them any more.
    async fn remove(&mut self, database: &dyn AccountRegister, output: &mut Output) -> Result<()> {
        self.keyring().check(&database.sealing_keys_in_use().await?)?;
        let others: BTreeSet<String> = self.keyring().ids().skip(1).map(str::to_owned).collect();
        let retired = database.retire(&others, SystemEnvironment.now()).await?;
        if !retired.is_empty() {
            self.held.remove(&retired)?;
            self.done.removed_to = Some(self.held.removed().display().to_string());
        }
        self.done.removed.extend(retired);
        for key in &self.done.removed {
            self.tell(output, &format!("removed the key {key}, which nothing in this database is sealed with"))?;
        }
        if let Some(file) = &self.done.removed_to {
            self.tell(
                output,
                &format!("removed keys are in {file}; delete it once no other database and no backup needs them"),
            )?;
        }
        if others.is_empty() {
            output.complain("there is no other key to remove");
        }
        for key in self.keyring().ids().skip(1) {
            output.complain(format!("kept the key {key}: secret keys are still sealed with it, and `keyring rotate --only reseal` seals them anew"));
        }
        Ok(())
    }

    /// Tells people at once; programs get it all at the end.
    fn tell(&self, output: &mut Output, text: &str) -> Result<()> {
        if self.format == Format::Text { output.line(text) } else { Ok(()) }
    }

    fn told(self) -> Rotated {
        Rotated {
            keyring: self.path.display().to_string(),
            seals: sealing(self.keyring()).to_owned(),
            opens: self.keyring().ids().skip(1).map(str::to_owned).collect(),
            done: self.done,
        }
    }
}

/// The id of the key that seals.
fn sealing(keyring: &Keyring) -> &str {
    keyring.ids().next().unwrap_or_default()
}
