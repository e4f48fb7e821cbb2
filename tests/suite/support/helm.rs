//! Runs Helm with the project's chart, as a user does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

use super::cluster::Cluster;
use super::process::Folder;
use super::programs::built;
use super::run::{Finished, run};

const WITHIN: Duration = Duration::from_mins(2);

/// Helm with its own home.
pub struct Helm {
    program: PathBuf,
    home: Arc<Folder>,
    kubeconfig: Option<PathBuf>,
}

impl Helm {
    /// Creates a Helm that knows no cluster.
    pub async fn new() -> Self {
        static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();
        let build = async || {
            let folder = tokio::task::spawn_blocking(|| built("helm/build.sh", &[])).await.expect("it does not panic");
            folder.unwrap_or_else(|problem| panic!("no Helm: {problem}")).join("helm")
        };
        Self { program: PROGRAM.get_or_init(build).await.clone(), home: Folder::new("helm"), kubeconfig: None }
    }

    /// Creates a Helm for a cluster.
    pub async fn of(cluster: &Cluster) -> Self {
        Self { kubeconfig: Some(cluster.kubeconfig().to_owned()), ..Self::new().await }
    }

    /// Runs Helm.
    pub async fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with(arguments, "").await
    }

    /// Runs Helm with this standard input.
    pub async fn run_with(&self, arguments: &[&str], input: &str) -> Finished {
        let mut helm = Command::new(&self.program);
        helm.args(arguments).env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        // Without a kubeconfig, Helm must not find the cluster of the caller.
        let none = self.home.path().join("none");
        helm.env("KUBECONFIG", self.kubeconfig.as_deref().unwrap_or(&none));
        run(helm, input, WITHIN).await
    }

    /// Renders the chart with these arguments.
    pub async fn template(&self, release: &str, namespace: &str, values: &Path, extra: &[&str]) -> Finished {
        let (chart, values) = (chart(), values.display().to_string());
        let arguments = ["template", release, &chart, "--namespace", namespace, "--values", &values];
        self.run(&[&arguments, extra].concat()).await
    }
}

/// Returns the path of the chart.
pub fn chart() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/charts/opsadmin-operator").to_owned()
}

/// Returns the manifest of the first account from the notes that Helm prints after an installation.
pub fn first_account(notes: &str) -> String {
    let (_, manifest) = notes.split_once("<<'END'\n").expect("the notes have a manifest");
    let (manifest, _) = manifest.split_once("     END\n").expect("it ends");
    let lines = manifest.lines().map(|line| line.strip_prefix("     ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}
