//! The `OpenAPI` description of the auth server: a strict reading of the part of `OpenAPI` 3.1 that it uses, and whether a
//! schema allows a value.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::guides::page;

pub const FILE: &str = "docs/openapi-auth-server.yaml";
/// The HTTP methods of a path.
pub const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// The fields of each kind of object. `!` marks a required field. A field has the kind after the colon: `text`, `flag`, a
/// kind of this table, `[kind` for a list, or `{kind` for a map with any names.
const KINDS: [(&str, &str); 15] = [
    ("document", "openapi!:text info!:info tags!:[tag paths!:{path components!:components"),
    ("info", "title!:text summary!:text description!:text version!:text license!:license"),
    ("license", "name!:text identifier!:text"),
    ("tag", "name!:text description!:text"),
    (
        "path",
        "servers!:[server parameters:[parameter get:operation head:operation post:operation put:operation \
         patch:operation delete:operation options:operation",
    ),
    ("server", "url!:text"),
    (
        "operation",
        "operationId!:text tags!:[text summary!:text description:text security:[requirement parameters:[parameter \
         requestBody:body responses!:{response",
    ),
    ("requirement", "accessToken:[text callerToken:[text"),
    ("parameter", "name!:text in!:text required!:flag description!:text schema!:schema"),
    ("body", "required!:flag content!:{media"),
    ("response", "description!:text headers:{header content:{media"),
    ("header", "description!:text required:flag schema!:schema"),
    ("media", "schema!:schema"),
    ("security", "type!:text scheme!:text description!:text"),
    (
        "components",
        "securitySchemes!:{security parameters!:{parameter headers!:{header responses!:{response schemas!:{schema",
    ),
];

/// The description.
pub struct Document(pub Value);

impl Document {
    /// Reads the file. Fails if anything in it is not as `OpenAPI` 3.1 has it.
    pub fn read() -> Self {
        let document: Value = serde_saphyr::from_str(&page(FILE)).unwrap_or_else(|error| panic!("{FILE}: {error}"));
        let document = Self(document);
        let mut used = BTreeSet::new();
        document.check("document", &document.0, "#", &mut used);
        for (section, entries) in fields(&document.0["components"]) {
            for name in fields(entries).keys().filter(|_| section != "securitySchemes") {
                let place = format!("#/components/{section}/{name}");
                assert!(used.contains(&place), "nothing refers to {place}");
            }
        }
        document
    }

    /// Returns what an object is, or what it refers to.
    pub fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value["$ref"].as_str() else { return value };
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} is elsewhere"));
        self.0.pointer(pointer).unwrap_or_else(|| panic!("{reference} does not exist"))
    }

    fn check(&self, kind: &str, value: &Value, place: &str, used: &mut BTreeSet<String>) {
        if let Some(reference) = value["$ref"].as_str() {
            assert_eq!(fields(value).len(), 1, "{place}: nothing may be beside $ref");
            self.resolved(value);
            used.insert(reference.to_owned());
            return;
        }
        match kind {
            "text" => assert!(value.as_str().is_some_and(|text| !text.trim().is_empty()), "{place} is no text"),
            "flag" => assert!(value.is_boolean(), "{place} is no boolean"),
            "schema" => self.check_schema(value, place, used),
            _ => match kind.split_at(1) {
                ("[", item) => {
                    let items = value.as_array().unwrap_or_else(|| panic!("{place} is no list"));
                    for value in items {
                        self.check(item, value, place, used);
                    }
                }
                ("{", item) => {
                    for (name, value) in fields(value) {
                        self.check(item, value, &format!("{place}/{name}"), used);
                    }
                }
                _ => self.check_fields(kind, value, place, used),
            },
        }
    }

    fn check_fields(&self, kind: &str, value: &Value, place: &str, used: &mut BTreeSet<String>) {
        let (_, known) = KINDS.iter().find(|(name, _)| *name == kind).unwrap_or_else(|| panic!("no kind {kind}"));
        let known: BTreeMap<&str, (&str, bool)> = known
            .split_whitespace()
            .map(|field| {
                let (name, kind) = field.split_once(':').expect("a field has a kind");
                (name.trim_end_matches('!'), (kind, name.ends_with('!')))
            })
            .collect();
        for (name, value) in fields(value) {
            let (kind, _) = known.get(name.as_str()).unwrap_or_else(|| panic!("{place}: a {kind} has no field {name}"));
            self.check(kind, value, &format!("{place}/{name}"), used);
        }
        for (name, _) in known.iter().filter(|(_, (_, is_required))| *is_required) {
            assert!(!value[*name].is_null(), "{place}: a {kind} needs {name}");
        }
    }

    fn check_schema(&self, schema: &Value, place: &str, used: &mut BTreeSet<String>) {
        for (keyword, value) in fields(schema) {
            match keyword.as_str() {
                "type" => {
                    let known = ["object", "array", "string", "integer", "boolean"];
                    assert!(known.iter().any(|kind| value == kind), "{place}: no type {value}");
                }
                "description" => self.check("text", value, place, used),
                "properties" => self.check("{schema", value, place, used),
                "items" => self.check("schema", value, place, used),
                "oneOf" => self.check("[schema", value, place, used),
                "additionalProperties" => assert_eq!(*value, false, "{place}"),
                "required" => {
                    for name in value.as_array().expect("a list of names") {
                        let name = name.as_str().expect("a name");
                        assert!(
                            !schema["properties"][name].is_null(),
                            "{place} requires {name}, which it does not have"
                        );
                    }
                }
                "const" | "minimum" => {}
                "enum" => assert!(value.as_array().is_some_and(|values| !values.is_empty()), "{place}"),
                _ => panic!("{place}: this test does not know the keyword {keyword}"),
            }
        }
    }

    /// Returns why a schema does not allow a value.
    pub fn violation(&self, schema: &Value, value: &Value) -> Option<String> {
        let schema = self.resolved(schema);
        fields(schema).iter().find_map(|(keyword, rule)| {
            let is_met = match keyword.as_str() {
                "type" => match rule.as_str().expect("a text") {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64(),
                    _ => value.is_boolean(),
                },
                "const" => value == rule,
                "enum" => rule.as_array().expect("a list").contains(value),
                "minimum" => value.as_i64() >= rule.as_i64(),
                "required" => rule
                    .as_array()
                    .expect("a list")
                    .iter()
                    .all(|name| value.get(name.as_str().expect("a text")).is_some()),
                "additionalProperties" => fields(value).keys().all(|name| schema["properties"].get(name).is_some()),
                "properties" => {
                    return fields(rule).iter().find_map(|(name, below)| {
                        self.violation(below, value.get(name)?).map(|reason| format!("{name}: {reason}"))
                    });
                }
                "items" => return value.as_array()?.iter().find_map(|item| self.violation(rule, item)),
                "oneOf" => {
                    let schemas = rule.as_array().expect("a list").iter();
                    schemas.filter(|schema| self.violation(schema, value).is_none()).count() == 1
                }
                _ => true,
            };
            (!is_met).then(|| format!("{value} breaks {keyword}: {rule}"))
        })
    }
}

/// Returns the fields of an object.
pub fn fields(value: &Value) -> &serde_json::Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object"))
}
