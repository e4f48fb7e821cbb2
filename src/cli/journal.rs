//! `opsadmin journal`: writes the journal of all accounts as JSON lines, for a SIEM.

use super::database::DatabaseArgs;
use super::history::changes;
use super::journal_cursor::Cursor;
use super::output::{Output, as_json_line};
use crate::database::{AccountAdmin, DatabaseError, JournalRecord};
use crate::run::JournalTail;
use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;
use serde_json::json;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// The number of entries in one read.
const AT_A_TIME: u16 = 1000;

/// The time between two reads.
const READ_EVERY: Duration = Duration::from_secs(2);

/// Write the journal of all accounts as JSON lines: one line for each change, oldest first.
///
/// With --follow, wait for new entries, and write each within seconds. With --cursor, continue after a restart: every
/// entry is written at least once, and some may be written again. The journal never contains a key. Nothing is changed in
/// the database, and the right to read is enough.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin journal\n  opsadmin journal --follow \\\n    --cursor journal.cursor --to journal.jsonl \\\n    --database postgres://reader@db.example.com/opsadmin"
)]
pub struct Journal {
    #[command(flatten)]
    database: DatabaseArgs,

    /// Wait for new entries instead of ending at the last one.
    #[arg(long)]
    follow: bool,

    /// The file with the position in the journal. It is created if it does not exist, and the journal then begins with
    /// the first entry. Use one file for each database and each reader.
    #[arg(long, value_name = "FILE")]
    cursor: Option<PathBuf>,

    /// Append the lines to this file. Default: standard output.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

impl Journal {
    /// Writes the entries. With `--follow`, runs until a signal.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let database = self.database.open_read_only().await?;
        let written = tokio::select! {
            written = self.write(database.as_ref(), output) => written,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        };
        database.close().await;
        written.map(|()| ExitCode::SUCCESS)
    }

    async fn write(&self, database: &dyn AccountAdmin, output: &mut Output) -> Result<()> {
        let identity = database.identity().await?;
        let mut cursor = Cursor::read(self.cursor.as_deref(), identity.as_deref())?;
        let mut tail = JournalTail::after(cursor.position());
        let mut lines = Lines::open(self.to.as_deref())?;
        let mut is_away = false;
        loop {
            match write_new(database, &mut tail, &mut lines, &mut cursor).await {
                Ok(()) => is_away = false,
                Err(error) if self.follow && is_retryable(&error) => {
                    if !is_away {
                        output.note(format!("{error:#}; trying again"));
                    }
                    is_away = true;
                }
                Err(error) => return Err(error),
            }
            if !self.follow {
                return Ok(());
            }
            tokio::time::sleep(READ_EVERY).await;
        }
    }
}

/// Writes the entries that were not written yet, and then the position.
async fn write_new(
    database: &dyn AccountAdmin,
    tail: &mut JournalTail,
    lines: &mut Lines,
    cursor: &mut Cursor,
) -> Result<()> {
    let mut after = tail.position();
    loop {
        let records = database.journal_after(after, AT_A_TIME).await?;
        let is_last = records.len() < usize::from(AT_A_TIME);
        after = records.last().map_or(after, |record| record.id);
        let new = tail.take_new(records, Instant::now(), Timestamp::now());
        lines.write(&new)?;
        cursor.move_to(tail.position())?;
        if is_last {
            return Ok(());
        }
    }
}

fn is_retryable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<DatabaseError>().is_some_and(DatabaseError::is_retryable)
}

/// Where the lines are written to.
enum Lines {
    Stdout,
    File(File, PathBuf),
}

impl Lines {
    fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        let file = File::options().append(true).create(true).open(path);
        Ok(Self::File(file.with_context(|| format!("cannot write to {}", path.display()))?, path.to_owned()))
    }

    /// Writes the entries. Returns when they are on the disk, or were accepted by the reader of standard output.
    fn write(&mut self, records: &[JournalRecord]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let text = records.iter().map(line).collect::<Result<String>>()?;
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")
            }
            Self::File(file, path) => {
                let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
                written.with_context(|| format!("cannot write to {}", path.display()))
            }
        }
    }
}

/// Returns the line of an entry, with its end.
fn line(record: &JournalRecord) -> Result<String> {
    let (changes, note) = changes(&record.changes);
    let line = json!({
        "id": record.id,
        "at": record.at,
        "account": record.account,
        "actor": record.actor,
        "generation": record.generation,
        "requestedBy": record.requested_by,
        "action": record.action,
        "changes": changes,
        "note": note,
    });
    Ok(as_json_line(&line)? + "\n")
}
