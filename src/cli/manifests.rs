//! Manifests, as the command line names them.

use super::output::Output;
use crate::account::ClusterId;
use crate::manifests::{self, Checked, Invalid, Manifest, Manifests, Problem, Skipped, Source};
use anstyle::Style;
use clap::Args;

/// Which manifests.
#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// A file or folder of manifests (YAML or JSON), or - for standard input; may be given more than once. Folders are
    /// searched for .yaml, .yml and .json.
    #[arg(short, long = "filename", value_name = "PATH", required = true)]
    filenames: Vec<Source>,

    /// The namespace of resources that name none.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
}

impl ManifestArgs {
    /// Reads them all; `None`, and every problem printed, if one is wrong.
    pub fn read(&self, cluster: &ClusterId, output: &Output) -> Option<Vec<Manifest>> {
        match manifests::read(&self.filenames, std::io::stdin().lock(), &self.options(cluster)) {
            Ok(Manifests { accounts, skipped }) => {
                note(&skipped, output);
                Some(accounts)
            }
            Err(invalid) => {
                complain(&invalid, output);
                None
            }
        }
    }

    /// Checks them all, and keeps and prints nothing.
    ///
    /// # Errors
    /// [`Invalid`] with every problem.
    pub fn check(&self, cluster: &ClusterId) -> Result<Checked, Invalid> {
        manifests::check(&self.filenames, std::io::stdin().lock(), &self.options(cluster))
    }

    fn options(&self, cluster: &ClusterId) -> manifests::Options {
        manifests::Options { cluster: cluster.clone(), default_namespace: self.namespace.clone() }
    }
}

/// Prints everything that is wrong.
pub fn complain(invalid: &Invalid, output: &Output) {
    note(&invalid.skipped, output);
    for problem in &invalid.problems {
        output.complain(painted(problem));
    }
}

/// A problem with its place in bold, by which the eye finds the next one.
fn painted(problem: &Problem) -> String {
    let (bold, text, place) = (Style::new().bold(), problem.to_string(), problem.place.to_string());
    match text.strip_prefix(&place) {
        Some(rest) => format!("{bold}{place}{bold:#}{rest}"),
        None => text,
    }
}

/// Prints what was left out.
pub fn note(skipped: &[Skipped], output: &Output) {
    for skipped in skipped {
        output.complain(skipped);
    }
}

/// A number of accounts, in words.
pub fn count(accounts: usize) -> String {
    match accounts {
        1 => "1 account".to_owned(),
        many => format!("{many} accounts"),
    }
}
