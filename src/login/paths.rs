//! Which endpoints of the API a request calls: the table of `--paths`, and the strict reading of a request's path.
//!
//! The proxy in front and the API behind must see the same path as this server. So a path that two programs may read
//! differently is refused. A path that no pattern matches belongs to [`EndpointGroup::Everything`].

mod request_path;

pub use request_path::{AmbiguousPath, RequestPath};

use crate::account::EndpointGroup;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use thiserror::Error;

/// The table of endpoint groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathTable {
    rules: Vec<Rule>,
}

/// Why a text is not a table. The message has the line and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub struct InvalidPaths {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong and what to do.
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    group: EndpointGroup,
    methods: Methods,
    pattern: Pattern,
}

/// The file as people write it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct File {
    my_account: Option<Vec<Entry>>,
    plans: Option<Vec<Entry>>,
    enrollments: Option<Vec<Entry>>,
    everything: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    methods: Methods,
    paths: Vec<Spanned<Pattern>>,
}

/// The methods of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
enum Methods {
    #[default]
    Any,
    Only(Vec<String>),
}

/// A pattern of paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Pattern {
    segments: Vec<Segment>,
    /// Whether the pattern also matches every path below.
    below: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    Any,
}

/// How exactly one part of a pattern names one part of a path. The order is that of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Exactness {
    Below,
    Any,
    Literal,
    End,
}

impl PathTable {
    /// Reads a table.
    ///
    /// # Errors
    /// The text is not YAML of the documented form, a pattern or a method cannot match any request, or two groups have
    /// the same pattern for the same method.
    pub fn parse(yaml: &str) -> Result<Self, InvalidPaths> {
        let file: File = serde_saphyr::from_str(yaml).map_err(|error| InvalidPaths {
            line: error.location().map_or(1, |location| location.line()),
            reason: message(&error),
        })?;
        let groups = [
            (EndpointGroup::MyAccount, file.my_account),
            (EndpointGroup::Plans, file.plans),
            (EndpointGroup::Enrollments, file.enrollments),
            (EndpointGroup::Everything, file.everything),
        ];
        let mut table = Self::default();
        let mut seen: BTreeMap<Pattern, Vec<usize>> = BTreeMap::new();
        for (group, entries) in groups {
            for entry in entries.unwrap_or_default() {
                for pattern in entry.paths {
                    let line = pattern.referenced.line();
                    let rule = Rule { group, methods: entry.methods.clone(), pattern: pattern.value };
                    let same = seen.entry(rule.pattern.clone()).or_default();
                    if let Some(other) = same.iter().map(|&at| &table.rules[at]).find(|other| other.contradicts(&rule))
                    {
                        return Err(InvalidPaths { line, reason: twice(group, other.group) });
                    }
                    same.push(table.rules.len());
                    table.rules.push(rule);
                }
            }
        }
        Ok(table)
    }

    /// Returns the group of a request. Of the patterns that match, the most exact one decides: segment by segment, a
    /// literal is more exact than `*`, and `*` more than `**`. The order in the file does not matter.
    pub fn group(&self, method: &str, path: &RequestPath<'_>) -> EndpointGroup {
        let matching = self.rules.iter().filter(|rule| rule.methods.include(method) && rule.pattern.matches(path));
        let most_exact = matching.max_by(|one, other| one.pattern.exactness().cmp(other.pattern.exactness()));
        most_exact.map_or(EndpointGroup::Everything, |rule| rule.group)
    }
}

impl Rule {
    /// Returns whether both rules say something else about one request, and neither is more exact.
    fn contradicts(&self, other: &Self) -> bool {
        self.group != other.group && self.pattern == other.pattern && self.methods.overlap(&other.methods)
    }
}

impl Methods {
    fn include(&self, method: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(methods) => methods.iter().any(|known| known == method),
        }
    }

    fn overlap(&self, other: &Self) -> bool {
        match self {
            Self::Any => true,
            Self::Only(methods) => methods.iter().any(|method| other.include(method)),
        }
    }
}

impl TryFrom<Vec<String>> for Methods {
    type Error = String;

    /// Methods are case-sensitive (RFC 9110 section 9.1), and an empty list would be easily taken for every method.
    fn try_from(methods: Vec<String>) -> Result<Self, String> {
        if methods.is_empty() {
            return Err("no method is listed: list methods, or leave `methods` out for every method".to_owned());
        }
        let is_method = |text: &String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        match methods.iter().find(|text| !is_method(text)) {
            Some(text) => Err(format!("{text:?} is not a method: write methods in capitals, such as GET")),
            None => Ok(Self::Only(methods)),
        }
    }
}

impl Pattern {
    fn matches(&self, path: &RequestPath<'_>) -> bool {
        let found = path.segments();
        let fits = if self.below { found.len() >= self.segments.len() } else { found.len() == self.segments.len() };
        fits && self.segments.iter().zip(found).all(|(segment, found)| segment.matches(found))
    }

    /// Two patterns that match the same path and are equally exact are the same pattern.
    fn exactness(&self) -> impl Iterator<Item = Exactness> {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Any => Exactness::Any,
            Segment::Literal(_) => Exactness::Literal,
        });
        segments.chain([if self.below { Exactness::Below } else { Exactness::End }])
    }
}

impl Segment {
    fn matches(&self, found: &str) -> bool {
        match self {
            // `/plans/` is not a path of something in `/plans`.
            Self::Any => !found.is_empty(),
            Self::Literal(literal) => literal == found,
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let refused = |reason: &str| format!("{text:?} is no pattern of paths: {reason}");
        if text.contains('?') {
            return Err(refused("leave the query out, because only paths are compared"));
        }
        let path = RequestPath::parse(&text).map_err(|ambiguous| refused(&ambiguous.to_string()))?;
        let (segments, below) = match path.segments().split_last() {
            Some((last, before)) if last == "**" => (before, true),
            _ => (path.segments(), false),
        };
        let segments = segments.iter().map(|segment| match segment.as_ref() {
            "*" => Ok(Segment::Any),
            literal if literal.contains('*') => {
                Err(refused("write * alone for one segment, or ** alone at the end for everything below"))
            }
            literal => Ok(Segment::Literal(literal.to_owned())),
        });
        Ok(Self { segments: segments.collect::<Result<_, _>>()?, below })
    }
}

/// Returns the parser's message without the excerpt of the file and without the place, which the caller prints.
fn message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let end = text.find(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

fn twice(group: EndpointGroup, other: EndpointGroup) -> String {
    format!("{group} has the same pattern as {other}, for the same method: keep it in one of them")
}

#[cfg(test)]
mod tests;
