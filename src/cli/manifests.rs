//! Manifests, as the command line names them.

use super::output::Output;
use super::retention::LeastIntervalArgs;
use crate::account::ClusterId;
use crate::manifests::{self, Checked, Invalid, Manifest, Manifests, Place, Problem, Skipped, Source};
use crate::reconcile::parse_namespace;
use anstyle::Style;
use clap::Args;

/// The namespace of resources that name none, where nothing else says.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Which manifests.
#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// A file or folder of manifests (YAML or JSON), or - for standard input; may be given more than once. Folders are
    /// searched for .yaml, .yml and .json.
    #[arg(short, long = "filename", value_name = "PATH", required = true)]
    filenames: Vec<Source>,

    /// The namespace of resources that name none. Default: default.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = parse_namespace)]
    namespace: Option<String>,

    #[command(flatten)]
    least_interval: LeastIntervalArgs,
}

impl ManifestArgs {
    /// Reads them all; `None`, and every problem printed, if one is wrong.
    pub fn read(&self, cluster: &ClusterId, output: &Output) -> Option<Vec<Manifest>> {
        self.read_in(DEFAULT_NAMESPACE, cluster, output)
    }

    /// The same, for a cluster where another namespace is meant if none is named.
    pub fn read_in(&self, namespace: &str, cluster: &ClusterId, output: &Output) -> Option<Vec<Manifest>> {
        match manifests::read(&self.filenames, std::io::stdin().lock(), &self.options(namespace, cluster)) {
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

    /// Checks them all, and keeps and prints nothing; `right` is told where each account is that has no mistake of its own.
    ///
    /// # Errors
    /// [`Invalid`] with every problem.
    pub fn check(&self, cluster: &ClusterId, right: &mut dyn FnMut(&Place)) -> Result<Checked, Invalid> {
        manifests::check(&self.filenames, std::io::stdin().lock(), &self.options(DEFAULT_NAMESPACE, cluster), right)
    }

    fn options(&self, namespace: &str, cluster: &ClusterId) -> manifests::Options {
        let default_namespace = self.namespace.as_deref().unwrap_or(namespace).to_owned();
        manifests::Options { cluster: cluster.clone(), default_namespace, least_interval: self.least_interval.period() }
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
