//! Manifests, as the command line names them.

use super::output::Output;
use crate::account::ClusterId;
use crate::manifests::{self, Invalid, Manifests, Problem, Skipped, Source};
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
    pub fn read(&self, cluster: &ClusterId, output: &Output) -> Option<Manifests> {
        match self.look(cluster) {
            Ok(manifests) => {
                note(&manifests.skipped, output);
                Some(manifests)
            }
            Err(Invalid { problems, skipped, .. }) => {
                note(&skipped, output);
                for problem in problems {
                    output.complain(painted(&problem));
                }
                None
            }
        }
    }

    /// Reads them all, and prints nothing.
    ///
    /// # Errors
    /// [`Invalid`] with every problem.
    pub fn look(&self, cluster: &ClusterId) -> Result<Manifests, Invalid> {
        let options = manifests::Options { cluster: cluster.clone(), default_namespace: self.namespace.clone() };
        manifests::read(&self.filenames, std::io::stdin().lock(), &options)
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

fn note(skipped: &[Skipped], output: &Output) {
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
