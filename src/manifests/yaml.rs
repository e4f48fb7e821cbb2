//! Parses YAML and JSON, one document at a time.
//!
//! The documents after one that cannot be parsed are still read. The tree keeps what YAML allows and a manifest does
//! not: duplicate keys, tags, and keys that are not text. Such a mistake is reported only in an ApiAccount.

use super::problem::Position;
use super::scalar::{Kind, Scalar};
use super::tree::{Extent, MAX_DEPTH, Node, Open, ParseError, Parts, Tree, Value, too_deep};
use granit_parser::{ErrorKind, Event, Marker, Options, Parser, ScalarStyle, ScanError, StrInput, Tag};
use std::rc::Rc;

/// The position of the first character of a file.
const START: Position = Position { line: 1, column: 1 };

/// The message for a document that is separated from the one before it only by `...`.
const UNMARKED: &str = "a document begins here without a --- above it, and kubectl ignores it: add a --- line";

/// Returns the documents of a text, without empty ones.
pub(super) fn documents(text: &str) -> Documents<'_> {
    Documents { parser: parser(text), text, start: START, begun: false, pending: None, ended: false }
}

fn parser(text: &str) -> Parser<'_, StrInput<'_>> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    Parser::new_from_str_with_options(text, options)
}

/// The documents of a text.
pub(super) struct Documents<'text> {
    parser: Parser<'text, StrInput<'text>>,
    /// The text that the parser reads: the rest of the file from the document at which the parser was created.
    text: &'text str,
    /// The position in the file at which `text` begins.
    start: Position,
    /// Whether a document was read from `text`.
    begun: bool,
    /// An error after a complete document, to be returned next.
    pending: Option<ParseError>,
    ended: bool,
}

impl Iterator for Documents<'_> {
    type Item = Result<Rc<Node>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let document = self.pending.take().map_or_else(|| self.document(), Err);
            match document {
                Ok(Some(root)) if root.is_null() && root.tag.is_none() => {}
                Ok(Some(root)) => return Some(Ok(root)),
                Ok(None) => self.ended = true,
                Err(broken) => {
                    // If the search for the next document fails, there is no next document.
                    self.ended = !self.parser.proceed_next_document().unwrap_or(false);
                    return Some(Err(broken));
                }
            }
        }
        None
    }
}

