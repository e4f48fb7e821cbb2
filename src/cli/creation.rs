//! The option that confirms that missing accounts are created again.

use clap::Args;

/// Whether somebody has confirmed that accounts are made anew.
#[derive(Debug, Args)]
pub struct CreationArgs {
    /// Make accounts anew that the database lacks though the folder has their Secrets. Without it, that is refused when many are
    /// missing: the database is more likely the wrong one.
    #[arg(long)]
    pub confirm_creation: bool,
}
