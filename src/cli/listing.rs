//! Prints a result with one long list item by item, so that the whole list is never in memory.

use super::output::{Format, Output, as_json, as_yaml};
use anyhow::Result;
use serde::Serialize;

/// Prints an object with two fields: a list, item by item, and a value that is known after the last item.
pub struct Listing {
    format: Format,
    list: &'static str,
    /// The last item as JSON. It is printed later, when it is known whether a comma follows.
    last: Option<String>,
    is_begun: bool,
}

impl Listing {
    /// Starts an object whose first field is a list of this name. With [`Format::Text`] nothing is printed, because
    /// each command prints its own text.
    pub fn new(format: Format, list: &'static str) -> Self {
        Self { format, list, last: None, is_begun: false }
    }

    /// Adds an item.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn push(&mut self, item: &impl Serialize, output: &mut Output) -> Result<()> {
        let list = self.list;
        match self.format {
            Format::Text => return Ok(()),
            Format::Json => match self.last.replace(indented(&as_json(item)?, 4)) {
                Some(item) => output.line(&format!("{item},"))?,
                None => output.line(&format!("{{\n  \"{list}\": ["))?,
            },
            Format::Yaml => {
                if !self.is_begun {
                    output.line(&format!("{list}:"))?;
                }
                output.line(as_yaml(&[item])?.trim_end())?;
            }
        }
        self.is_begun = true;
        Ok(())
    }

    /// Ends the list, and prints the second field with this name.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn end(self, name: &str, value: &impl Serialize, output: &mut Output) -> Result<()> {
        let list = self.list;
        match self.format {
            Format::Text => Ok(()),
            Format::Json => {
                match self.last {
                    Some(item) => output.line(&format!("{item}\n  ],"))?,
                    None => output.line(&format!("{{\n  \"{list}\": [],"))?,
                }
                output.line(&format!("  \"{name}\": {}\n}}", indented(&as_json(value)?, 2).trim_start()))
            }
            Format::Yaml => {
                if !self.is_begun {
                    output.line(&format!("{list}: []"))?;
                }
                output.line(&format!("{name}:\n{}", indented(as_yaml(value)?.trim_end(), 2)))
            }
        }
    }
}

/// Indents every line of JSON or YAML. This is safe, because both formats are printed without multi-line texts.
fn indented(text: &str, by: usize) -> String {
    let margin = " ".repeat(by);
    text.lines().map(|line| format!("{margin}{line}")).collect::<Vec<_>>().join("\n")
}
