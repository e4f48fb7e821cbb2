//! `ApiAccount`s read from files: what each declares, or each mistake with file, line, object and field.
//!
//! The way of a manifest: [`Source`] names files, `yaml` makes a `tree` of each document that knows its lines, `object` picks the
//! `ApiAccount`s out, `shape` holds each against the CRD's own schema, and [`Desired::parse`] judges the rest, as for a
//! resource on a cluster. Nothing is given out unless all of it is right: half of a folder is never applied.

mod account;
mod across;
mod object;
mod problem;
mod scalar;
mod schema;
mod shape;
mod source;
mod tree;
mod yaml;

pub use problem::{Invalid, Place, Position, Problem, Skipped};
pub(crate) use schema::nearest;
pub use source::Source;

use crate::account::{ClusterId, Period};
use crate::api::{KIND, PAUSED_ANNOTATION};
use crate::reconcile::Desired;
use across::Claims;
use object::Found;
use schema::Schema;
use shape::Mistake;
use source::{Input, Inputs};
use std::io::Read;
use std::sync::Arc;
use tree::Node;

/// What manifests are read for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cluster that the accounts' owners are of.
    pub cluster: ClusterId,
    /// The namespace of a manifest that names none.
    pub default_namespace: String,
    /// How often keys may be rotated by themselves at most.
    pub least_interval: Period,
}

/// Manifests without a mistake.
#[derive(Debug, Clone)]
pub struct Manifests {
    /// Each account, in the order of the files.
    pub accounts: Vec<Manifest>,
    /// What was left out.
    pub skipped: Vec<Skipped>,
}

/// Manifests without a mistake, counted instead of kept.
#[derive(Debug, Clone)]
pub struct Checked {
    /// How many accounts they declare.
    pub accounts: usize,
    /// What was left out.
    pub skipped: Vec<Skipped>,
}

/// One account's manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// What it declares.
    pub desired: Desired,
    /// Whether it says, either way, if the resource is paused.
    pub names_paused: bool,
    /// Where it begins.
    pub place: Place,
}

/// Reads every manifest that the sources hold.
///
/// `stdin` is read if one of the sources is [`Source::Stdin`]. A file is read once, however often it is named.
///
/// # Errors
/// [`Invalid`] with every mistake there is: in a manifest, in reading a source, two manifests that claim the same resource,
/// account name or Secret, or a source without any `ApiAccount`, since applying nothing must not look like success.
pub fn read(sources: &[Source], stdin: impl Read, options: &Options) -> Result<Manifests, Invalid> {
    let mut accounts = Vec::new();
    let skipped = walk(&Schema::of_api_account(), sources, stdin, options, &mut |manifest| accounts.push(manifest))?;
    Ok(Manifests { accounts, skipped })
}

/// Checks every manifest that the sources hold, as [`read`] does, and keeps none of them, so that memory does not grow with
/// what they say. `right` is told where each account is that has no mistake of its own.
///
/// # Errors
/// As [`read`].
pub fn check(
    sources: &[Source],
    stdin: impl Read,
    options: &Options,
    right: &mut dyn FnMut(&Place),
) -> Result<Checked, Invalid> {
    let mut accounts = 0;
    let mut take = |manifest: Manifest| {
        accounts += 1;
        right(&manifest.place);
    };
    let skipped = walk(&Schema::of_api_account(), sources, stdin, options, &mut take)?;
    Ok(Checked { accounts, skipped })
}

/// Gives each manifest that is right to `take`, and answers with what was left out. What was given is void if there is an
/// error in the end.
fn walk(
    schema: &Schema,
    sources: &[Source],
    stdin: impl Read,
    options: &Options,
    take: &mut dyn FnMut(Manifest),
) -> Result<Vec<Skipped>, Invalid> {
    let mut reader =
        Reader { options, schema, take, claims: Claims::default(), skipped: Vec::new(), problems: Vec::new(), met: 0 };
    let mut inputs = Inputs::new(stdin);
    for source in sources {
        let before = reader.met;
        let mut texts = 0;
        let empty = inputs.read(source, &mut |input| {
            texts += 1;
            reader.input(input);
        });
        if empty {
            reader.whole(source, "holds no .yaml, .yml or .json file");
        } else if texts > 0 && reader.met == before {
            reader.whole(source, &format!("holds no {KIND}"));
        }
    }
    reader.finish()
}

struct Reader<'a> {
    options: &'a Options,
    schema: &'a Schema,
    take: &'a mut dyn FnMut(Manifest),
    claims: Claims,
    skipped: Vec<Skipped>,
    problems: Vec<Problem>,
    /// How many accounts or problems there were.
    met: usize,
}

impl Reader<'_> {
    fn input(&mut self, input: Input) {
        let (file, text) = match input {
            Ok(input) => input,
            Err(problem) => {
                self.met += 1;
                return self.problems.push(problem);
            }
        };
        for document in yaml::documents(&text) {
            match document {
                Ok(root) => object::objects(&root, &file, &mut |found| self.found(&file, found)),
                Err(broken) => {
                    let message = format!("this is not valid YAML: {}", broken.message);
                    self.mistake(&file, None, Mistake { at: broken.at, field: String::new(), message });
                }
            }
        }
    }

    fn found(&mut self, file: &Arc<str>, found: Found) {
        match found {
            Found::Account(root) => self.account(file, &root),
            Found::Mistake(mistake) => self.mistake(file, None, mistake),
            Found::Other { at, kind, name, why } => {
                let place = Place { file: Arc::clone(file), position: Some(at) };
                self.skipped.push(Skipped { place, kind, name, why });
            }
        }
    }

    fn account(&mut self, file: &Arc<str>, root: &Node) {
        self.met += 1;
        let place = Place { file: Arc::clone(file), position: Some(root.at) };
        let identity = account::identity(root, self.options);
        let twice = identity.as_ref().and_then(|identity| self.claims.resource(identity, root, &place));
        let is_first = twice.is_none();
        let mut mistakes: Vec<Mistake> = twice.into_iter().collect();
        match account::read(root, self.schema, self.options) {
            Ok(desired) => {
                if identity.is_some() && is_first {
                    mistakes.extend(self.claims.declared(&desired, root));
                }
                (self.take)(Manifest { desired, names_paused: names_paused(root), place });
            }
            Err(wrong) => mistakes.extend(wrong),
        }
        mistakes.sort_by_key(|mistake| mistake.at);
        for mistake in mistakes {
            self.mistake(file, identity.as_deref(), mistake);
        }
    }

    fn mistake(&mut self, file: &Arc<str>, object: Option<&str>, mistake: Mistake) {
        self.met += 1;
        let Mistake { at, field, message } = mistake;
        self.problems.push(Problem {
            place: Place { file: Arc::clone(file), position: Some(at) },
            object: object.map(str::to_owned),
            field: Some(field).filter(|field| !field.is_empty()),
            message,
        });
    }

    /// A problem of a source as a whole.
    fn whole(&mut self, source: &Source, message: &str) {
        let place = Place { file: source::name(source), position: None };
        self.problems.push(Problem { place, object: None, field: None, message: message.to_owned() });
    }

    fn finish(self) -> Result<Vec<Skipped>, Invalid> {
        let Self { skipped, problems, .. } = self;
        if problems.is_empty() { Ok(skipped) } else { Err(Invalid { problems, skipped }) }
    }
}

fn names_paused(root: &Node) -> bool {
    let annotations = root.get("metadata").and_then(|metadata| metadata.get("annotations"));
    annotations.is_some_and(|annotations| annotations.get(PAUSED_ANNOTATION).is_some())
}

#[cfg(test)]
mod tests;
