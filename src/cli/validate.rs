//! `opsadmin validate`: checks manifests without a cluster and without a database.

use super::LOCAL_CLUSTER;

use super::manifests::{ManifestArgs, count_accounts, print_problems, print_skipped};
use super::output::{Format, Output};
use crate::account::ClusterId;
use crate::findings::{self, Finding, Findings, MOST_RESULTS};
use crate::manifests::{Checked, Invalid};
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::process::ExitCode;
use std::sync::Arc;

/// Check manifests by the rules that a cluster enforces at admission, without a cluster.
///
/// Lists every problem with file, line and field, including conflicts between manifests: the same resource, the same
/// account name or the same Secret. Unknown fields are problems too, because a cluster may drop a misspelled field
/// without an error.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin validate -f accounts/\n  kustomize build overlays/prod | opsadmin validate -f -\n  opsadmin validate -f accounts/ -o github\n  opsadmin validate -f accounts/ -o junit > validate.xml"
)]
pub struct Validate {
    #[command(flatten)]
    manifests: ManifestArgs,

    /// How to print the problems.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: FindingsFormat,
}

/// The output formats of `validate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FindingsFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For people and programs.
    Yaml,
    /// Annotations of the lines in a pull request, for GitHub Actions.
    Github,
    /// For code scanning.
    Sarif,
    /// A test case for each file, for GitLab, Jenkins and Azure.
    Junit,
}

impl Validate {
    /// Checks the manifests, and prints the problems.
    pub fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let cluster = ClusterId::parse(LOCAL_CLUSTER)?;
        let mut files: Vec<Arc<str>> = Vec::new();
        let checked = self.manifests.check(&cluster, &mut |place| {
            let is_listed = files.last().is_some_and(|last| *last == place.file);
            if self.output == FindingsFormat::Junit && !is_listed {
                files.push(Arc::clone(&place.file));
            }
        });
        if self.output == FindingsFormat::Text {
            return print_text(checked, output);
        }
        let (accounts, problems, skipped) = match checked {
            Ok(Checked { accounts, skipped }) => (accounts, Vec::new(), skipped),
            Err(Invalid { problems, skipped }) => (0, problems, skipped),
        };
        let (listed, left_out) = (problems.iter().map(Finding::from), skipped.iter().map(Finding::from));
        let findings = || Findings { accounts, problems: listed.collect(), skipped: left_out.collect() };
        match self.output {
            FindingsFormat::Text => {}
            FindingsFormat::Json => output.value(Format::Json, &findings())?,
            FindingsFormat::Yaml => output.value(Format::Yaml, &findings())?,
            FindingsFormat::Sarif => {
                output.value(Format::Json, &findings::sarif(&problems))?;
                if let Some(left_out @ 1..) = problems.len().checked_sub(MOST_RESULTS) {
                    let (all, most) = (problems.len(), MOST_RESULTS);
                    output.note(format!(
                        "left out {left_out} of {all} problems: code scanning takes no more than {most} in one log; `-o text` \
                         lists them all"
                    ));
                }
            }
            FindingsFormat::Junit => output.line(&findings::junit(&files, &problems)?)?,
            FindingsFormat::Github => {
                findings::github(&problems).iter().try_for_each(|command| output.line(command))?;
            }
        }
        Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn print_text(checked: Result<Checked, Invalid>, output: &mut Output) -> Result<ExitCode> {
    match checked {
        Ok(Checked { accounts, skipped }) => {
            print_skipped(&skipped, output);
            output.line(&format!("{} {} valid", count_accounts(accounts), if accounts == 1 { "is" } else { "are" }))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(invalid) => {
            print_problems(&invalid, output);
            Ok(ExitCode::FAILURE)
        }
    }
}
