//! `opsadmin completion`: the script with which a shell completes commands and options.

use super::Cli;
use super::output::Output;
use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};
use std::process::ExitCode;

/// Print a script with which bash, elvish, fish, powershell or zsh completes commands and options.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin completion bash > /etc/bash_completion.d/opsadmin\n  opsadmin completion zsh > \"${fpath[1]}/_opsadmin\"\n  opsadmin completion fish > ~/.config/fish/completions/opsadmin.fish"
)]
pub struct Completion {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completion {
    /// Prints the script.
    pub fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "opsadmin", &mut script);
        output.line(String::from_utf8(script).context("the script is no text")?.trim_end())?;
        Ok(ExitCode::SUCCESS)
    }
}
