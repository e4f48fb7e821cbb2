//! Prints results to standard output, and notes and errors to standard error. All commands print through this module.
//!
//! If the reader of standard output closes it (`opsadmin apply | head -1`), printing stops and the work continues: half
//! of the work would be worse. Only output to a terminal is coloured and folded. `NO_COLOR` switches the colours off.

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
    /// For people and programs.
    Yaml,
}

/// The option for the output format.
#[derive(Debug, Args)]
pub struct FormatArgs {
    /// How to print the result.
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}

/// Prints the output of a command.
#[derive(Default)]
pub struct Output {
    is_closed: bool,
}

impl Output {
    /// Prints one line of the result.
    ///
    /// # Errors
    /// Standard output cannot be written. A closed pipe is no error.
    pub fn line(&mut self, text: &str) -> Result<()> {
        if self.is_closed {
            return Ok(());
        }
        match writeln!(anstream::stdout(), "{text}") {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            other => other.context("cannot write to standard output"),
        }
    }

    /// Prints a complete result as JSON or YAML. With [`Format::Text`] nothing is printed, because each command prints
    /// its own text.
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

    /// Prints rows in aligned columns. The first row is the heading.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn table<const N: usize>(&mut self, rows: &[[String; N]]) -> Result<()> {
        self.painted_table(rows, |_| Style::new())
    }

    /// As [`Self::table`], with a style for each row. `style` gets the index of the row.
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

    /// Returns whether no row of the table is wider than the terminal. Always true if standard output is no terminal.
    #[expect(clippy::unused_self, reason = "all printing goes through one place")]
    pub fn has_room_for<const N: usize>(&self, rows: &[[String; N]]) -> bool {
        width(io::stdout()).is_none_or(|width| breadth(rows) <= width)
    }

    /// Prints a sentence of the result, folded to the width of the terminal.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn sentence(&mut self, text: &str) -> Result<()> {
        folded(text, width(io::stdout())).iter().try_for_each(|line| self.line(line))
    }

    /// Prints a note or an error to standard error. A failure to write is ignored, because there is no other place to
    /// report it.
    #[expect(clippy::unused_self, reason = "all printing goes through one place")]
    pub fn note(&self, text: impl Display) {
        let width = width(io::stderr());
        for line in text.to_string().lines().flat_map(|line| folded(line, width)) {
            drop(writeln!(anstream::stderr(), "{line}"));
        }
    }
}

/// Returns a value as indented JSON, with the characters escaped that control a terminal.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn as_json(value: &impl Serialize) -> Result<String> {
    Ok(without_control(&serde_json::to_string_pretty(value)?))
}

/// Returns a value as JSON in one line, with the characters escaped that control a terminal.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn as_json_line(value: &impl Serialize) -> Result<String> {
    Ok(without_control(&serde_json::to_string(value)?))
}

/// Returns a value as YAML.
///
/// # Errors
/// The value cannot be written as YAML.
pub fn as_yaml(value: &impl Serialize) -> Result<String> {
    Ok(yaml::to_string(value)?)
}

/// Escapes the characters in JSON that control a terminal and that JSON does not escape. They occur inside JSON strings
/// only, so an escape is always valid. YAML escapes them by its own rules.
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
        fn json_keeps_its_value_without_control_characters(text: String, hidden in "[\u{7f}-\u{9f}\u{200b}-\u{202e}]*") {
            let text = text + &hidden;
            let json = serde_json::to_string_pretty(&[&text]).unwrap();
            let shown = without_control(&json);
            prop_assert!(!shown.contains(|c: char| c != '\n' && (c.is_control() || is_invisible(c))));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [text]);
        }

        #[test]
        fn yaml_keeps_its_value_without_control_characters(text: String) {
            let yaml = as_yaml(&[&text]).unwrap();
            prop_assert!(!yaml.contains(|c: char| c != '\n' && (c.is_control() || is_invisible(c))), "{yaml:?}");
            prop_assert_eq!(serde_saphyr::from_str::<Vec<String>>(&yaml).unwrap(), [text]);
        }
    }
}
