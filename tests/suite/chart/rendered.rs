//! Values files, and the objects that Helm renders from them.

use std::path::PathBuf;

use serde_json::Value;

use crate::guides::repository;

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

/// Returns the Deployment whose pods run this container.
pub fn deployment<'a>(objects: &'a [Value], container: &str) -> &'a Value {
    let runs = |object: &&Value| object["spec"]["template"]["spec"]["containers"][0]["name"] == container;
    of_kind(objects, "Deployment").into_iter().find(runs).unwrap_or_else(|| panic!("no Deployment of {container}"))
}

/// Returns whether an object belongs to a hook.
pub fn is_hook(object: &Value) -> bool {
    !object["metadata"]["annotations"]["helm.sh/hook"].is_null()
}
