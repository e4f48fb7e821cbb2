//! The options that name manifests, and the functions that read them and print their problems.

use super::output::Output;
use super::retention::MinimumIntervalArgs;
use crate::account::ClusterId;
use crate::manifests::{self, Checked, Invalid, Manifest, Manifests, Place, Problem, Skipped, Source};
use crate::reconcile::parse_namespace;
use anstyle::Style;
use clap::Args;

/// The default namespace of resources without a namespace.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The options that name manifests.
#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// A file or folder of manifests (YAML or JSON), or - for standard input; may be given more than once. Folders are
    /// searched for .yaml, .yml and .json.
    #[arg(short, long = "filename", value_name = "PATH", required = true)]
    filenames: Vec<Source>,

    /// The namespace of resources without a namespace. Default: default.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = parse_namespace)]
    namespace: Option<String>,

    #[command(flatten)]
    least_interval: MinimumIntervalArgs,
}

impl ManifestArgs {
    /// Reads all manifests. If one is wrong, prints every problem and returns `None`.
    pub fn read(&self, cluster: &ClusterId, output: &Output) -> Option<Vec<Manifest>> {
        self.read_in(DEFAULT_NAMESPACE, cluster, output)
    }

    /// As [`Self::read`], with another default namespace.
    pub fn read_in(&self, namespace: &str, cluster: &ClusterId, output: &Output) -> Option<Vec<Manifest>> {
        match manifests::read(&self.filenames, std::io::stdin().lock(), &self.options(namespace, cluster)) {
            Ok(Manifests { accounts, skipped }) => {
                print_skipped(&skipped, output);
                Some(accounts)
            }
            Err(invalid) => {
                print_problems(&invalid, output);
                None
            }
        }
    }

    /// Checks all manifests, and keeps and prints nothing. Calls `right` with the place of each account that has no
    /// problem by itself.
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

/// Prints all problems and all objects that were left out.
pub fn print_problems(invalid: &Invalid, output: &Output) {
    print_skipped(&invalid.skipped, output);
    for problem in &invalid.problems {
        output.note(painted(problem));
    }
}

/// Returns the text of a problem with its place in bold, so that each problem is easy to find.
fn painted(problem: &Problem) -> String {
    let (bold, text, place) = (Style::new().bold(), problem.to_string(), problem.place.to_string());
    match text.strip_prefix(&place) {
        Some(rest) => format!("{bold}{place}{bold:#}{rest}"),
        None => text,
    }
}

/// Prints the objects that were left out.
pub fn print_skipped(skipped: &[Skipped], output: &Output) {
    for skipped in skipped {
        output.note(skipped);
    }
}

/// Returns a text such as `2 accounts`.
pub fn count_accounts(accounts: usize) -> String {
    match accounts {
        1 => "1 account".to_owned(),
        many => format!("{many} accounts"),
    }
}
