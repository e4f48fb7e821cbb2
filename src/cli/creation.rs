//! The option that confirms that missing accounts are created again.

use clap::Args;

/// The option that confirms the creation of missing accounts.
#[derive(Debug, Args)]
pub struct CreationArgs {
    /// Create accounts again that the database lacks although the folder has their Secrets. Without it, this is refused
    /// when many accounts are missing, because the database is probably the wrong one.
    #[arg(long)]
    pub confirm_creation: bool,
}
