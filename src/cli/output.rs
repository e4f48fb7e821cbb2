//! Printing: results to standard output, notes and complaints to standard error.
//!
//! A reader that went away (`opsadmin apply | head -1`) ends the printing and not the work: half of it would be worse.
//! Colours reach terminals only, and not those that ask for none (`NO_COLOR`); only for a terminal anything is folded.

use super::terminal::{breadth, columns, folded, width};
use crate::yaml::{self, is_harmless};
use anstyle::Style;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

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

/// How to print, on the command line.
#[derive(Debug, Args)]
pub struct FormatArgs {
    /// How to print the result.
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "text")]
    pub format: Format,
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
            Format::Json => self.line(&as_json(value)?),
            Format::Yaml => self.line(as_yaml(value)?.trim_end()),
        }
    }

    /// Prints rows, the first of them the heading, in columns that are as wide as need be.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn table<const N: usize>(&mut self, rows: &[[String; N]]) -> Result<()> {
        self.painted_table(rows, |_| Style::new())
    }

    /// The same with a style for each row, by its number.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn painted_table<const N: usize>(
        &mut self,
        rows: &[[String; N]],
        style: impl Fn(usize) -> Style,
    ) -> Result<()> {
        for (number, lines) in columns(rows, width(io::stdout())).iter().enumerate() {
            let style = style(number);
            lines.iter().try_for_each(|line| self.line(&format!("{style}{line}{style:#}")))?;
        }
        Ok(())
    }

    /// Whether no row of a table is wider than the terminal; anywhere else there is room for all.
    #[expect(clippy::unused_self, reason = "all printing goes through one place")]
    pub fn has_room_for<const N: usize>(&self, rows: &[[String; N]]) -> bool {
        width(io::stdout()).is_none_or(|width| breadth(rows) <= width)
    }

    /// Prints a line of the result that is made of words.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn words(&mut self, text: &str) -> Result<()> {
        folded(text, width(io::stdout())).iter().try_for_each(|line| self.line(line))
    }

    /// Prints a note or a complaint. If even that is impossible there is nobody left to tell.
    #[expect(clippy::unused_self, reason = "all printing goes through one place")]
    pub fn complain(&self, text: impl Display) {
        let width = width(io::stderr());
        for line in text.to_string().lines().flat_map(|line| folded(line, width)) {
            drop(writeln!(anstream::stderr(), "{line}"));
        }
    }
}

/// A value as JSON, for a person to read too.
///
/// # Errors
/// The value has no form in JSON.
pub fn as_json(value: &impl Serialize) -> Result<String> {
    Ok(without_control(&serde_json::to_string_pretty(value)?))
}

/// A value as YAML.
///
/// # Errors
/// The value has no form in YAML.
pub fn as_yaml(value: &impl Serialize) -> Result<String> {
    Ok(yaml::to_string(value)?)
}

/// JSON with the characters escaped that do something to a terminal and that JSON leaves as they are: they can stand in its
/// texts only. YAML's own rules have them escaped.
fn without_control(json: &str) -> String {
    if json.chars().all(is_harmless) {
        return json.to_owned();
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_harmless(c) {
            escaped.push(c);
        } else {
            let units = c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<_>>();
            escaped.push_str(&units.concat());
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::is_invisible;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn json_says_the_same_without_doing_anything_to_a_terminal(text: String, hidden in "[\u{7f}-\u{9f}\u{200b}-\u{202e}]*") {
            let text = text + &hidden;
            let json = serde_json::to_string_pretty(&[&text]).unwrap();
            let shown = without_control(&json);
            prop_assert!(!shown.contains(|c: char| c != '\n' && (c.is_control() || is_invisible(c))));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [text]);
        }

        #[test]
        fn yaml_says_the_same_without_control_characters(text: String) {
            let yaml = as_yaml(&[&text]).unwrap();
            prop_assert!(!yaml.contains(|c: char| c != '\n' && (c.is_control() || is_invisible(c))), "{yaml:?}");
            prop_assert_eq!(serde_saphyr::from_str::<Vec<String>>(&yaml).unwrap(), [text]);
        }
    }
}
