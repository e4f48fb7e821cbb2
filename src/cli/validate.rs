//! `opsadmin validate`: are these manifests right, as far as can be known without a cluster or a database?

use super::LOCAL_CLUSTER;
use super::manifests::{ManifestArgs, count};
use super::output::Output;
use crate::account::ClusterId;
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

/// Check manifests by the rules that a cluster enforces at admission, without one.
///
/// Lists every problem with file, line and field. Unknown fields are problems too: on a cluster, a typo may be dropped in
/// silence.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin validate -f accounts/\n  kustomize build overlays/prod | opsadmin validate -f -"
)]
pub struct Validate {
    #[command(flatten)]
    manifests: ManifestArgs,
}

impl Validate {
    /// Checks them, and prints what is wrong.
    pub fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let Some(manifests) = self.manifests.read(&ClusterId::parse(LOCAL_CLUSTER)?, output) else {
            return Ok(ExitCode::FAILURE);
        };
        let accounts = manifests.accounts.len();
        output.line(&format!("{} {} valid", count(accounts), if accounts == 1 { "is" } else { "are" }))?;
        Ok(ExitCode::SUCCESS)
    }
}
