//! Writes the fields of the resource as tables, from the CustomResourceDefinition.

use std::fmt::Write as _;

use opsadmin_operator::api::definition;
use serde_json::Value;

/// The field whose inner fields are left out, because Kubernetes defines them for every kind of resource.
const CONDITIONS: &str = "conditions";

/// Returns the schema of `spec` or `status`.
pub fn schema(of: &str) -> Value {
    let definition = serde_json::to_value(definition()).expect("it is JSON");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][of].clone()
}

/// Adds a row for each field below `path`. The row of a field comes before the rows of its inner fields.
pub fn fields(path: &str, schema: &Value, table: &mut String) {
    let (inner, suffix) = if schema["type"] == "array" { (&schema["items"], "[]") } else { (schema, "") };
    for (name, property) in inner["properties"].as_object().into_iter().flatten() {
        let at = if path.is_empty() { name.clone() } else { format!("{path}{suffix}.{name}") };
        let required = inner["required"].as_array().into_iter().flatten().any(|field| field == name);
        let limits = limits(property, required);
        let default = property.get("default").filter(|value| !value.is_object()).map_or_else(String::new, shown);
        let description = cell(property["description"].as_str().unwrap_or_default());
        writeln!(table, "| `{at}` | {} | {default} | {limits} | {description} |", type_of(property))
            .expect("a text grows");
        if at != CONDITIONS {
            fields(&at, property, table);
        }
    }
}

/// Adds the validation rules of each field below `path`, with the messages of the API server.
pub fn rules(path: &str, schema: &Value, list: &mut String) {
    let of = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    for rule in of {
        let message = rule["message"].as_str().expect("each rule says what it wants");
        let at = if path.is_empty() { String::new() } else { format!("`{path}`: ") };
        writeln!(list, "- {at}{}", cell(message)).expect("a text grows");
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        rules(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, property, list);
    }
    if schema["items"].is_object() {
        rules(&format!("{path}[]"), &schema["items"], list);
    }
}

fn type_of(property: &Value) -> String {
    if let Some(choices) = property["enum"].as_array() {
        return choices.iter().map(shown).collect::<Vec<_>>().join(", ");
    }
    let format = property["format"].as_str();
    match property["type"].as_str().expect("each field has a type") {
        "array" => format!("list of {}", type_of(&property["items"])),
        "object" if property["additionalProperties"].is_object() => {
            format!("map of {}", type_of(&property["additionalProperties"]))
        }
        "string" if format == Some("date-time") => "time".to_owned(),
        other => other.to_owned(),
    }
}

fn limits(property: &Value, required: bool) -> String {
    let mut limits = Vec::new();
    if required {
        limits.push("required".to_owned());
    }
    let mut add = |value: &Value, words: &str| {
        if let Some(number) = value.as_u64() {
            limits.push(format!("at most {number} {words}"));
        }
    };
    add(&property["maxLength"], "characters");
    add(&property["maxItems"], "entries");
    add(&property["maxProperties"], "entries");
    for inner in ["items", "additionalProperties"] {
        add(&property[inner]["maxLength"], "characters each");
    }
    limits.join("; ")
}

fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    if text.is_empty() { r#"`""`"#.to_owned() } else { format!("`{text}`") }
}

/// Returns a text with the characters escaped that have a meaning in a Markdown table.
pub fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', r"\|").replace('<', r"\<").replace('*', r"\*")
}
