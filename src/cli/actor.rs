//! Who runs a command, for the journal.

use anyhow::{Result, bail};
use clap::Args;

const MAX_CHARS: usize = 100;

/// Who.
#[derive(Debug, Args)]
pub struct ActorArgs {
    /// Who you are, for the journal, which has it as cli:NAME. Default: your user on this machine.
    #[arg(long, value_name = "NAME", env = "OPSADMIN_ACTOR")]
    actor: Option<String>,
}

impl ActorArgs {
    /// The journal's word for them. It always begins with `cli:`, so that nobody passes for the controller.
    pub fn in_journal(&self) -> Result<String> {
        let name = match &self.actor {
            Some(name) => name.clone(),
            None => match whoami::username() {
                Ok(user) => user,
                Err(error) => {
                    bail!("cannot tell who you are ({error}), and the journal must say it: give --actor NAME")
                }
            },
        };
        if name.trim().is_empty() || name.chars().any(char::is_control) || name.chars().count() > MAX_CHARS {
            bail!("{name:?} names nobody: an actor has 1 to {MAX_CHARS} characters, and no control characters");
        }
        Ok(format!("cli:{}", name.trim()))
    }
}