impl Documents<'_> {
    /// Reads the next document; `None` at the end of the text.
    fn document(&mut self) -> Result<Option<Rc<Node>>, ParseError> {
        let mut tree = Tree::default();
        while let Some(next) = self.parser.next_event() {
            let (event, span) = match next {
                Ok(next) => next,
                Err(error) if self.begin_json(&error) => continue,
                Err(error) => {
                    let broken = self.broken(&error);
                    let Some(root) = tree.root else { return Err(broken) };
                    self.pending = Some(broken);
                    return Ok(Some(root));
                }
            };
            let at = self.place(&span.start);
            match event {
                Event::DocumentStart(marked, _) => {
                    if self.begun && !marked {
                        return Err(ParseError { at, message: UNMARKED.to_owned() });
                    }
                    self.begun = true;
                }
                Event::DocumentEnd => return Ok(tree.root),
                Event::Alias(anchor) => tree.alias(anchor, at)?,
                Event::Scalar(text, style, anchor, tag) => {
                    let (kind, tag) = meaning(&text, style, tag.as_deref());
                    let extent = Extent::of_text(text.len());
                    let value = Value::Scalar(Scalar { text: text.into_owned(), kind });
                    tree.complete(Rc::new(Node { at, tag, value }), anchor, extent, at)?;
                }
                Event::SequenceStart(_, anchor, tag) => {
                    let tag = unknown(tag.as_deref(), "seq");
                    tree.open(Open { at, anchor, tag, parts: Parts::List(Vec::new()), extent: Extent::of_text(0) })?;
                }
                Event::MappingStart(_, anchor, tag) => {
                    let tag = unknown(tag.as_deref(), "map");
                    let parts = Parts::Map { entries: Vec::new(), key: None };
                    tree.open(Open { at, anchor, tag, parts, extent: Extent::of_text(0) })?;
                }
                Event::SequenceEnd | Event::MappingEnd => tree.close(at)?,
                _ => {}
            }
        }
        Ok(None)
    }

    /// Continues with a new parser if a JSON object begins where the parser expected `---`, and returns whether it
    /// does. jq writes JSON objects without `---` between them.
    fn begin_json(&mut self, error: &ScanError) -> bool {
        let marker = error.marker();
        let rest = marker.byte_offset().and_then(|offset| self.text.get(offset..));
        match (error.kind(), rest) {
            (ErrorKind::ExpectedDocumentStart, Some(rest)) if rest.starts_with('{') => {
                self.start = self.place(marker);
                self.text = rest;
                self.parser = parser(rest);
                self.begun = false;
                true
            }
            _ => false,
        }
    }

    fn broken(&self, error: &ScanError) -> ParseError {
        let message = match error.kind() {
            ErrorKind::RecursionLimitExceeded => too_deep(),
            _ => error.info(),
        };
        ParseError { at: self.place(error.marker()), message }
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

/// Returns the type of a scalar, and its tag if the tag is not a JSON type or does not match the scalar.
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

/// Returns the tag of a list or mapping, unless it is the `known` core tag or `!`.
fn unknown(tag: Option<&Tag>, known: &str) -> Option<String> {
    tag.filter(|tag| tag.core_suffix() != Some(known) && tag.original() != "!").map(Tag::original)
}

#[cfg(test)]
mod tests {
    use super::super::tree::Entry;
    use super::*;

    /// Prints a document as `{key: value, ...}` with `@line:column` after each value.
    fn shown(node: &Node) -> String {
        let Position { line, column } = node.at;
        let value = match &node.value {
            Value::Scalar(Scalar { text, kind: Kind::Text }) => format!("{text:?}"),
            Value::Scalar(Scalar { text, .. }) => text.clone(),
            Value::List(items) => {
                format!("[{}]", items.iter().map(|item| shown(item)).collect::<Vec<_>>().join(" "))
            }
            Value::Map(entries) => {
                let entry = |entry: &Entry| format!("{}: {}", shown(&entry.key), shown(&entry.value));
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(" "))
            }
        };
        format!("{value}@{line}:{column}")
    }

    fn read(text: &str) -> Vec<String> {
        let shown = |document: Result<Rc<Node>, ParseError>| match document {
            Ok(node) => shown(&node),
            Err(broken) => format!("{}:{} {}", broken.at.line, broken.at.column, broken.message),
        };
        documents(text).map(shown).collect()
    }

    #[test]
    fn every_value_has_its_position() {
        let expected = [r#"{"a"@1:1: 1@1:4 "b"@2:1: ["x"@3:3 "y z"@4:3]@3:3 "é"@5:1: "v"@5:4}@1:1"#];
        let text = "a: 1\nb:\n- x\n- \"y z\"\né: v\n";
        assert_eq!(read(text), expected);
        assert_eq!(read(&text.replace('\n', "\r\n")), expected);
        assert_eq!(
            read("{\n\t\"a\": [1, true],\n\t\"b\": \"\\u00e9\"\n}\n"),
            [r#"{"a"@2:2: [1@2:8 true@2:11]@2:7 "b"@3:2: "é"@3:7}@1:1"#]
        );
        assert_eq!(read("\u{feff}a: 1").len(), 1);
    }

    #[test]
    fn empty_documents_are_left_out() {
        for empty in ["", "\n", "# only a comment\n", "---\n", "---\n---\n# nothing\n---\n...\n", "\u{feff}"] {
            assert_eq!(read(empty), [""; 0], "{empty:?}");
        }
        assert_eq!(
            read("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n"),
            [r#"{"a"@3:1: 1@3:4}@3:1"#, r#"{"b"@7:1: 2@7:4}@7:1"#]
        );
    }

    #[test]
    fn json_objects_may_follow_each_other() {
        assert_eq!(
            read("{\"a\":1}\n{\"b\":2} {\"c\":3}\n"),
            [r#"{"a"@1:2: 1@1:6}@1:1"#, r#"{"b"@2:2: 2@2:6}@2:1"#, r#"{"c"@2:10: 3@2:14}@2:9"#]
        );
        assert_eq!(read("{\"a\":1}\n{\"b\":"), [r#"{"a"@1:2: 1@1:6}@1:1"#, "2:1 unclosed bracket '{'"]);
        assert_eq!(read("{\"a\":1}\nb").len(), 2);
    }

    #[test]
    fn a_broken_document_does_not_hide_the_others() {
        let read = read("a: [1\n---\nb: 2\n---\nc: {\n---\nd:\n\t- 4\n---\ne: 5\n");
        let beginnings = ["1:4 unclosed", r#"{"b"@3:1: 2@3:4}"#, "5:4 unclosed", "8:2 tabs", r#"{"e"@10:1: 5@10:4}"#];
        assert_eq!(read.len(), beginnings.len(), "{read:#?}");
        for (document, beginning) in read.iter().zip(beginnings) {
            assert!(document.starts_with(beginning), "{document}");
        }
    }

    #[test]
    fn an_aliased_value_keeps_its_own_position() {
        assert_eq!(
            read("a: &office [x]\nb: *office\n"),
            [r#"{"a"@1:1: ["x"@1:13]@1:12 "b"@2:1: ["x"@1:13]@1:12}@1:1"#]
        );
        assert!(read("a: *nowhere\n---\nb: 1")[0].contains("unknown anchor"));
        assert!(read("&a [*a]")[0].starts_with("1:5 this alias is inside the value that it refers to"));
        assert!(read("a: &x 1\n---\nb: *x")[1].contains("unknown anchor"));
    }

    #[test]
    fn merge_keys_add_missing_entries() {
        let node =
            documents("base: &base {a: 1, b: 2}\nown:\n  <<: *base\n  b: 3\nboth:\n  <<: [{a: 4}, *base]\n").next();
        let node = node.unwrap().unwrap();
        let texts = |key: &str| -> Vec<_> {
            let text = |node: &Node| match &node.value {
                Value::Scalar(scalar) => scalar.text.clone(),
                _ => panic!("{node:?}"),
            };
            let entries = node.get(key).unwrap().entries().iter();
            entries.map(|entry| format!("{}={}", text(&entry.key), text(&entry.value))).collect()
        };
        assert_eq!(texts("own"), ["a=1", "b=3"]);
        assert_eq!(texts("both"), ["a=4", "b=2"]);
    }

    /// kubectl uses the lower of two such entries, kustomize the one that is not merged.
    #[test]
    fn a_key_above_a_merge_key_or_in_two_merge_keys_is_there_twice() {
        let keys = |text: &str| -> Vec<String> {
            let node = documents(text).next().unwrap().unwrap();
            node.entries().iter().filter_map(|entry| entry.key.text().map(str::to_owned)).collect()
        };
        assert_eq!(keys("a: 1\n<<: {a: 2, b: 3}\n"), ["a", "a", "b"]);
        assert_eq!(keys("<<: {a: 2}\n<<: {a: 3, b: 4}\nb: 5\n"), ["a", "a", "b"]);
        assert_eq!(keys("<<: {a: 2, a: 3}\n"), ["a", "a"]);
        assert_eq!(keys("{\"<<\": {a: 2}}"), ["<<"]);
    }

    #[test]
    fn a_document_separated_only_by_three_dots_is_refused() {
        let read = read("a: 1\n...\nb: 2\n---\nc: 3\n...\n");
        assert_eq!(read.len(), 3, "{read:#?}");
        assert!(read[1].starts_with("3:1 a document begins here without a ---"), "{read:#?}");
        assert!(read[2].contains("\"c\""), "{read:#?}");
    }

    #[test]
    fn a_few_lines_cannot_exhaust_the_memory() {
        let line = |level: usize, times: usize| {
            let aliases = vec![format!("*a{}", level.saturating_sub(1)); times].join(", ");
            format!("a{level}: &a{level} [{}]\n", if level == 0 { "x" } else { &aliases })
        };
        let laughs: String = (0..30).map(|level| line(level, 10)).collect();
        assert!(read(&laughs)[0].contains("the aliases up to here expand to more than 67108864 bytes"));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(100));
        assert!(read(&long)[0].contains("the aliases up to here"));
        let deep: String = (0..1000).map(|level| line(level, 1)).collect();
        assert!(read(&deep)[0].contains("nested more than 128 levels deep"));
        assert!(read(&"[".repeat(100_000))[0].contains("nested more than 128 levels deep"));
        assert!(read(&"- ".repeat(100_000))[0].contains("nested more than 128 levels deep"));
        assert_eq!(read(&format!("{}{}", "[".repeat(100), "]".repeat(100))).len(), 1);
    }

    #[test]
    fn tags_of_json_types_are_understood_and_others_kept() {
        let tag = |text: &str| documents(text).next().unwrap().unwrap().tag.clone();
        for known in ["!!str 5", "! 5", "!!int 5", "!!float 5", "!!bool true", "!!map {}", "!!seq []", "'x'"] {
            assert_eq!(tag(known), None, "{known}");
        }
        for unknown in ["!!int x", "!!binary eA==", "!mine x", "!mine {}", "!!seq {}", "!!set {}", "!!bool yes"] {
            assert!(tag(unknown).is_some(), "{unknown}");
        }
        let root = documents("!!str 5").next().unwrap().unwrap();
        assert_eq!(root.text(), Some("5"));
    }
}
