//! Who runs a command, for the journal.

use anyhow::{Result, anyhow, bail};
use clap::Args;

const MAX_CHARS: usize = 100;

/// Who.
#[derive(Debug, Args)]
pub struct ActorArgs {
    /// Who you are, for the journal, which has it as cli:NAME. Default: your user on this machine.
    #[arg(long, value_name = "NAME", env = "OPSADMIN_ACTOR", value_parser = name)]
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
        let name = self::name(&name)
            .map_err(|reason| anyhow!("your user on this machine {name:?} {reason}; give --actor NAME"))?;
        Ok(format!("cli:{name}"))
    }
}

/// A name that the journal can say.
fn name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() || name.chars().any(char::is_control) || name.chars().count() > MAX_CHARS {
        return Err(format!("names nobody: an actor has 1 to {MAX_CHARS} characters, and no control characters"));
    }
    Ok(name.to_owned())
}
