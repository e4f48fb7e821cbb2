//! Every field of the spec, with values to walk through. A test fails if a field of the definition is missing here.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::{Value, json};

/// One field of the spec.
pub struct Field {
    /// The path of the field, such as `secret.keys.apiKey`.
    pub path: &'static str,
    /// Valid values other than the default. The last ones are at the limit of what is allowed.
    pub valid: Vec<Value>,
    /// Values that the API server refuses.
    pub refused: Vec<Value>,
    /// A value that only the controller can refuse, with the reason.
    pub wrong: Option<(Value, &'static str)>,
}

impl Field {
    /// Returns a merge patch of the spec that sets the field to this value.
    pub fn set(&self, value: &Value) -> Value {
        let nest = |inner: Value, name: &str| json!({ name: inner });
        self.path.rsplit('.').fold(value.clone(), nest)
    }

    /// Returns a merge patch that removes the field's top-level part. A list of addresses is removed only by an empty
    /// list.
    pub fn take_back(&self) -> Value {
        let part = self.path.split('.').next().expect("a path has a part");
        json!({ part: if part == "allowedIPs" { json!([]) } else { Value::Null } })
    }
}

/// Returns the fields, with values that suit this resource.
pub fn fields(resource: &str) -> Vec<Field> {
    let field = |path, valid: Vec<Value>, refused: Vec<Value>| Field { path, valid, refused, wrong: None };
    let long = |base: &str, length: usize| json!(format!("{base}{}", "x".repeat(length - base.len())));
    let labels = |count: usize| -> Value { (0..count).map(|n| (format!("l{n}"), json!("v"))).collect() };
    let addresses =
        |count: usize| -> Value { (0..count).map(|n| json!(format!("10.0.{}.{}", n / 200, n % 200))).collect() };
    // These labels are merged into the present ones. Together with the previous label, they reach the maximum number.
    let labels_to_the_edge = || labels(31);
    vec![
        Field {
            wrong: Some((json!("Taken"), "NameTaken")),
            ..field(
                "name",
                vec![json!(format!("{resource} Energy")), long(resource, 100)],
                vec![json!(""), json!(" Acme"), json!("a\tb"), long(resource, 101), json!(5)],
            )
        },
        field(
            "description",
            vec![json!("the portal\nof Acme"), long("", 1024)],
            vec![json!("\u{7}"), long("", 1025), json!(true)],
        ),
        field("enabled", vec![json!(false)], vec![json!("false")]),
        field("useRefreshToken", vec![json!(true)], vec![json!(1)]),
        Field {
            wrong: Some((json!("Nowhere"), "UnknownAffiliate")),
            ..field(
                "affiliate",
                vec![json!("North"), long("North", 100)],
                vec![json!(""), json!("North "), long("North", 101)],
            )
        },
        field(
            "roles",
            vec![json!(["Customer"]), json!(["Administrator", "Customer", "PlansAndRates"])],
            vec![json!(["customer"]), json!(["Customer", "Customer"]), json!("Customer")],
        ),
        field(
            "allowedIPs",
            vec![json!(["203.0.113.7", "2001:db8::/32"]), json!(["0.0.0.0/0"]), addresses(256)],
            vec![json!(["10.0.0.1/8"]), json!(["::ffff:10.0.0.1"]), json!(["10.0.0.0/8", ""]), addresses(257)],
        ),
        Field {
            wrong: Some((json!("theirs"), "SecretConflict")),
            ..field(
                "secret.name",
                vec![json!(format!("{resource}.keys")), long(resource, 253)],
                vec![json!(""), json!("Upper"), json!("a..b"), long(resource, 254)],
            )
        },
        field(
            "secret.keys.apiKey",
            vec![json!("id"), long("", 253)],
            vec![json!(""), json!(".."), json!("a b"), json!("OPSADMIN_SECRET_KEY"), long("", 254)],
        ),
        field(
            "secret.keys.secretKey",
            vec![json!("key.txt"), long("y", 253)],
            vec![json!(""), json!("."), json!("a/b"), json!("OPSADMIN_API_KEY"), long("", 254)],
        ),
        field(
            "secret.labels",
            vec![json!({ "team": "partners" }), labels_to_the_edge()],
            vec![json!({ "ops-admin.com/x": "1" }), json!({ "team": "a b" }), json!({ "-": "" }), labels(33)],
        ),
        field(
            "secret.annotations",
            vec![json!({ "example.com/note": "for Acme" }), labels_to_the_edge()],
            vec![json!({ "ops-admin.com/owner": "me" }), json!({ "a b": "" }), labels(33)],
        ),
        field(
            "rotation.interval",
            vec![json!("720h"), json!("24h1s"), json!("87600h")],
            vec![json!("0s"), json!("24h"), json!("1d"), json!("87601h"), json!("")],
        ),
        field(
            "rotation.overlap",
            vec![json!("1h30m"), json!("0s"), json!("87600h")],
            vec![json!(""), json!("-1h"), json!("1.5h"), json!("87601h")],
        ),
        field("rotation.trigger", vec![json!("leaked"), long("", 256)], vec![long("", 257), json!(7)]),
        field("adoptionPolicy", vec![json!("IfUnowned")], vec![json!("Always"), json!("")]),
        field("managementPolicy", vec![json!("Observe")], vec![json!("observe")]),
        field("deletionPolicy", vec![json!("Retain")], vec![json!("Orphan")]),
    ]
}

/// Adds the paths of a schema's fields to `found`. For an object, adds the paths of its fields instead.
fn paths(schema: &JSONSchemaProps, above: &str, found: &mut BTreeSet<String>) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{above}{name}");
        if property.properties.is_some() {
            paths(property, &format!("{path}."), found);
        } else {
            found.insert(path);
        }
    }
}

#[test]
fn every_field_of_the_definition_has_a_walk() {
    let definition = opsadmin_operator::api::definition();
    let schema = definition.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    let properties = schema.and_then(|schema| schema.properties.as_ref()).expect("the definition has a schema");
    let mut defined = BTreeSet::new();
    paths(&properties["spec"], "", &mut defined);
    let walked: BTreeSet<String> = fields("acme").iter().map(|field| field.path.to_owned()).collect();
    assert_eq!(walked, defined);
}
