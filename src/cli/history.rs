//! `opsadmin history`: shows what happened to an account, from the journal.

use super::account::AccountArgs;
use super::database::DatabaseArgs;
use super::output::{Format, FormatArgs, Output};
use super::text::{display_name, display_sentence};
use crate::account::AccountId;
use crate::database::{JournalEntry, JournalledChange, JournalledChanges};
use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Show what happened to an account: when, by whom, for which generation of its resource, who wrote it, and what
/// changed.
///
/// The journal keeps the entries of deleted and purged accounts: give the id of such an account. It never contains a
/// key. Nothing is changed, and rights to read are enough.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin history acme\n  opsadmin history 6f1c2a4e-5b0d-4c1e-9a57-2f1f0e6f7a10 -o json\n  opsadmin history -n partners acme-portal"
)]
pub struct History {
    #[command(flatten)]
    account: AccountArgs,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    format: FormatArgs,
}

impl History {
    /// Prints the journal of the account.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let database = self.database.open_read_only().await?;
        let told = async {
            let id = self.account.find_id(database.as_ref()).await?;
            anyhow::Ok((id, database.journal(id).await?))
        }
        .await;
        database.close().await;
        let (id, entries) = told?;
        if entries.is_empty() {
            bail!("the journal tells nothing of the account {id}");
        }
        match self.format.format {
            Format::Text => output.table(&rows(&entries))?,
            format => output.value(format, &value(id, &entries))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn value(id: AccountId, entries: &[JournalEntry]) -> Value {
    let entries = entries.iter().map(|entry| {
        let (changes, note) = changes(&entry.changes);
        json!({
            "at": entry.at,
            "actor": entry.actor,
            "generation": entry.generation,
            "requestedBy": entry.requested_by,
            "action": entry.action,
            "changes": changes,
            "note": note,
        })
    });
    json!({ "account": id.to_string(), "entries": entries.collect::<Vec<_>>() })
}

/// Returns the changes of an entry for `changes` and `note` of its JSON.
pub(super) fn changes(changes: &JournalledChanges) -> (Vec<Value>, Option<&str>) {
    let change = |change: &JournalledChange| json!({ "field": change.field, "old": change.old, "new": change.new });
    match changes {
        JournalledChanges::Changes(changes) => (changes.iter().map(change).collect(), None),
        JournalledChanges::Text(text) => (Vec::new(), Some(text)),
    }
}

fn rows(entries: &[JournalEntry]) -> Vec<[String; 5]> {
    let mut rows = vec![["AT", "ACTOR", "GENERATION", "ACTION", "CHANGES"].map(str::to_owned)];
    for entry in entries {
        let mut told: Vec<String> = match &entry.changes {
            JournalledChanges::Changes(changes) => changes.iter().map(in_words).collect(),
            JournalledChanges::Text(text) => vec![display_sentence(text)],
        };
        told.extend(entry.requested_by.as_deref().map(|by| format!("requested by {}", display_sentence(by))));
        let mut told = told.into_iter();
        rows.push([
            format!("{:.0}", entry.at),
            display_name(&entry.actor),
            entry.generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string()),
            display_name(&entry.action),
            told.next().unwrap_or_default(),
        ]);
        rows.extend(told.map(|line| [String::new(), String::new(), String::new(), String::new(), line]));
    }
    rows
}

fn in_words(change: &JournalledChange) -> String {
    let shown = |text: &str| if text.is_empty() { "nothing".to_owned() } else { display_sentence(text) };
    format!("{}: {} → {}", display_name(&change.field), shown(&change.old), shown(&change.new))
}
