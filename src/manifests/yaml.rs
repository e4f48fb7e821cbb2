//! YAML and JSON as a tree that knows where each value stands, one document at a time.
//!
//! A document that cannot be read does not hide the ones after it. What YAML allows and a manifest does not (keys given
//! twice, tags, keys that are no text) stays in the tree: only a manifest of ours is judged for it.

use super::problem::Position;
use super::scalar::{Kind, Scalar};
use granit_parser::{ErrorKind, Event, Marker, Options, Parser, ScalarStyle, ScanError, StrInput, Tag};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// The deepest nesting; manifests need a tenth of it.
const MAX_DEPTH: usize = 128;
/// The most values that the aliases of one document may stand for, so that a few lines cannot fill the memory.
const MAX_ALIASED: usize = 1_000_000;

/// Where a file begins.
const START: Position = Position { line: 1, column: 1 };

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

/// Reads a text's documents; empty ones are left out.
pub(super) fn documents(text: &str) -> Documents<'_> {
    Documents { parser: parser(text), text, start: START, ended: false }
}

fn parser(text: &str) -> Parser<'_, StrInput<'_>> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    Parser::new_from_str_with_options(text, options)
}

/// The documents of a text.
pub(super) struct Documents<'text> {
    parser: Parser<'text, StrInput<'text>>,
    /// What the parser reads.
    text: &'text str,
    /// Where that begins in the file.
    start: Position,
    ended: bool,
}

impl Iterator for Documents<'_> {
    type Item = Result<Rc<Node>, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.document() {
                Ok(Some(root)) if root.is_null() && root.tag.is_none() => {}
                Ok(Some(root)) => return Some(Ok(root)),
                Ok(None) => self.ended = true,
                Err(broken) => {
                    // An error while looking for the next document means that there is none to be found.
                    self.ended = !self.parser.proceed_next_document().unwrap_or(false);
                    return Some(Err(broken));
                }
            }
        }
        None
    }
}

impl Documents<'_> {
    /// The next document, or `None` at the end of the text.
    fn document(&mut self) -> Result<Option<Rc<Node>>, Broken> {
        let mut tree = Tree::default();
        while let Some(next) = self.parser.next_event() {
            let (event, span) = match next {
                Ok(next) => next,
                Err(error) if self.begin_json(&error) => continue,
                Err(error) => return Err(broken(self.place(error.marker()), error.info())),
            };
            let at = self.place(&span.start);
            match event {
                Event::DocumentEnd => return Ok(tree.root),
                Event::Alias(anchor) => tree.alias(anchor, at)?,
                Event::Scalar(text, style, anchor, tag) => {
                    let (kind, tag) = meaning(&text, style, tag.as_deref());
                    let value = Value::Scalar(Scalar { text: text.into_owned(), kind });
                    tree.complete(Rc::new(Node { at, tag, value }), anchor, Extent::ONE, at)?;
                }
                Event::SequenceStart(_, anchor, tag) => {
                    let tag = unknown(tag.as_deref(), "seq");
                    tree.open(Open { at, anchor, tag, parts: Parts::List(Vec::new()), extent: Extent::ONE })?;
                }
                Event::MappingStart(_, anchor, tag) => {
                    let tag = unknown(tag.as_deref(), "map");
                    let parts = Parts::Map { entries: Vec::new(), key: None };
                    tree.open(Open { at, anchor, tag, parts, extent: Extent::ONE })?;
                }
                Event::SequenceEnd | Event::MappingEnd => tree.close(at)?,
                _ => {}
            }
        }
        Ok(None)
    }

    /// JSON objects may follow each other without a `---`, as jq writes them: goes on with the one that begins here.
    fn begin_json(&mut self, error: &ScanError) -> bool {
        let marker = error.marker();
        let rest = marker.byte_offset().and_then(|offset| self.text.get(offset..));
        match (error.kind(), rest) {
            (ErrorKind::ExpectedDocumentStart, Some(rest)) if rest.starts_with('{') => {
                self.start = self.place(marker);
                self.text = rest;
                self.parser = parser(rest);
                true
            }
            _ => false,
        }
    }

    fn place(&self, marker: &Marker) -> Position {
        let (line, column) = (marker.line().max(1), marker.col() + 1);
        if line == 1 {
            Position { line: self.start.line, column: self.start.column + column - 1 }
        } else {
            Position { line: self.start.line + line - 1, column }
        }
    }
}

