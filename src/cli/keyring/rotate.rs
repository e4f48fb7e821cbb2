//! `opsadmin keyring rotate`: a new key seals from now on, and what older ones sealed is sealed anew.

use crate::cli::database::{DatabaseArgs, KeyringArgs, new_key};
use crate::cli::output::{Format, FormatArgs, Output};
use crate::cli::surroundings::Machine;
use crate::database::{AccountRegister, Keyring, Resealed, SealedPair};
use crate::reconcile::Surroundings;
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
/// Whatever interrupts it, the same command goes on where it was. Programs that hold a copy of the keyring, such as a
/// running controller and OpsAdmin's API servers, must have each new file before the next step: run it step by step then,
/// with --only add, use, reseal and remove, and hand the file out after each of the first two and after the last.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin keyring rotate --database sqlite://opsadmin.db\n  opsadmin keyring rotate --only add --database postgres://opsadmin@db.example.com/opsadmin --keyring opsadmin.keyring"
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
}

impl Rotate {
    /// Rotates, and prints what was done.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let path = self.keyring.path(&self.database)?;
        let keyring = Keyring::load(&path)?;
        let database = self.database.open_existing().await?;
        let rotated = self.rotate(Rotation::of(keyring, path, self.format.format), database.as_ref(), output).await;
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
        let in_use = database.sealing_keys_in_use().await?;
        rotation.keyring.check(&in_use)?;
        let ended = self.steps(&mut rotation, &in_use, database, output).await;
        output.value(rotation.format, &rotation.told())?;
        ended.map(|()| ExitCode::SUCCESS)
    }

    async fn steps(
        &self,
        rotation: &mut Rotation,
        in_use: &BTreeSet<String>,
        database: &dyn AccountRegister,
        output: &mut Output,
    ) -> Result<()> {
        let does = |step: Step| self.only.is_none_or(|only| only == step);
        let is_under_way = rotation.keyring.ids().count() > 1;
        match self.only {
            Some(Step::Add) if is_under_way => bail!(
                "{} has more than one key already: a rotation is under way; go on with --only use, reseal or remove",
                rotation.path.display()
            ),
            None if is_under_way => output.complain("going on with the rotation that is under way"),
            _ if does(Step::Add) => rotation.add(output)?,
            _ => {}
        }
        if does(Step::Use) {
            rotation.switch(in_use, output)?;
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

/// A rotation, with the keyring as it stands in its file, and what was done so far.
struct Rotation {
    keyring: Keyring,
    path: PathBuf,
    format: Format,
    done: Done,
}

impl Rotation {
    /// One that has done nothing yet.
    fn of(keyring: Keyring, path: PathBuf, format: Format) -> Self {
        Self { keyring, path, format, done: Done::default() }
    }

    /// Adds a key.
    fn add(&mut self, output: &mut Output) -> Result<()> {
        self.replace(self.keyring.clone().with_another(new_key()?))?;
        self.done.added = self.keyring.ids().last().map(str::to_owned);
        self.tell(output, &format!("added a key to {}; back it up", self.path.display()))
    }

    /// Has the key seal that was added last: it has sealed nothing until then, and afterwards the last one is an old one.
    fn switch(&mut self, in_use: &BTreeSet<String>, output: &mut Output) -> Result<()> {
        let is_new = self.keyring.ids().last().is_some_and(|last| !in_use.contains(last));
        if self.keyring.ids().count() > 1 && is_new {
            self.replace(self.keyring.clone().sealing_with_the_last())?;
            self.done.switched = true;
        }
        let since = if self.done.switched { "from now on" } else { "already" };
        self.tell(output, &format!("the key {} seals {since}", sealing(&self.keyring)))
    }

    /// Seals anew whatever another key has sealed.
    async fn reseal(&mut self, database: &dyn AccountRegister, output: &mut Output) -> Result<()> {
        let sealing = sealing(&self.keyring).to_owned();
        let pairs = database.sealed_pairs().await?;
        let all: u64 = pairs.iter().filter(|(key, _)| **key != sealing).map(|(_, pairs)| pairs).sum();
        let mut last: Option<SealedPair> = None;
        loop {
            let pairs = database.sealed_otherwise(&sealing, last.as_ref(), BATCH).await?;
            let Some(end) = pairs.last() else { break };
            let mut resealed = Vec::new();
            for SealedPair { account, key } in &pairs {
                match self.keyring.open(*account, key.id, &key.sealed) {
                    Ok(secret_key) => {
                        let mut nonce = [0; 12];
                        Machine.fill(&mut nonce)?;
                        let sealed = self.keyring.seal(*account, key.id, &secret_key, nonce);
                        let before = key.sealed.sealed_with.clone();
                        resealed.push(Resealed { account: *account, key: key.id, before, sealed });
                    }
                    Err(error) => {
                        self.done.unreadable += 1;
                        output.complain(error);
                    }
                }
            }
            self.done.resealed += database.reseal(&resealed, Machine.now()).await?;
            output.complain(format!("{} of {all} secret keys sealed anew", self.done.resealed));
            last = Some(end.clone());
        }
        if self.done.unreadable > 0 {
            bail!(
                "secret keys that cannot be opened: {}; they were left as they are, and so was the key that they need",
                self.done.unreadable
            );
        }
        self.tell(output, &format!("every secret key is sealed with the key {sealing}"))
    }

    /// Removes the keys that nothing needs any more.
    async fn remove(&mut self, database: &dyn AccountRegister, output: &mut Output) -> Result<()> {
        let in_use = database.sealing_keys_in_use().await?;
        let before: Vec<String> = self.keyring.ids().map(str::to_owned).collect();
        self.replace(self.keyring.clone().without_unused(&in_use))?;
        self.done.removed = before.into_iter().filter(|key| self.keyring.ids().all(|kept| kept != key)).collect();
        for key in &self.done.removed {
            self.tell(output, &format!("removed the key {key}, which nothing is sealed with"))?;
        }
        if self.done.removed.is_empty() && self.keyring.ids().count() == 1 {
            output.complain("there is no other key to remove");
        }
        for key in self.keyring.ids().skip(1) {
            output.complain(format!("kept the key {key}: secret keys are still sealed with it"));
        }
        Ok(())
    }

    /// Takes another keyring, once it stands in the file.
    fn replace(&mut self, keyring: Keyring) -> Result<()> {
        keyring.replace(&self.path)?;
        self.keyring = keyring;
        Ok(())
    }

    /// Tells people at once; programs get it all at the end.
    fn tell(&self, output: &mut Output, text: &str) -> Result<()> {
        if self.format == Format::Text { output.line(text) } else { Ok(()) }
    }

    fn told(self) -> Rotated {
        Rotated {
            keyring: self.path.display().to_string(),
            seals: sealing(&self.keyring).to_owned(),
            opens: self.keyring.ids().skip(1).map(str::to_owned).collect(),
            done: self.done,
        }
    }
}

/// The id of the key that seals.
fn sealing(keyring: &Keyring) -> &str {
    keyring.ids().next().unwrap_or_default()
}
