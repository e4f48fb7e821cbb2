//! Builds the CRD of the resource: the schema that is derived from `spec` and `status`, with rules that the derive
//! cannot express.

use super::ApiAccount;
use crate::account::INVISIBLE;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use kube::CustomResourceExt;

/// Returns the `CustomResourceDefinition` of [`ApiAccount`].
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

/// Adds rules that refuse fields with the value null. Without them, the API server would treat such a field as left
/// out, and its default may grant an account more access than it had.
///
/// The API server replaces a null by the default unless the field is nullable. If it is nullable, the null stays, and a
/// CEL rule sees the field as absent, while a field with a default is otherwise always present. If a field has no
/// default, the API server drops the null, and no rule can see it. So every field whose absence grants more access than
/// another value has a default.
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

/// Adds a rule that refuses names with invisible characters, from the same list as the other checks.
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

/// Joins the lines of each paragraph of the descriptions. Descriptions are doc comments with the line breaks of the
/// source code, and `kubectl explain` wraps lines itself.
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
