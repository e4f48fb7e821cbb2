//! The layout of the example repository: every file is used or tested, and the folders that Argo CD and Flux apply
//! exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{documents, platform, text};
use crate::support::cluster::cluster;

/// The files that belong to no environment, each with the module that tests it.
const BESIDE: [(&str, &str); 7] = [
    ("README.md", "guides::links"),
    (".pre-commit-config.yaml", "here"),
    (".github/workflows/api-accounts.yaml", "checks"),
    (".gitlab-ci.yml", "checks"),
    ("argocd/health.yaml", "here and gitops"),
    ("argocd/production.yaml", "here and gitops"),
    ("flux/production.yaml", "here and gitops"),
];

fn files(folder: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(platform(folder)).expect("it can be listed") {
        let entry = entry.expect("it can be listed");
        let name = entry.file_name().into_string().expect("it is text");
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if entry.path().is_dir() {
            files(&path, found);
        } else {
            found.insert(path);
        }
    }
}

/// Returns a path without `.` and `..`.
fn plain(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Adds the files that `kubectl kustomize` reads for a folder.
fn read_for(folder: &str, found: &mut BTreeSet<String>) {
    let file = format!("{folder}/kustomization.yaml");
    let kustomization = documents(&file).remove(0);
    found.insert(file);
    for resource in kustomization["resources"].as_array().expect("it has resources") {
        let path = plain(&format!("{folder}/{}", text(resource)));
        if platform(&path).is_dir() {
            read_for(&path, found);
        } else {
            found.insert(path);
        }
    }
}

#[test]
fn every_file_is_part_of_an_environment_or_tested() {
    let mut used: BTreeSet<String> = BESIDE.iter().map(|(file, _)| (*file).to_owned()).collect();
    for environment in ["staging", "production"] {
        read_for(&format!("overlays/{environment}"), &mut used);
    }
    let mut all = BTreeSet::new();
    files("", &mut all);
    assert_eq!(all, used);
}

/// Returns the namespace that an overlay sets for its objects.
fn namespace(path: &str) -> String {
    let kustomization = documents(&format!("{path}/kustomization.yaml")).remove(0);
    match kustomization["namespace"].as_str() {
        Some(namespace) => namespace.to_owned(),
        None => namespace_of_all(path, &kustomization),
    }
}

fn namespace_of_all(path: &str, kustomization: &Value) -> String {
    let resources = kustomization["resources"].as_array().expect("it has resources");
    let all: BTreeSet<_> = resources.iter().map(|below| namespace(&format!("{path}/{}", text(below)))).collect();
    assert_eq!(all.len(), 1, "{path} is for one namespace: {all:?}");
    all.into_iter().next().expect("one")
}

#[test]
fn argo_cd_applies_an_existing_folder() {
    let application = documents("argocd/production.yaml").remove(0);
    assert_eq!((text(&application["apiVersion"]), text(&application["kind"])), ("argoproj.io/v1alpha1", "Application"));
    let spec = &application["spec"];
    assert_eq!(namespace(text(&spec["source"]["path"])), text(&spec["destination"]["namespace"]));
    assert_eq!(spec["syncPolicy"]["automated"]["prune"], true);
}

#[test]
fn flux_uses_existing_folders_sources_and_dependencies() {
    let objects = documents("flux/production.yaml");
    let has = |kind: &str, name: &Value| {
        objects.iter().any(|object| object["kind"] == kind && &object["metadata"]["name"] == name)
    };
    let mut kustomizations = 0;
    for object in objects.iter().filter(|object| object["kind"] == "Kustomization") {
        assert_eq!(text(&object["apiVersion"]), "kustomize.toolkit.fluxcd.io/v1");
        let spec = &object["spec"];
        let path = text(&spec["path"]).strip_prefix("./").expect("Flux wants it from the root");
        assert_eq!(namespace(path), "partners");
        assert!(has(text(&spec["sourceRef"]["kind"]), &spec["sourceRef"]["name"]), "{spec}");
        for needed in spec["dependsOn"].as_array().into_iter().flatten() {
            assert!(has("Kustomization", &needed["name"]), "{needed}");
        }
        kustomizations += 1;
    }
    assert_eq!(kustomizations, 2);
}

#[tokio::test]
async fn the_argo_cd_health_check_is_a_config_map_that_adds_one_key() {
    let health = documents("argocd/health.yaml").remove(0);
    let keys: Vec<_> = health["data"].as_object().expect("data").keys().collect();
    assert_eq!(keys, ["resource.customizations.health.ops-admin.com_ApiAccount"]);
    let cluster = cluster().await;
    let namespace = cluster.namespace("argocd-health").await;
    let text = health.to_string().replace(r#""namespace":"argocd""#, &format!(r#""namespace":"{}""#, namespace.name()));
    let arguments = ["apply", "--server-side", "--dry-run=server", "-f", "-"];
    cluster.kubectl_with(namespace.name(), &arguments, &text).await.succeeded();
}

#[test]
fn the_pre_commit_hook_is_one_of_ours() {
    let config = documents(".pre-commit-config.yaml").remove(0);
    let hook = &config["repos"][0]["hooks"][0];
    let ours =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".pre-commit-hooks.yaml")).expect("it is there");
    let ours: Vec<Value> = serde_saphyr::from_str(&ours).expect("it is YAML");
    assert!(ours.iter().any(|one| one["id"] == hook["id"]), "{hook}");
    for pair in hook["args"].as_array().expect("a list").chunks(2) {
        assert_eq!(pair[0], "-f");
        assert!(platform(text(&pair[1])).is_dir(), "{}", pair[1]);
    }
}
