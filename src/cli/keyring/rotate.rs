//! `opsadmin keyring rotate`: adds a new key to the keyring, seals all secret keys in the database with it, and removes
//! the old keys.

use crate::cli::database::{DatabaseArgs, KeyringArgs};
use crate::cli::environment::SystemEnvironment;
use crate::cli::output::{Format, FormatArgs, Output};
use crate::database::{AccountAdmin, LockedKeyring};
use crate::run::{KeyringRotation, ResealProgress, RotationDone};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;

/// Add a new key to the keyring, seal every secret key in the database with it, and remove the old key when no secret
/// key is sealed with it any more. The keys of partners do not change.
///
/// The command checks this database only, so each database needs its own keyring. A removed key is moved to
/// FILE.removed beside the keyring FILE, and can be restored from there. Delete that file when no other database and no
/// backup is sealed with the key; after a leak, as soon as possible.
///
/// After an interruption, the same command continues where it stopped. Two of them never run at once on one file.
/// Programs that hold a copy of the keyring, such as a running controller and OpsAdmin's API servers, must have each
/// new file before the next step; a controller reads a changed file by itself. In this case, run the steps one by one, with --only add, use, reseal and remove, and
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
    done: RotationDone,
    /// The id of the key that seals now.
    seals: String,
    /// The ids of the other keys in the keyring. While there are any, the rotation is not finished.
    opens: Vec<String>,
}

impl Rotate {
    /// Rotates the keyring, and prints what was done.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let path = self.keyring.path(&self.database)?;
        let file = LockedKeyring::take(&path)?;
        let database = self.database.open_existing().await?;
        let rotated = self.rotate(file, &path, database.as_ref(), output).await;
        database.close().await;
        rotated
    }

    /// Runs the steps until one fails. Prints what was done in either case.
    async fn rotate(
        &self,
        file: LockedKeyring,
        path: &Path,
        database: &dyn AccountAdmin,
        output: &mut Output,
    ) -> Result<ExitCode> {
        let mut rotation = KeyringRotation::of(file, database, &SystemEnvironment).await?;
        let result = self.steps(&mut rotation, path, output).await;
        let rotated = Rotated {
            keyring: path.display().to_string(),
            seals: rotation.sealing_key().to_owned(),
            opens: rotation.other_keys().map(str::to_owned).collect(),
            done: rotation.done,
        };
        output.value(self.format.format, &rotated)?;
        result.map(|()| ExitCode::SUCCESS)
    }

    async fn steps(&self, rotation: &mut KeyringRotation<'_>, path: &Path, output: &mut Output) -> Result<()> {
        let does = |step: Step| self.only.is_none_or(|only| only == step);
        match self.only {
            Some(Step::Add) if rotation.is_under_way() => bail!(
                "{} has more than one key already: a rotation is in progress; continue with --only use, reseal or remove",
                path.display()
            ),
            None if rotation.is_under_way() => output.note("continuing the rotation that is in progress"),
            None => {
                rotation.supersede().await?;
                self.add(rotation, path, output)?;
            }
            Some(Step::Add) => self.add(rotation, path, output)?,
            Some(_) => {}
        }
        if does(Step::Use) {
            rotation.switch().await?;
            let since = if rotation.done.switched { "now" } else { "already" };
            self.print_text(output, &format!("the key {} {since} seals new secret keys", rotation.sealing_key()))?;
        }
        if does(Step::Reseal) {
            self.reseal(rotation, output).await?;
        }
        if does(Step::Remove) {
            self.remove(rotation, output).await?;
        }
        Ok(())
    }

    fn add(&self, rotation: &mut KeyringRotation<'_>, path: &Path, output: &mut Output) -> Result<()> {
        rotation.add()?;
        self.print_text(output, &format!("added a key to {}; back it up", path.display()))
    }

    async fn reseal(&self, rotation: &mut KeyringRotation<'_>, output: &mut Output) -> Result<()> {
        let mut progress = |progress| match progress {
            ResealProgress::Unreadable(error) => output.note(error),
            ResealProgress::Sealed { done, all } => {
                output.note(format!("{done} of {all} secret keys sealed with the new key"));
            }
        };
        match rotation.reseal(&mut progress).await? {
            0 => {
                let sealing = rotation.sealing_key();
                self.print_text(output, &format!("every secret key is sealed with the key {sealing}"))
            }
            sealed_meanwhile => {
                output.note(format!("secret keys that were sealed with another key meanwhile: {sealed_meanwhile}"));
                Ok(())
            }
        }
    }

    async fn remove(&self, rotation: &mut KeyringRotation<'_>, output: &mut Output) -> Result<()> {
        let had_others = rotation.remove().await?;
        for key in &rotation.done.removed {
            self.print_text(
                output,
                &format!("removed the key {key}: no secret key in this database is sealed with it"),
            )?;
        }
        if let Some(file) = &rotation.done.removed_to {
            self.print_text(
                output,
                &format!("removed keys are in {file}; delete it once no other database and no backup needs them"),
            )?;
        }
        if !had_others {
            output.note("there is no other key to remove");
        }
        for key in rotation.other_keys() {
            output.note(format!("kept the key {key}: secret keys are still sealed with it, and `keyring rotate --only reseal` seals them with the new key"));
        }
        Ok(())
    }

    /// Prints a line of text now. JSON and YAML are printed at the end.
    fn print_text(&self, output: &mut Output, text: &str) -> Result<()> {
        if self.format.format == Format::Text { output.line(text) } else { Ok(()) }
    }
}
