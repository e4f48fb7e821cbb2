//! A result with one long list in it, printed while it comes about, so that it need never be held as a whole.

use super::output::{Format, Output, as_json, as_yaml};
use anyhow::Result;
use serde::Serialize;

/// Prints an object of two fields: a list, item by item, and what there is to say when it has ended.
pub struct Listing {
    format: Format,
    list: &'static str,
    /// The last item in JSON, which is printed when it is known whether a comma follows.
    last: Option<String>,
    is_begun: bool,
}

impl Listing {
    /// An object whose first field is this list. [`Format::Text`] prints nothing, since that is the command's own to do.
    pub fn new(format: Format, list: &'static str) -> Self {
        Self { format, list, last: None, is_begun: false }
    }

    /// Prints one more item.
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

    /// Prints the end: a field of this name.
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

/// The text with every line that much further in. JSON and YAML have no lines whose margin is part of a text.
fn indented(text: &str, by: usize) -> String {
    let margin = " ".repeat(by);
    text.lines().map(|line| format!("{margin}{line}")).collect::<Vec<_>>().join("\n")
}
