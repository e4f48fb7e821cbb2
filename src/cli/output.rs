//! Printing: results to standard output, notes and complaints to standard error.
//!
//! A reader that went away (`opsadmin apply | head -1`) ends the printing and not the work: half of it would be worse.

use anyhow::{Context, Result};
use std::io::{self, ErrorKind, Write};

/// Where a command prints.
#[derive(Default)]
pub struct Output {
    nobody_reads: bool,
}

impl Output {
    /// Prints one line of the result.
    ///
    /// # Errors
    /// Standard output cannot be written, other than because its reader went away.
    pub fn line(&mut self, text: &str) -> Result<()> {
        if self.nobody_reads {
            return Ok(());
        }
        match writeln!(io::stdout(), "{text}") {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.nobody_reads = true;
                Ok(())
            }
            other => other.context("cannot write to standard output"),
        }
    }

    /// Prints a note or a complaint. If even that is impossible there is nobody left to tell.
    #[expect(clippy::unused_self, reason = "all printing goes through one place")]
    pub fn complain(&self, text: &str) {
        drop(writeln!(io::stderr(), "{text}"));
    }
}
