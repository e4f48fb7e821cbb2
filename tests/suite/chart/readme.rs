//! The chart's README has a table of all values, which is written from values.yaml, and the schema has the same values.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::guides::{page, repository};

const README: &str = "charts/opsadmin-operator/README.md";
/// What stands before the generated table.
const START: &str = "<!-- The table is written from values.yaml. -->\n";

/// A value with the description in the comment above it.
struct Documented {
    path: String,
    meaning: String,
}

/// Returns the values that have a description. A description begins with `# -- `.
fn documented(yaml: &str) -> Vec<Documented> {
    let mut found = Vec::new();
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut comment: Option<String> = None;
    for line in yaml.lines() {
        let text = line.trim_start();
        let indentation = line.len() - text.len();
        if let Some(first) = text.strip_prefix("# -- ") {
            comment = Some(first.to_owned());
        } else if let (Some(further), Some(comment)) = (text.strip_prefix("# "), &mut comment) {
            *comment += " ";
            *comment += further;
        } else if let Some((key, _)) = text.split_once(':').filter(|(key, _)| !key.contains([' ', '#', '-'])) {
            above.retain(|(there, _)| *there < indentation);
            above.push((indentation, key.to_owned()));
            if let Some(meaning) = comment.take() {
                let path = above.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join(".");
                found.push(Documented { path, meaning });
            }
        }
    }
    found
}

fn at<'a>(values: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(values, |value, key| &value[key])
}

/// Adds the path of each value that is no map, or that is documented as a whole.
fn leaves(value: &Value, path: &str, whole: &BTreeSet<&str>, found: &mut BTreeSet<String>) {
    match value.as_object().filter(|_| !whole.contains(path)) {
        None => drop(found.insert(path.to_owned())),
        Some(fields) => {
            for (key, below) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(below, &path, whole, found);
            }
        }
    }
}

/// Adds the path of each value of the schema, and each object that allows unknown fields and could forbid them.
fn of_schema(schema: &Value, path: &str, whole: &BTreeSet<&str>, found: &mut BTreeSet<String>) {
    match schema["properties"].as_object().filter(|_| !whole.contains(path)) {
        None => drop(found.insert(path.to_owned())),
        Some(properties) => {
            assert_eq!(schema["additionalProperties"], false, "{path:?} in values.schema.json");
            for (key, below) in properties {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                of_schema(below, &path, whole, found);
            }
        }
    }
}

#[test]
fn the_readme_and_the_schema_have_every_value() {
    let yaml = page("charts/opsadmin-operator/values.yaml");
    let values: Value = serde_saphyr::from_str(&yaml).expect("it is YAML");
    let documented = documented(&yaml);
    let paths: BTreeSet<&str> = documented.iter().map(|value| value.path.as_str()).collect();

    let mut there = BTreeSet::new();
    leaves(&values, "", &paths, &mut there);
    let missing: Vec<&String> = there.iter().filter(|path| !paths.contains(path.as_str())).collect();
    assert_eq!(missing, Vec::<&String>::new(), "values without a description");
    assert!(there.len() > 80, "{there:?}");

    let schema: Value = serde_json::from_str(&page("charts/opsadmin-operator/values.schema.json")).expect("it is JSON");
    let mut checked = BTreeSet::new();
    of_schema(&schema, "", &paths, &mut checked);
    // Helm adds this value.
    checked.remove("global");
    assert_eq!(checked, there, "values.schema.json has other values than values.yaml");

    let row = |Documented { path, meaning }: &Documented| format!("| `{path}` | `{}` | {meaning} |", at(&values, path));
    let heading = ["| value | default | meaning |", "|---|---|---|"].map(str::to_owned);
    let table = heading.into_iter().chain(documented.iter().map(row)).collect::<Vec<_>>().join("\n");
    let readme = page(README);
    let (before, written) = readme.split_once(START).expect("the README has a place for the table");
    let (written, after) = written.split_once("\n\n").unwrap_or((written, ""));
    if std::env::var_os("OPSADMIN_TEST_WRITE").is_some() {
        let text = format!("{before}{START}{table}\n\n{after}");
        fs::write(repository(README), text.trim_end().to_owned() + "\n").expect("it can be written");
    } else {
        let advice = "write it: OPSADMIN_TEST_WRITE=1 cargo test --test suite chart::readme";
        assert_eq!(written.trim_end(), table, "{README} has another table; {advice}");
    }
}

#[test]
fn a_description_belongs_to_the_next_key() {
    let yaml = "# About.\na:\n  # -- One\n  # two.\n  b: 1\n  c: 2\n# -- Three.\nd:\n  e: x\n";
    let found: Vec<(String, String)> = documented(yaml).into_iter().map(|one| (one.path, one.meaning)).collect();
    let expected = [("a.b", "One two."), ("d", "Three.")].map(|(path, meaning)| (path.to_owned(), meaning.to_owned()));
    assert_eq!(found, expected);
}
