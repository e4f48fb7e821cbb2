//! Prints the results of `apply` while it runs, and its summary. Change the output of `apply` here.

use super::listing::Listing;
use super::manifests::count_accounts;
use super::output::{Format, Output};
use super::progress::Progress;
use crate::database::DatabaseError;
use crate::reconcile::Outcome;
use crate::run::{ACCOUNTS, AccountReport, SUMMARY, Summary};
use anyhow::Result;
use std::process::ExitCode;

/// The exit code after Ctrl-C: 128 + 2, the number of SIGINT, as shells report it.
const INTERRUPTED: u8 = 130;

/// Why `apply` stops before all accounts are done.
#[derive(Debug)]
pub enum Stop {
    /// The user pressed Ctrl-C.
    Interrupted,
    /// The database did not answer for several accounts in a row.
    DatabaseAway,
    /// The accounts of the next batch of manifests could not be read.
    ReadFailed(DatabaseError),
}

/// Reports the results of a running `apply`, and counts them.
pub struct Applied {
    all: usize,
    format: Format,
    summary: Summary,
    listing: Listing,
    progress: Option<Progress>,
}

impl Applied {
    /// Starts the report. `all` is the number of accounts to apply and to prune.
    pub fn new(format: Format, all: usize) -> Self {
        // In text, the lines of the accounts already show the progress.
        let progress = (format != Format::Text).then(|| Progress::new(all, "accounts applied"));
        Self { all, format, summary: Summary::default(), listing: Listing::new(format, ACCOUNTS), progress }
    }

    /// Prints the outcome of one account.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn push(&mut self, outcome: &Outcome, report: &AccountReport, output: &mut Output) -> Result<()> {
        self.progress.iter_mut().for_each(Progress::hide);
        let AccountReport { namespace, name, manifest, .. } = report;
        if self.format == Format::Text {
            outcome.done.iter().try_for_each(|done| output.sentence(&format!("{namespace}/{name}: {done}")))?;
        }
        if let Some(not_ready) = &outcome.not_ready {
            let place = manifest.as_deref().unwrap_or("--prune");
            output.note(format!("{place}: {namespace}/{name}: {}: {not_ready}", not_ready.reason()));
        }
        self.summary.count(report.result);
        self.listing.push(report, output)?;
        self.progress.iter_mut().for_each(Progress::step);
        Ok(())
    }

    /// Prints the summary, and returns the exit code.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn finish(self, output: &mut Output) -> Result<ExitCode> {
        let Self { summary, .. } = self;
        self.listing.end(SUMMARY, &summary, output)?;
        if self.format == Format::Text {
            output.line(&in_words(&summary))?;
        }
        Ok(if summary.refuse == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Prints the summary so far and the reason of the stop, and returns the exit code.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn stop(self, stop: Stop, output: &mut Output) -> Result<ExitCode> {
        self.listing.end(SUMMARY, &self.summary, output)?;
        let (why, code) = match stop {
            Stop::Interrupted => ("interrupted".to_owned(), ExitCode::from(INTERRUPTED)),
            Stop::DatabaseAway => ("stopped, since the account database does not answer".to_owned(), ExitCode::FAILURE),
            Stop::ReadFailed(error) => (format!("stopped: {error}"), ExitCode::FAILURE),
        };
        let left = count_accounts(self.all - self.summary.total());
        output.note(format!("{why}; {left} not looked at: run the same command to go on"));
        Ok(code)
    }
}

fn in_words(summary: &Summary) -> String {
    let all = count_accounts(summary.total());
    if summary.unchanged == summary.total() {
        return format!("{all}: nothing to change");
    }
    let Summary { create, adopt, restore, rotate, change, delete, refuse, unchanged, .. } = summary;
    let (created, changed) = (create + restore, adopt + rotate + change);
    let ends = [(delete, "deleted"), (refuse, "refused")];
    let ends = ends.iter().filter(|(number, _)| **number > 0).map(|(number, what)| format!(", {number} {what}"));
    let text = format!("{all}: {created} created, {changed} changed, {unchanged} unchanged");
    [text].into_iter().chain(ends).collect()
}
