//! The user who runs a command, as the journal records the user.

use anyhow::{Result, anyhow, bail};
use clap::Args;

const MAX_CHARS: usize = 100;

/// The option for the user who runs a command.
#[derive(Debug, Args)]
pub struct ActorArgs {
    /// Your name in the journal, which records it as cli:NAME. Default: your user on this machine.
    #[arg(long, value_name = "NAME", env = "OPSADMIN_ACTOR", value_parser = name)]
    actor: Option<String>,
}

impl ActorArgs {
    /// Returns the actor for the journal. It always begins with `cli:`, so that no user can act as the controller.
    pub fn in_journal(&self) -> Result<String> {
        let name = match &self.actor {
            Some(name) => name.clone(),
            None => match whoami::username() {
                Ok(user) => user,
                Err(error) => {
                    bail!("cannot find your user name ({error}), and the journal must record it: give --actor NAME")
                }
            },
        };
        let name = self::name(&name)
            .map_err(|reason| anyhow!("your user on this machine {name:?} {reason}; give --actor NAME"))?;
        Ok(format!("cli:{name}"))
    }
}

/// Checks that the journal can record the name.
fn name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() || name.chars().any(char::is_control) || name.chars().count() > MAX_CHARS {
        return Err(format!(
            "is not a valid name: an actor has 1 to {MAX_CHARS} characters, and no control characters"
        ));
    }
    Ok(name.to_owned())
}
