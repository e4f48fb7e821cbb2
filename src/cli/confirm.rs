//! Asks the user before an action that cannot be undone.

use super::terminal::{folded, width};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::io::{IsTerminal, Write, stderr, stdin};

/// The option that replaces the question.
#[derive(Debug, Args)]
pub struct ConfirmArgs {
    /// Do it without asking. Needed where no user can answer, such as in a script.
    #[arg(short, long)]
    yes: bool,
}

impl ConfirmArgs {
    /// Asks the user whether to do `what`, a sentence without a full stop.
    ///
    /// # Errors
    /// The user did not answer yes, or there is no terminal to ask on.
    pub fn ask(&self, what: &str) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        if !stdin().is_terminal() || !stderr().is_terminal() {
            bail!(
                "{what}: there is no terminal to ask on, so nothing was done; to go on without the question, give --yes"
            );
        }
        let question = folded(&format!("{what}. Go on? [y/N]"), width(stderr())).join("\n");
        write!(stderr(), "{question} ").context("cannot ask")?;
        stderr().flush().context("cannot ask")?;
        let mut answer = String::new();
        stdin().read_line(&mut answer).context("cannot read the answer")?;
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => bail!("nothing was done"),
        }
    }
}
