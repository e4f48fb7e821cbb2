//! Checks a value against its schema, reports every mismatch, and converts the rest to JSON.
//!
//! Every value that is missing from the JSON because it does not match is reported, so that no mismatch becomes a
//! default: an `allowedIPs` that is not a list must not be read as "any address".

use super::problem::Position;
use super::scalar::{Kind, Scalar};
use super::schema::{Object, Schema};
use super::tree::{Entry, Node, Value};
use serde_json::{Map, Value as Json};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// The most characters of a text that a message shows.
const SHOWN: usize = 60;

/// A mistake in a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    pub at: Position,
    /// The field's path; empty for the whole manifest.
    pub field: String,
    pub message: String,
}

/// The treatment of a field without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NullPolicy {
    /// The field counts as not set.
    Unset,
    /// The field is a mistake.
    Refused,
}

/// The path of a field, as a linked list from the field to the root.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Key(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) if is_plain(name) => f.write_str(name),
            Self::Field(parent, name) if is_plain(name) => write!(f, "{parent}.{name}"),
            Self::Field(parent, name) | Self::Key(parent, name) => write!(f, "{parent}[{name:?}]"),
            Self::Item(parent, at) => write!(f, "{parent}[{at}]"),
        }
    }
}

/// A manifest after the check against its schema.
pub(super) struct Shaped {
    /// The values that match the schema, with harmless placeholders for some of the others.
    pub json: Json,
    /// The values that do not match.
    pub mistakes: Vec<Mistake>,
}

/// Checks a manifest against its schema.
pub(super) fn shape(node: &Node, schema: &Schema) -> Shaped {
    let mut shaper = Shaper { mistakes: Vec::new(), empty: NullPolicy::Refused };
    let json = shaper.value(node, schema, Path::Root).unwrap_or_default();
    Shaped { json, mistakes: shaper.mistakes }
}

struct Shaper {
    mistakes: Vec<Mistake>,
    empty: NullPolicy,
}

impl Shaper {
    fn add(&mut self, at: Position, path: Path, message: impl Into<String>) {
        self.mistakes.push(Mistake { at, field: path.to_string(), message: message.into() });
    }

    /// Converts a value to JSON; `None` if it does not match its schema or has no value. A value that may be anything
    /// is not converted.
    fn value(&mut self, node: &Node, schema: &Schema, path: Path) -> Option<Json> {
        if *schema == Schema::Any {
            return None;
        }
        if let Some(tag) = &node.tag {
            self.add(
                node.at,
                path,
                format!("has the tag {}, which a manifest cannot have: remove it", tag.escape_debug()),
            );
            return None;
        }
        match (schema, &node.value) {
            (_, Value::Scalar(Scalar { kind: Kind::Null, .. })) => {
                if self.empty == NullPolicy::Refused {
                    let advice = if matches!(path, Path::Item(..)) { "remove it" } else { "leave the field out" };
                    self.add(node.at, path, format!("has no value: give it one, or {advice}"));
                }
                None
            }
            (Schema::Object(object), Value::Map(entries)) => Some(self.object(node, object, entries, path)),
            (Schema::Map(values), Value::Map(entries)) => Some(self.map(values, entries, path)),
            (Schema::List(items), Value::List(nodes)) => Some(self.list(items, nodes, path)),
            (Schema::Bool, Value::Scalar(Scalar { kind: Kind::Bool(value), .. })) => Some(Json::Bool(*value)),
            (Schema::Integer | Schema::Number, Value::Scalar(Scalar { kind: Kind::Integer, text }))
            | (Schema::Number, Value::Scalar(Scalar { kind: Kind::Float, text }))
                if let Ok(number) = text.parse() =>
            {
                Some(Json::Number(number))
            }
            (Schema::Text(one_of), Value::Scalar(Scalar { kind: Kind::Text, text })) => {
                self.text(node.at, text, one_of.as_deref(), path)
            }
            _ => {
                self.add(node.at, path, mismatch(schema, node));
                if *schema == Schema::Text(None) { placeholder(schema, node, self.mistakes.len()) } else { None }
            }
        }
    }

    fn object(&mut self, node: &Node, object: &Object, entries: &[Entry], path: Path) -> Json {
        let mut json = Map::new();
        let mut seen = HashSet::new();
        for entry in entries {
            let Some(name) = self.key(entry, &mut seen, path) else { continue };
            let field = Path::Field(&path, name);
            let Some(schema) = object.fields.get(name) else {
                self.add(entry.key.at, field, format!("unknown field; {}", object.advice(name)));
                continue;
            };
            // Exported manifests have `creationTimestamp: null` in their metadata.
            let outer = self.empty;
            if matches!((path, name), (Path::Root, "metadata")) {
                self.empty = NullPolicy::Unset;
            }
            if let Some(value) = self.value(&entry.value, schema, field) {
                json.insert(name.to_owned(), value);
            }
            self.empty = outer;
        }
        for name in object.required.iter().filter(|name| !seen.contains(name.as_str())) {
            let advice = match object.fields.get(name) {
                Some(Schema::Object(_)) => format!("; write {name}: {{}} if its defaults are right"),
                _ => String::new(),
            };
            self.add(node.at, Path::Field(&path, name), format!("is missing{advice}"));
        }
        Json::Object(json)
    }

