//! Finds the ApiAccounts among the objects of a document, and gives the reason for each object that is skipped.

use super::problem::Position;
use super::schema::nearest;
use super::shape::{Mistake, describe};
use super::tree::{Node, Value};
use crate::api::{GROUP, KIND, VERSION};
use std::rc::Rc;

/// An object of a document.
pub(super) enum DocumentContent {
    /// An ApiAccount of this program's API version.
    Account(Rc<Node>),
    /// An object of another kind or group.
    Other { at: Position, kind: Option<String>, name: Option<String>, why: String },
    /// Not a Kubernetes object, or an object that was probably meant to be an ApiAccount.
    Mistake(Mistake),
}

/// Calls `take` with every object of a document. The items of a `List` are separate objects.
pub(super) fn objects(root: &Rc<Node>, file: &str, take: &mut impl FnMut(DocumentContent)) {
    let mistake = |at, field: &str, message| DocumentContent::Mistake(Mistake { at, field: field.to_owned(), message });
    let Value::Map(_) = root.value else {
        let what = describe(root);
        let message = format!("a manifest is a mapping with apiVersion, kind, metadata and spec, and this is {what}");
        return take(mistake(root.at, "", message));
    };
    let name = root.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::text);
    let other = |why: &str| DocumentContent::Other {
        at: root.at,
        kind: root.get("kind").and_then(Node::text).map(str::to_owned),
        name: name.map(str::to_owned),
        why: why.to_owned(),
    };
    let text = |field| root.get(field).and_then(|node| Some((node.at, node.text().filter(|text| !text.is_empty())?)));
    let (kind, version) = match (text("kind"), text("apiVersion")) {
        (Some(kind), Some(version)) => (kind, version),
        (kind, _) if is_kustomization(file) && kind.is_none_or(|(_, kind)| kind == "Kustomization") => {
            return take(other("it is a file for kustomize"));
        }
        (kind, _) => {
            let field = if kind.is_none() { "kind" } else { "apiVersion" };
            let (at, wrong) = match root.get(field) {
                None => (root.at, "is missing".to_owned()),
                Some(node) => (node.at, format!("must be text, and this is {}", describe(node))),
            };
            let message = format!("{wrong}; an {KIND} has apiVersion: {GROUP}/{VERSION} and kind: {KIND}");
            return take(mistake(at, field, message));
        }
    };
    match (version.1.rsplit_once('/'), kind.1) {
        (Some((GROUP, VERSION)), KIND) => take(DocumentContent::Account(Rc::clone(root))),
        (Some((GROUP, VERSION)), "ApiAccountList") | (None, "List") => list(root, file, take),
        (Some((GROUP, VERSION)), unknown) => {
            take(mistake(kind.0, "kind", format!("{GROUP}/{VERSION} has no kind {unknown:?}: write {KIND}")));
        }
        (Some((GROUP, unknown)), _) => {
            take(mistake(
                version.0,
                "apiVersion",
                format!("{GROUP} has no version {unknown:?}: write {GROUP}/{VERSION}"),
            ));
        }
        (Some((group, _)), KIND) if nearest(group, [&GROUP.to_owned()]).is_none() => {
            take(other(&format!("its group is {group:?}, and only resources of {GROUP} are read")));
        }
        (_, KIND) => {
            let message = format!("{:?} has no kind {KIND}: write {GROUP}/{VERSION}", version.1);
            take(mistake(version.0, "apiVersion", message));
        }
        _ => take(other(&format!("only kind {KIND} is read"))),
    }
}

fn list(root: &Rc<Node>, file: &str, take: &mut impl FnMut(DocumentContent)) {
    match root.get("items") {
        Some(Node { value: Value::List(items), .. }) => {
            for item in items {
                objects(item, file, take);
            }
        }
        items => {
            let (at, message) = match items {
                Some(items) => (items.at, format!("must be a list, and this is {}", describe(items))),
                None => (root.at, "is missing".to_owned()),
            };
            take(DocumentContent::Mistake(Mistake { at, field: "items".to_owned(), message }));
        }
    }
}

/// Returns whether the file is kustomize's own. Such a file may leave out `kind` and `apiVersion`.
fn is_kustomization(file: &str) -> bool {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    matches!(name, "kustomization.yaml" | "kustomization.yml")
}
