//! The definition of the resource, as it is installed on a cluster.

use super::ApiAccount;
use crate::account::INVISIBLE;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use kube::CustomResourceExt;

/// The `CustomResourceDefinition` of [`ApiAccount`].
pub fn definition() -> CustomResourceDefinition {
    let mut definition = ApiAccount::crd();
    for version in &mut definition.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            join_lines(schema);
            if let Some(spec) = schema.properties.as_mut().and_then(|properties| properties.get_mut("spec")) {
                refuse_nulls(spec);
                refuse_invisible_names(spec);
            }
        }
    }
    definition
}

/// Refuses fields without a value. The API server would otherwise take such a field for one that is left out, whose default
/// may give an account more than it had.
///
/// A null is replaced by the default, unless nulls are allowed. It then stays, and to a rule the field is not there, which
/// without a null it always is. Where there is no default, the API server drops a null, and no rule can see it: so every field
/// has a default that gives more than another value.
fn refuse_nulls(schema: &mut JSONSchemaProps) {
    let mut rules = Vec::new();
    for (name, property) in schema.properties.iter_mut().flatten() {
        refuse_nulls(property);
        property.nullable = property.default.is_some().then_some(true);
        if property.default.is_none() {
            continue;
        }
        rules.push(ValidationRule {
            rule: format!("has(self.{name})"),
            message: Some("has no value: give it one, or leave the field out".to_owned()),
            field_path: Some(format!(".{name}")),
            ..ValidationRule::default()
        });
    }
    if !rules.is_empty() {
        schema.x_kubernetes_validations.get_or_insert_default().append(&mut rules);
    }
}

/// Refuses names with characters that nobody sees: the same ones as elsewhere, and so from the same list.
fn refuse_invisible_names(spec: &mut JSONSchemaProps) {
    let Some(name) = spec.properties.as_mut().and_then(|properties| properties.get_mut("name")) else { return };
    let point = |character: char| format!("\\\\x{{{:x}}}", u32::from(character));
    let ranges: Vec<String> = INVISIBLE.iter().map(|(first, last)| point(*first) + "-" + &point(*last)).collect();
    name.x_kubernetes_validations.get_or_insert_default().push(ValidationRule {
        rule: format!("!self.matches('[{}]')", ranges.concat()),
        message: Some(
            "an account name must not contain invisible characters, such as a zero-width space or a mark of writing direction"
                .to_owned(),
        ),
        ..ValidationRule::default()
    });
}

/// The doc comments that become descriptions are broken where the source ends its lines; `kubectl explain` breaks them
/// again where the terminal does.
fn join_lines(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        let paragraphs: Vec<_> = description.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
    schema.properties.iter_mut().flatten().for_each(|(_, property)| join_lines(property));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        join_lines(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        join_lines(values);
    }
}
