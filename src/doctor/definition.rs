//! Compares the CRD on a cluster with this program's CRD.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

/// Returns the paths of the fields that `wanted` has and `found` lacks, such as `status.accountId`. The API server
/// silently drops such fields.
pub fn missing_fields(wanted: &CustomResourceDefinition, found: &CustomResourceDefinition) -> Vec<String> {
    let mut missing = Vec::new();
    for version in &wanted.spec.versions {
        let installed = found.spec.versions.iter().find(|installed| installed.name == version.name);
        let schema = |version: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionVersion| {
            version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.clone())
        };
        match (schema(version), installed.and_then(schema)) {
            (Some(wanted), Some(found)) => compare("", &wanted, &found, &mut missing),
            (Some(_), None) => missing.push(format!("the version {}", version.name)),
            (None, _) => {}
        }
    }
    missing
}

/// Returns the versions in which the API server may have stored resources and that `wanted` does not have. The API server
/// can no longer read such resources once the definition lacks that version.
pub fn unknown_stored_versions(wanted: &CustomResourceDefinition, found: &CustomResourceDefinition) -> Vec<String> {
    let stored = found.status.iter().flat_map(|status| status.stored_versions.iter().flatten());
    stored.filter(|stored| wanted.spec.versions.iter().all(|version| version.name != **stored)).cloned().collect()
}

fn compare(path: &str, wanted: &JSONSchemaProps, found: &JSONSchemaProps, missing: &mut Vec<String>) {
    for (name, property) in wanted.properties.iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match found.properties.as_ref().and_then(|properties| properties.get(name)) {
            Some(found) => compare(&path, property, found, missing),
            None => missing.push(path),
        }
    }
    if let (Some(JSONSchemaPropsOrArray::Schema(wanted)), Some(JSONSchemaPropsOrArray::Schema(found))) =
        (&wanted.items, &found.items)
    {
        compare(&format!("{path}[]"), wanted, found, missing);
    }
}