fn broken(at: Position, message: impl Into<String>) -> Broken {
    Broken { at, message: message.into() }
}

/// How much a value holds once its aliases are written out.
#[derive(Debug, Clone, Copy)]
struct Extent {
    values: usize,
    depth: usize,
}

impl Extent {
    const ONE: Self = Self { values: 1, depth: 1 };

    fn holding(self, part: Self) -> Self {
        Self { values: self.values.saturating_add(part.values), depth: self.depth.max(part.depth + 1) }
    }
}

/// A list or mapping whose end has not come yet.
struct Open {
    at: Position,
    anchor: usize,
    tag: Option<String>,
    parts: Parts,
    extent: Extent,
}

enum Parts {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<Entry>, key: Option<Rc<Node>> },
}

/// A document in the making.
#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    anchors: HashMap<usize, (Rc<Node>, Extent)>,
    aliased: usize,
    root: Option<Rc<Node>>,
}

impl Tree {
    fn open(&mut self, open: Open) -> Result<(), Broken> {
        let at = open.at;
        self.open.push(open);
        self.check_depth(Extent::ONE, at)
    }

    fn close(&mut self, at: Position) -> Result<(), Broken> {
        let Some(open) = self.open.pop() else {
            return Err(broken(at, "a list or mapping ends here that never began"));
        };
        let value = match open.parts {
            Parts::List(items) => Value::List(items),
            Parts::Map { entries, .. } => Value::Map(merged(entries)),
        };
        self.complete(Rc::new(Node { at: open.at, tag: open.tag, value }), open.anchor, open.extent, at)
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<(), Broken> {
        let Some((node, extent)) = self.anchors.get(&anchor).cloned() else {
            return Err(broken(at, "this alias stands inside of what it is an alias for"));
        };
        self.aliased = self.aliased.saturating_add(extent.values);
        if self.aliased > MAX_ALIASED {
            let message = format!("the aliases up to here stand for more than {MAX_ALIASED} values");
            return Err(broken(at, message));
        }
        self.complete(node, 0, extent, at)
    }

    fn complete(&mut self, node: Rc<Node>, anchor: usize, extent: Extent, at: Position) -> Result<(), Broken> {
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
            return Err(broken(at, format!("this is nested more than {MAX_DEPTH} levels deep")));
        }
        Ok(())
    }
}

/// Puts in place of each `<<` the entries of the mappings it names. What stands there already stays.
fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    let is_merge = |entry: &Entry| {
        let sources = sources(&entry.value);
        entry.key.text() == Some("<<")
            && !sources.is_empty()
            && sources.iter().all(|s| matches!(s.value, Value::Map(_)))
    };
    if !entries.iter().any(is_merge) {
        return entries;
    }
    let (merges, mut own): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(is_merge);
    let mut keys: HashSet<String> = own.iter().filter_map(|entry| entry.key.text().map(str::to_owned)).collect();
    for source in merges.iter().flat_map(|merge| sources(&merge.value)) {
        for entry in source.entries() {
            if entry.key.text().is_none_or(|key| keys.insert(key.to_owned())) {
                own.push(entry.clone());
            }
        }
    }
    own
}

/// What `<<` may name: one mapping or a list of them.
fn sources(value: &Rc<Node>) -> &[Rc<Node>] {
    match &value.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(value),
    }
}

/// What a scalar means, and its tag if that says something else than JSON can.
fn meaning(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> (Kind, Option<String>) {
    let plain = Kind::of_plain(text);
    let Some(tag) = tag else {
        return (if style == ScalarStyle::Plain { plain } else { Kind::Text }, None);
    };
    let fits = match (tag.core_suffix(), plain) {
        (Some("str"), _) => return (Kind::Text, None),
        (None, _) if tag.original() == "!" => return (Kind::Text, None),
        (Some("null"), Kind::Null)
        | (Some("bool"), Kind::Bool(_))
        | (Some("int"), Kind::Integer)
        | (Some("float"), Kind::Integer | Kind::Float) => true,
        _ => false,
    };
    if fits { (plain, None) } else { (Kind::Text, Some(tag.original())) }
}

/// A list's or mapping's tag, unless it only says what is plain to see.
fn unknown(tag: Option<&Tag>, known: &str) -> Option<String> {
    tag.filter(|tag| tag.core_suffix() != Some(known) && tag.original() != "!").map(Tag::original)
}
