//! Tests of `examples/platform`: each of its files is applied, validated or run.

mod checks;
mod environments;
mod gitops;
mod layout;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::guides::repository;
use crate::support::cluster::Cluster;
use crate::support::shell::Shell;

/// Returns a path in the example's folder, which has the layout of a platform team's repository.
pub fn platform(path: &str) -> PathBuf {
    repository("examples/platform").join(path)
}

/// Returns the documents of a YAML file of the example.
fn documents(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(platform(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the text of a YAML value. Panics if the value is no text.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text is missing: {value}"))
}

/// Returns the output of `kubectl kustomize` for a folder of the example.
pub async fn built(cluster: &Cluster, path: &str) -> String {
    let folder = platform(path).display().to_string();
    cluster.kubectl("", &["kustomize", &folder]).await.succeeded()
}

/// Copies a folder with all its files and subfolders.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("it can be listed") {
        let entry = entry.expect("it can be listed");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("it can be copied");
        }
    }
}

/// Changes a copy of the example, so that it declares production's accounts in another namespace.
pub fn move_to(shell: &Shell, namespace: &str) {
    let file = shell.path("overlays/production/accounts/kustomization.yaml");
    let text = fs::read_to_string(&file).expect("it can be read");
    let moved = text.replace("namespace: partners\n", &format!("namespace: {namespace}\n"));
    assert_ne!(moved, text);
    fs::write(file, moved).expect("it can be written");
}
