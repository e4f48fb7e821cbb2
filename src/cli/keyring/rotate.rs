//! `opsadmin keyring rotate`: a new key seals from now on, and what older ones sealed is sealed anew.

use crate::cli::database::{DatabaseArgs, KeyringArgs, new_key};
use crate::cli::output::Output;
use crate::cli::surroundings::Machine;
use crate::database::{AccountRegister, Keyring, Resealed, SealedPair};
use crate::reconcile::Surroundings;
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use std::path::Path;
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

impl Rotate {
    /// Rotates, and prints what was done.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let path = self.keyring.path(&self.database)?;
        let keyring = Keyring::load(&path)?;
        let database = self.database.open_existing().await?;
        let rotated = self.rotate(keyring, &path, database.as_ref(), output).await;
        database.close().await;
        rotated
    }

    async fn rotate(
        &self,
        mut keyring: Keyring,
        path: &Path,
        database: &dyn AccountRegister,
        output: &mut Output,
    ) -> Result<ExitCode> {
        let in_use = database.sealing_keys_in_use().await?;
        keyring.check(&in_use)?;
        let whole = self.only.is_none();
        let is_under_way = keyring.ids().count() > 1;
        match self.only {
            None if is_under_way => output.complain("going on with the rotation that is under way"),
            None | Some(Step::Add) if !is_under_way => {
                keyring = keyring.with_another(new_key()?);
                keyring.replace(path)?;
                output.line(&format!("added a key to {}; back it up", path.display()))?;
            }
            Some(Step::Add) => bail!(
                "{} has more than one key already: a rotation is under way; go on with --only use, reseal or remove",
                path.display()
            ),
            _ => {}
        }
        if whole || self.only == Some(Step::Use) {
            // The key that was added last has sealed nothing until it is used; afterwards the last one is an old one.
            let is_new = keyring.ids().last().is_some_and(|last| !in_use.contains(last));
            if keyring.ids().count() > 1 && is_new {
                keyring = keyring.sealing_with_the_last();
                keyring.replace(path)?;
            }
            output.line(&format!("the key {} seals from now on", sealing(&keyring)))?;
        }
        if whole || self.only == Some(Step::Reseal) {
            reseal(&keyring, database, output).await?;
        }
        if whole || self.only == Some(Step::Remove) {
            remove(keyring, path, database, output).await?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Seals anew whatever another key has sealed.
async fn reseal(keyring: &Keyring, database: &dyn AccountRegister, output: &mut Output) -> Result<()> {
    let all: u64 =
        database.sealed_pairs().await?.iter().filter(|(key, _)| *key != sealing(keyring)).map(|(_, n)| n).sum();
    let (mut done, mut unread) = (0_u64, 0_u64);
    let mut last: Option<SealedPair> = None;
    loop {
        let pairs = database.sealed_otherwise(sealing(keyring), last.as_ref(), BATCH).await?;
        let Some(end) = pairs.last() else { break };
        let mut resealed = Vec::new();
        for SealedPair { account, key } in &pairs {
            match keyring.open(*account, key.id, &key.sealed) {
                Ok(secret_key) => {
                    let mut nonce = [0; 12];
                    Machine.fill(&mut nonce)?;
                    let sealed = keyring.seal(*account, key.id, &secret_key, nonce);
                    let before = key.sealed.sealed_with.clone();
                    resealed.push(Resealed { account: *account, key: key.id, before, sealed });
                }
                Err(error) => {
                    unread += 1;
                    output.complain(error);
                }
            }
        }
        database.reseal(&resealed, Machine.now()).await?;
        done += u64::try_from(resealed.len())?;
        output.complain(format!("{done} of {all} secret keys sealed anew"));
        last = Some(end.clone());
    }
    if unread > 0 {
        bail!(
            "secret keys that cannot be opened: {unread}; they were left as they are, and so was the key that they need"
        );
    }
    output.line(&format!("every secret key is sealed with the key {}", sealing(keyring)))
}

/// Removes the keys that nothing needs any more.
async fn remove(keyring: Keyring, path: &Path, database: &dyn AccountRegister, output: &mut Output) -> Result<()> {
    let in_use = database.sealing_keys_in_use().await?;
    let before: Vec<String> = keyring.ids().map(str::to_owned).collect();
    let keyring = keyring.without_unused(&in_use);
    let kept: Vec<&str> = keyring.ids().collect();
    keyring.replace(path)?;
    for key in before.iter().filter(|key| !kept.contains(&key.as_str())) {
        output.line(&format!("removed the key {key}, which nothing is sealed with"))?;
    }
    for key in kept.iter().skip(1) {
        output.complain(format!("kept the key {key}: secret keys are still sealed with it"));
    }
    Ok(())
}

/// The id of the key that seals.
fn sealing(keyring: &Keyring) -> &str {
    keyring.ids().next().unwrap_or_default()
}
