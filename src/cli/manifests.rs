//! Manifests, as the command line names them.

use super::output::Output;
use crate::account::ClusterId;
use crate::manifests::{self, Invalid, Manifests, Skipped, Source};
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
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

impl ManifestArgs {
    /// Reads them all; `None`, and every problem printed, if one is wrong.
    pub fn read(&self, cluster: &ClusterId, output: &Output) -> Option<Manifests> {
        self.read_in(DEFAULT_NAMESPACE, cluster, output)
    }

    /// The same, for a cluster where another namespace is meant if none is named.
    pub fn read_in(&self, default_namespace: &str, cluster: &ClusterId, output: &Output) -> Option<Manifests> {
        match self.look_in(default_namespace, cluster) {
            Ok(manifests) => {
                note(&manifests.skipped, output);
                Some(manifests)
            }
            Err(Invalid { problems, skipped }) => {
                note(&skipped, output);
                for problem in problems {
                    output.complain(problem);
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
        self.look_in(DEFAULT_NAMESPACE, cluster)
    }

    fn look_in(&self, default_namespace: &str, cluster: &ClusterId) -> Result<Manifests, Invalid> {
        let default_namespace = self.namespace.as_deref().unwrap_or(default_namespace).to_owned();
        let options = manifests::Options { cluster: cluster.clone(), default_namespace };
        manifests::read(&self.filenames, std::io::stdin().lock(), &options)
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
