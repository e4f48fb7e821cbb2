//! A document as a tree whose values know where they stand, and how it grows from a parser's events.
//!
//! Values that aliases name are shared, not copied. What they would come to if written out is counted all the same,
//! since whoever walks the tree meets each of them as often as it is named.

use super::problem::Position;
use super::scalar::{Kind, Scalar};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// The deepest nesting; manifests need a tenth of it.
pub(super) const MAX_DEPTH: usize = 128;
/// The most bytes that the aliases of one document may stand for, so that a few lines cannot fill the memory.
const MAX_ALIASED: usize = 64 << 20;
/// What a value counts besides its text.
const VALUE_BYTES: usize = 16;

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub at: Position,
    /// A tag that is none of JSON's types.
    pub tag: Option<String>,
    pub value: Value,
}

/// What a value is.
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
    /// The entries of a mapping; none for anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a mapping's key.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key.text() == Some(key)).map(|entry| entry.value.as_ref())
    }

    /// The text, if this is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(Scalar { text, kind: Kind::Text | Kind::Contested(_) }) => Some(text),
            _ => None,
        }
    }

    /// Whether nothing was written here.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(Scalar { kind: Kind::Null, .. }))
    }
}

/// Why a document cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub at: Position,
    pub message: String,
}

fn broken(at: Position, message: impl Into<String>) -> Broken {
    Broken { at, message: message.into() }
}

pub(super) fn too_deep() -> String {
    format!("this is nested more than {MAX_DEPTH} levels deep")
}

/// How much a value holds once its aliases are written out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    bytes: usize,
    depth: usize,
}

impl Extent {
    /// A value with a text of that many bytes.
    pub(super) fn of_text(length: usize) -> Self {
        Self { bytes: VALUE_BYTES + length, depth: 1 }
    }

    fn holding(self, part: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(part.bytes), depth: self.depth.max(part.depth + 1) }
    }
}

/// A list or mapping whose end has not come yet.
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

/// A document in the making.
#[derive(Default)]
pub(super) struct Tree {
    open: Vec<Open>,
    anchors: HashMap<usize, (Rc<Node>, Extent)>,
    aliased: usize,
    /// The document's own value, once it is whole.
    pub root: Option<Rc<Node>>,
}

impl Tree {
    /// A list or mapping begins.
    pub(super) fn open(&mut self, open: Open) -> Result<(), Broken> {
        let (at, extent) = (open.at, open.extent);
        self.open.push(open);
        self.check_depth(extent, at)
    }

    /// The list or mapping that began last ends.
    pub(super) fn close(&mut self, at: Position) -> Result<(), Broken> {
        let Some(open) = self.open.pop() else {
            return Err(broken(at, "a list or mapping ends here that never began"));
        };
        let value = match open.parts {
            Parts::List(items) => Value::List(items),
            Parts::Map { entries, .. } => Value::Map(merged(entries)),
        };
        self.complete(Rc::new(Node { at: open.at, tag: open.tag, value }), open.anchor, open.extent, at)
    }

    /// An alias stands for a value.
    pub(super) fn alias(&mut self, anchor: usize, at: Position) -> Result<(), Broken> {
        let Some((node, extent)) = self.anchors.get(&anchor).cloned() else {
            return Err(broken(at, "this alias stands inside of what it is an alias for"));
        };
        self.aliased = self.aliased.saturating_add(extent.bytes);
        if self.aliased > MAX_ALIASED {
            let message = format!("the aliases up to here stand for more than {MAX_ALIASED} bytes");
            return Err(broken(at, message));
        }
        self.complete(node, 0, extent, at)
    }

    /// A value is whole.
    pub(super) fn complete(
        &mut self,
        node: Rc<Node>,
        anchor: usize,
        extent: Extent,
        at: Position,
    ) -> Result<(), Broken> {
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

    fn check_depth(&self, extent: Extent, at: Position) -> Result<(), Broken> {
        if self.open.len() + extent.depth > MAX_DEPTH {
            return Err(broken(at, too_deep()));
        }
        Ok(())
    }
}

/// Puts in place of each `<<` the entries of the mappings it names, without those that stand below it, which count instead.
/// What stands above it, or in another `<<`, is in the mapping twice then: programs differ on which counts.
fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    if !entries.iter().any(is_merge) {
        return entries;
    }
    let mut below = HashSet::new();
    let mut whole = Vec::new();
    for entry in entries.into_iter().rev() {
        if is_merge(&entry) {
            let mut brought = brought(&entry, &below);
            brought.reverse();
            whole.append(&mut brought);
        } else {
            below.extend(entry.key.text().map(str::to_owned));
            whole.push(entry);
        }
    }
    whole.reverse();
    whole
}

fn is_merge(entry: &Entry) -> bool {
    let sources = sources(&entry.value);
    matches!(&entry.key.value, Value::Scalar(Scalar { kind: Kind::Merge, .. }))
        && !sources.is_empty()
        && sources.iter().all(|source| matches!(source.value, Value::Map(_)))
}

/// What a `<<` brings; of two mappings with the same key, the first counts.
fn brought(merge: &Entry, but: &HashSet<String>) -> Vec<Entry> {
    let mut brought = Vec::new();
    let mut keys: HashSet<&str> = HashSet::new();
    for source in sources(&merge.value) {
        let is_new = |entry: &&Entry| entry.key.text().is_none_or(|key| !but.contains(key) && !keys.contains(key));
        brought.extend(source.entries().iter().filter(is_new).cloned());
        keys.extend(source.entries().iter().filter_map(|entry| entry.key.text()));
    }
    brought
}

/// What `<<` may name: one mapping or a list of them.
fn sources(value: &Rc<Node>) -> &[Rc<Node>] {
    match &value.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(value),
    }
}
