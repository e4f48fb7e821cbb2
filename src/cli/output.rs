//! Printing: results to standard output, notes and complaints to standard error.
//!
//! A reader that went away (`opsadmin apply | head -1`) ends the printing and not the work: half of it would be worse.
//! Colours reach terminals only, and not those that ask for none (`NO_COLOR`).

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use tabwriter::TabWriter;

/// How a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

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
        match writeln!(anstream::stdout(), "{text}") {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.nobody_reads = true;
                Ok(())
            }
            other => other.context("cannot write to standard output"),
        }
    }

    /// Prints the whole result for a program; [`Format::Text`] prints nothing, since that is the command's own to do.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn value(&mut self, format: Format, value: &impl Serialize) -> Result<()> {
        match format {
            Format::Text => Ok(()),
            Format::Json => self.line(&serde_json::to_string_pretty(value)?),
            Format::Yaml => self.line(serde_saphyr::to_string(value)?.trim_end()),
        }
    }

    /// Prints rows, the first of them the heading, in columns that are as wide as need be.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn table<const N: usize>(&mut self, rows: &[[String; N]]) -> Result<()> {
        let mut columns = TabWriter::new(Vec::new()).padding(3);
        for row in rows {
            writeln!(columns, "{}", row.join("\t"))?;
        }
        let text = String::from_utf8(columns.into_inner()?)?;
        text.lines().try_for_each(|line| self.line(line.trim_end()))
    }

    /// Prints a note or a complaint. If even that is impossible there is nobody left to tell.
    #[expect(clippy::unused_self, reason = "all printing goes through one place")]
    pub fn complain(&self, text: impl Display) {
        drop(writeln!(io::stderr(), "{text}"));
    }
}
