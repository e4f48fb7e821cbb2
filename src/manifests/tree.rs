//! A document as a tree whose values have positions, and its construction from a parser's events.
//!
//! Aliases share their values and do not copy them. Their size still counts in full, since code that walks the tree
//! visits a value once for each alias.

use super::problem::Position;
use super::scalar::{Kind, Scalar};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// The deepest nesting that is read. Manifests need about a tenth of it.
pub(super) const MAX_DEPTH: usize = 128;
/// The most bytes to which the aliases of one document may expand, so that a few lines cannot exhaust the memory.
const MAX_ALIASED: usize = 64 << 20;
/// The size that a value counts in addition to its text.
const VALUE_BYTES: usize = 16;

/// A value with its position.
#[derive(Debug)]
pub(super) struct Node {
    pub at: Position,
    /// The tag, if it does not name the JSON type of the value.
    pub tag: Option<String>,
    pub value: Value,
}

/// The content of a [`Node`].
#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: Rc<Node>,
    pub value: Rc<Node>,
}

impl Node {
    /// Returns the entries of a mapping; none for any other value.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Returns the value of the key if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key.text() == Some(key)).map(|entry| entry.value.as_ref())
    }

    /// Returns the text of a text scalar; `None` for any other value.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(Scalar { text, kind: Kind::Text | Kind::Contested(_) }) => Some(text),
            _ => None,
        }
    }

    /// Returns whether the value is null or empty.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(Scalar { kind: Kind::Null, .. }))
    }
}

/// Why a document cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ParseError {
    pub at: Position,
    pub message: String,
}

fn broken(at: Position, message: impl Into<String>) -> ParseError {
    ParseError { at, message: message.into() }
}

pub(super) fn too_deep() -> String {
    format!("this is nested more than {MAX_DEPTH} levels deep")
}

/// The size and depth of a value with its aliases expanded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    bytes: usize,
    depth: usize,
}

impl Extent {
    /// Returns the extent of a value with a text of `length` bytes.
    pub(super) fn of_text(length: usize) -> Self {
        Self { bytes: VALUE_BYTES + length, depth: 1 }
    }

    fn holding(self, part: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(part.bytes), depth: self.depth.max(part.depth + 1) }
    }
}

/// A list or mapping whose end was not read yet.
pub(super) struct Open {
    pub at: Position,
    pub anchor: usize,
    pub tag: Option<String>,
    pub parts: Parts,
    pub extent: Extent,
}

pub(super) enum Parts {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<Entry>, key: Option<Rc<Node>> },
}

/// A document under construction.
#[derive(Default)]
pub(super) struct Tree {
    open: Vec<Open>,
    anchors: HashMap<usize, (Rc<Node>, Extent)>,
    aliased: usize,
    /// The document's value, once it is complete.
    pub root: Option<Rc<Node>>,
}

impl Tree {
    /// Begins a list or mapping.
    pub(super) fn open(&mut self, open: Open) -> Result<(), ParseError> {
        let (at, extent) = (open.at, open.extent);
        self.open.push(open);
        self.check_depth(extent, at)
    }

    /// Ends the list or mapping that was begun last.
    pub(super) fn close(&mut self, at: Position) -> Result<(), ParseError> {
        let Some(open) = self.open.pop() else {
            return Err(broken(at, "a list or mapping ends here without a beginning"));
        };
        let value = match open.parts {
            Parts::List(items) => Value::List(items),
            Parts::Map { entries, .. } => Value::Map(merged(entries)),
        };
        self.complete(Rc::new(Node { at: open.at, tag: open.tag, value }), open.anchor, open.extent, at)
    }

    /// Adds the value that an alias names.
    pub(super) fn alias(&mut self, anchor: usize, at: Position) -> Result<(), ParseError> {
        let Some((node, extent)) = self.anchors.get(&anchor).cloned() else {
            return Err(broken(at, "this alias is inside the value that it refers to"));
        };
        self.aliased = self.aliased.saturating_add(extent.bytes);
        if self.aliased > MAX_ALIASED {
            let message = format!("the aliases up to here expand to more than {MAX_ALIASED} bytes");
            return Err(broken(at, message));
        }
        self.complete(node, 0, extent, at)
    }

    /// Adds a complete value to the list or mapping that is open, or as the root.
    pub(super) fn complete(
        &mut self,
        node: Rc<Node>,
        anchor: usize,
        extent: Extent,
        at: Position,
    ) -> Result<(), ParseError> {
        self.check_depth(extent, at)?;
        if anchor != 0 {
            self.anchors.insert(anchor, (Rc::clone(&node), extent));
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.extent = parent.extent.holding(extent);
        match &mut parent.parts {
            Parts::List(items) => items.push(node),
            Parts::Map { entries, key } => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push(Entry { key, value: node }),
            },
        }
        Ok(())
    }

    fn check_depth(&self, extent: Extent, at: Position) -> Result<(), ParseError> {
        if self.open.len() + extent.depth > MAX_DEPTH {
            return Err(broken(at, too_deep()));
        }
        Ok(())
    }
}

/// Replaces each merge key `<<` by the entries of the mappings that it names. An entry whose key follows below the `<<`
/// in the mapping is left out, since the entry below overrides it. An entry whose key is above the `<<`, or in another
/// `<<`, is in the mapping twice and so becomes a mistake, since programs differ on which of the two they use.
fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    if !entries.iter().any(is_merge) {
        return entries;
    }
    let mut below = HashSet::new();
    let mut all = Vec::new();
    for entry in entries.into_iter().rev() {
        if is_merge(&entry) {
            let mut added = merged_entries(&entry, &below);
            added.reverse();
            all.append(&mut added);
        } else {
            below.extend(entry.key.text().map(str::to_owned));
            all.push(entry);
        }
    }
    all.reverse();
    all
}

fn is_merge(entry: &Entry) -> bool {
    let sources = sources(&entry.value);
    matches!(&entry.key.value, Value::Scalar(Scalar { kind: Kind::Merge, .. }))
        && !sources.is_empty()
        && sources.iter().all(|source| matches!(source.value, Value::Map(_)))
}

/// Returns the entries that a `<<` adds, without the keys in `except`. If two of its mappings have the same key, the
/// first mapping's entry is used.
fn merged_entries(merge: &Entry, except: &HashSet<String>) -> Vec<Entry> {
    let mut added = Vec::new();
    let mut keys: HashSet<&str> = HashSet::new();
    for source in sources(&merge.value) {
        let is_new = |entry: &&Entry| entry.key.text().is_none_or(|key| !except.contains(key) && !keys.contains(key));
        added.extend(source.entries().iter().filter(is_new).cloned());
        keys.extend(source.entries().iter().filter_map(|entry| entry.key.text()));
    }
    added
}

/// Returns the values that a `<<` names: the items of a list, or the one value.
fn sources(value: &Rc<Node>) -> &[Rc<Node>] {
    match &value.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(value),
    }
}
