//! Converts the tree of one ApiAccount to its desired state, or to all mistakes in it.

use super::Options;
use super::schema::Schema;
use super::shape::{Mistake, Shaped, places, shape};
use super::tree::Node;
use crate::api::ApiAccount;
use crate::reconcile::{Desired, check_metadata_annotation, check_metadata_label, is_dns_label, is_dns_subdomain};
use serde_json::Value as Json;
use std::collections::HashSet;

/// The metadata fields that a manifest declares. The API server sets the others; exported manifests still contain them.
const METADATA: [&str; 4] = ["name", "namespace", "labels", "annotations"];

/// Returns the resource's `NAMESPACE/NAME`; `None` without a name.
pub(super) fn identity(root: &Node, options: &Options) -> Option<String> {
    let text = |field| root.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Node::text);
    let name = text("name").filter(|name| !name.is_empty())?;
    let namespace = text("namespace").filter(|namespace| !namespace.is_empty());
    Some(format!("{}/{name}", namespace.unwrap_or(&options.default_namespace)).escape_debug().to_string())
}

/// Reads one manifest. Returns its desired state, or all mistakes in it, ordered by position.
pub(super) fn read(root: &Node, schema: &Schema, options: &Options) -> Result<Desired, Vec<Mistake>> {
    let Shaped { mut json, mut mistakes } = shape(root, schema);
    if let Some(metadata) = json.get_mut("metadata").and_then(Json::as_object_mut) {
        metadata.retain(|field, _| METADATA.contains(&field.as_str()));
    }
    let found = match serde_json::from_value::<ApiAccount>(json) {
        Err(error) => Err(vec![(String::new(), error.to_string())]),
        Ok(mut resource) => {
            let namespace = &mut resource.metadata.namespace;
            if namespace.as_ref().is_none_or(String::is_empty) {
                *namespace = Some(options.default_namespace.clone());
            }
            judge(&resource, root, options)
        }
    };
    let finer = match found {
        Ok(desired) if mistakes.is_empty() => return Ok(desired),
        Ok(_) => Vec::new(),
        Err(finer) => finer,
    };
    let known: HashSet<&str> = mistakes.iter().map(|mistake| mistake.field.as_str()).collect();
    let finer: Vec<_> = finer.into_iter().filter(|(field, _)| !is_known(field, &known)).collect();
    if !finer.is_empty() {
        let places = places(root, schema);
        mistakes.extend(finer.into_iter().map(|(field, message)| {
            // A field that is not in the manifest gets the place of the nearest parent that is.
            let mut nearest = field.as_str();
            let at = loop {
                match (places.get(nearest), nearest.rfind(['.', '['])) {
                    (Some(at), _) => break *at,
                    (None, Some(end)) => nearest = &nearest[..end],
                    (None, None) => break root.at,
                }
            };
            Mistake { at, field, message }
        }));
    }
    mistakes.sort_by_key(|mistake| mistake.at);
    Err(mistakes)
}

/// Returns whether an error of the finer checks only follows from a known mistake in the shape.
fn is_known(field: &str, known: &HashSet<&str>) -> bool {
    // metadata.name is the default of these fields, so it is also checked in place of a value that could not be read.
    let is_default = field == "metadata.name" && (known.contains("spec.name") || known.contains("spec.secret.name"));
    // The manifest as a whole could not be deserialized because of its shape.
    let without_shape = field.is_empty() && !known.is_empty();
    known.contains(field) || is_default || without_shape
}

/// Checks everything beyond the shape. Errors are pairs of a field and a message.
fn judge(resource: &ApiAccount, root: &Node, options: &Options) -> Result<Desired, Vec<(String, String)>> {
    let mut wrong = metadata(resource, root);
    match Desired::parse_for(resource, &options.cluster, options.least_interval) {
        Ok(desired) if wrong.is_empty() => return Ok(desired),
        Ok(_) => {}
        Err(invalid) => {
            let known: HashSet<String> = wrong.iter().map(|(field, _)| field.clone()).collect();
            let finer = invalid.errors.into_iter().filter(|error| !known.contains(&error.field));
            wrong.extend(finer.map(|error| (error.field, error.message)));
        }
    }
    Err(wrong)
}

/// Checks the rules of the API server for the metadata of every object. Returns pairs of a field and a message.
fn metadata(resource: &ApiAccount, root: &Node) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    let mut add = |field: &str, message: String| wrong.push((field.to_owned(), message));
    let metadata = &resource.metadata;
    let generate_name = root.get("metadata").is_some_and(|metadata| metadata.get("generateName").is_some());
    match metadata.name.as_deref().unwrap_or_default() {
        "" if generate_name => add(
            "metadata.name",
            "is missing; metadata.generateName would create another resource each time, and so another account".to_owned(),
        ),
        "" => add("metadata.name", "is missing; each resource needs a name".to_owned()),
        name if !is_dns_subdomain(name) => add(
            "metadata.name",
            "a resource's name has at most 253 lower-case letters, digits, '-' and '.', and begins and ends with a letter or digit".to_owned(),
        ),
        _ => {}
    }
    if metadata.namespace.as_deref().is_some_and(|namespace| !is_dns_label(namespace)) {
        add(
            "metadata.namespace",
            "a namespace's name has at most 63 lower-case letters, digits and '-', and begins and ends with a letter or digit".to_owned(),
        );
    }
    for (name, value) in metadata.labels.iter().flatten() {
        if let Err(error) = check_metadata_label(name, value) {
            add(&format!("metadata.labels[{name:?}]"), error.into_owned());
        }
    }
    for name in metadata.annotations.iter().flatten().map(|(name, _)| name) {
        if let Err(error) = check_metadata_annotation(name) {
            add(&format!("metadata.annotations[{name:?}]"), error.into_owned());
        }
    }
    wrong
}
