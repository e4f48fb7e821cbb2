//! `opsadmin keyring status`: shows the keys of the keyring and how many secret keys each of them has sealed.

use crate::cli::database::{DatabaseArgs, KeyringArgs};
use crate::cli::output::{Format, FormatArgs, Output};
use crate::database::Keyring;
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Show the keys of the keyring, and how many secret keys in the database each of them has sealed. The keys themselves
/// are never shown.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  opsadmin keyring status --database sqlite://opsadmin.db")]
pub(super) struct Status {
    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    keyring: KeyringArgs,

    #[command(flatten)]
    format: FormatArgs,
}

/// A key of the keyring, or a key that is missing from it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    /// The id of the key.
    id: String,
    /// `seals`, `opens`, or `missing` if the keyring does not have the key.
    state: &'static str,
    /// The number of secret keys in the database that are sealed with the key.
    sealed_secret_keys: u64,
}

impl Status {
    /// Prints the status.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let keyring = Keyring::load(&self.keyring.path(&self.database)?)?;
        let database = self.database.open_read_only().await?;
        let sealed = database.sealed_pairs().await;
        database.close().await;
        let keys = keys(&keyring, sealed?);
        if self.format.format == Format::Text {
            let heading = ["KEY", "STATE", "SEALED SECRET KEYS"].map(str::to_owned);
            let rows =
                keys.iter().map(|key| [key.id.clone(), key.state.to_owned(), key.sealed_secret_keys.to_string()]);
            let rows: Vec<_> = [heading].into_iter().chain(rows).collect();
            output.painted_table(&rows, |row| match row.checked_sub(1).map(|key| keys[key].state) {
                Some("missing") => AnsiColor::Red.on_default(),
                _ => Style::new(),
            })?;
        }
        output.value(self.format.format, &keys)?;
        let is_missing = keys.iter().any(|key| key.state == "missing");
        if is_missing {
            output.note("secret keys that are sealed with a missing key cannot be read: this is not the keyring of the database");
        }
        Ok(if is_missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn keys(keyring: &Keyring, mut sealed: BTreeMap<String, u64>) -> Vec<Key> {
    let states = ["seals"].into_iter().chain(std::iter::repeat("opens"));
    let mut keys: Vec<Key> = keyring
        .ids()
        .zip(states)
        .map(|(id, state)| Key { id: id.to_owned(), state, sealed_secret_keys: sealed.remove(id).unwrap_or(0) })
        .collect();
    keys.extend(sealed.into_iter().map(|(id, pairs)| Key { id, state: "missing", sealed_secret_keys: pairs }));
    keys
}
