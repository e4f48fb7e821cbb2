//! Runs Helm with the project's chart, as a user does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::OnceCell;

use crate::guides::repository;
use crate::support::cluster::Cluster;
use crate::support::process::Folder;
use crate::support::programs::built;
use crate::support::run::{Finished, run};

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
    repository("charts/opsadmin-operator").display().to_string()
}

/// Returns the path of a file with values.
pub fn values(name: &str) -> PathBuf {
    repository("tests/suite/chart/values").join(format!("{name}.yaml"))
}

/// Parses manifests. Leaves out empty documents.
pub fn objects(manifests: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(manifests).unwrap_or_else(|error| panic!("{error}\n{manifests}"));
    all.into_iter().filter(|object| !object.is_null()).collect()
}

/// Returns the objects of a kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// Returns whether an object belongs to a hook.
pub fn is_hook(object: &Value) -> bool {
    !object["metadata"]["annotations"]["helm.sh/hook"].is_null()
}