    fn map(&mut self, values: &Schema, entries: &[Entry], path: Path) -> Json {
        let mut json = Map::new();
        let mut seen = HashSet::new();
        for entry in entries {
            let Some(name) = self.key(entry, &mut seen, path) else { continue };
            if let Some(value) = self.value(&entry.value, values, Path::Key(&path, name)) {
                json.insert(name.to_owned(), value);
            }
        }
        Json::Object(json)
    }

    /// Returns the text of a key; reports a key that is not text or is in the mapping twice.
    fn key<'n>(&mut self, entry: &'n Entry, seen: &mut HashSet<&'n str>, path: Path) -> Option<&'n str> {
        let Value::Scalar(Scalar { text, kind: Kind::Text }) = &entry.key.value else {
            let what = describe(&entry.key);
            self.add(entry.key.at, path, format!("a field's name must be text, and this is {what}: put it in quotes"));
            return None;
        };
        if !seen.insert(text) {
            self.add(entry.key.at, Path::Field(&path, text), "occurs twice: keep one of the two");
            return None;
        }
        Some(text)
    }

    fn list(&mut self, items: &Schema, nodes: &[std::rc::Rc<Node>], path: Path) -> Json {
        let each = nodes.iter().enumerate().map(|(at, node)| {
            // A placeholder replaces an invalid item, so that the items after it keep their indexes in messages.
            self.value(node, items, Path::Item(&path, at)).or_else(|| placeholder(items, node, at)).unwrap_or_default()
        });
        Json::Array(each.collect())
    }

    fn text(&mut self, at: Position, text: &str, one_of: Option<&[String]>, path: Path) -> Option<Json> {
        match one_of {
            Some(values) if !values.iter().any(|value| value == text) => {
                self.add(at, path, format!("must be {}, and this is {}", choice(values), quoted(text)));
                None
            }
            _ => Some(Json::from(text)),
        }
    }
}

/// Joins the values as `A, B or C`.
fn choice(values: &[String]) -> String {
    match values {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => values.concat(),
    }
}

fn mismatch(schema: &Schema, node: &Node) -> String {
    let expected = match schema {
        Schema::Any => "anything",
        Schema::Bool => "true or false",
        Schema::Integer => "a whole number",
        Schema::Number => "a number",
        Schema::Text(_) => "text",
        Schema::List(_) => "a list",
        Schema::Map(_) | Schema::Object(_) => "a mapping",
    };
    let advice = match (schema, &node.value) {
        (Schema::Text(_), Value::Scalar(_)) => ": put it in quotes".to_owned(),
        (Schema::Bool, Value::Scalar(Scalar { kind: Kind::Contested(meaning), .. })) => format!(": write {meaning}"),
        (Schema::Bool, Value::Scalar(Scalar { text, .. })) if text == "true" || text == "false" => {
            ": remove the quotes".to_owned()
        }
        _ => String::new(),
    };
    format!("must be {expected}, and this is {}{advice}", describe(node))
}

/// Describes a value for a message.
pub(super) fn describe(node: &Node) -> String {
    match &node.value {
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
        Value::Scalar(Scalar { text, kind }) => match kind {
            Kind::Text => format!("the text {}", quoted(text)),
            Kind::Contested(meaning) => format!("the plain word {text}, which kubectl reads as {meaning}"),
            Kind::Merge => format!("the plain word {text}, which merges another mapping"),
            Kind::Null => "nothing".to_owned(),
            Kind::Bool(value) => value.to_string(),
            Kind::Integer | Kind::Float => format!("the number {text}"),
        },
    }
}

/// Returns the beginning of a text in quotes, with control characters escaped.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Returns a placeholder for an invalid value, so that the rest of the manifest can be checked: a text that is valid as
/// a name.
fn placeholder(schema: &Schema, node: &Node, number: usize) -> Option<Json> {
    match (schema, &node.value) {
        (Schema::Text(_), Value::Scalar(scalar)) => Some(Json::from(scalar.text.as_str())),
        (Schema::Text(_), _) => Some(Json::from(format!("unreadable-{number}"))),
        _ => None,
    }
}

/// Returns the position of every field of a manifest, by its path.
pub(super) fn places(node: &Node, schema: &Schema) -> HashMap<String, Position> {
    let mut places = HashMap::new();
    add_places(node, schema, Path::Root, &mut places);
    places
}

fn add_places(node: &Node, schema: &Schema, path: Path, places: &mut HashMap<String, Position>) {
    places.insert(path.to_string(), node.at);
    match (schema, &node.value) {
        (Schema::Object(object), Value::Map(entries)) => {
            for entry in entries {
                if let Some((name, schema)) = entry.key.text().and_then(|key| object.fields.get_key_value(key)) {
                    add_places(&entry.value, schema, Path::Field(&path, name), places);
                }
            }
        }
        (Schema::Map(values), Value::Map(entries)) => {
            for entry in entries {
                if let Some(name) = entry.key.text() {
                    add_places(&entry.value, values, Path::Key(&path, name), places);
                }
            }
        }
        (Schema::List(items), Value::List(nodes)) => {
            for (at, node) in nodes.iter().enumerate() {
                add_places(node, items, Path::Item(&path, at), places);
            }
        }
        _ => {}
    }
}
