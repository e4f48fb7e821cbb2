//! `opsadmin crd`: prints the CustomResourceDefinition of ApiAccount.

use super::output::Output;
use crate::api::definition;
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::process::ExitCode;

/// Print the CustomResourceDefinition of ApiAccount, to install it on a cluster.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  opsadmin crd | kubectl apply --server-side -f -")]
pub struct Crd {
    /// How to print the CustomResourceDefinition.
    #[arg(short, long, value_name = "FORMAT", default_value = "yaml")]
    output: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

impl Crd {
    /// Prints the CustomResourceDefinition.
    pub fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let crd = definition();
        let text = match self.output {
            Format::Yaml => serde_saphyr::to_string(&crd)?,
            Format::Json => serde_json::to_string_pretty(&crd)?,
        };
        output.line(text.trim_end())?;
        Ok(ExitCode::SUCCESS)
    }
}
