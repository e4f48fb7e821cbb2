//! Reads ApiAccounts from files and reports every mistake with its file, line, object and field.
//!
//! The steps for a manifest:
//! 1. `source` reads the files that a [`Source`] names.
//! 2. `yaml` parses each document into a `tree` whose values have positions.
//! 3. `object` finds the ApiAccounts in the documents.
//! 4. `shape` checks each against the CRD's schema.
//! 5. [`Desired::parse_for`] checks the rest, as for a resource on a cluster.
//! 6. `across` checks that no two manifests claim the same resource, account name or Secret.
//!
//! One mistake makes the whole result an error, so that a folder is never applied in part.

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
use object::DocumentContent;
use schema::Schema;
use shape::Mistake;
use source::{Input, Inputs};
use std::io::Read;
use std::sync::Arc;
use tree::Node;

/// The options for reading manifests.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cluster of the accounts' owners.
    pub cluster: ClusterId,
    /// The namespace of a manifest without `metadata.namespace`.
    pub default_namespace: String,
    /// The shortest rotation interval that a manifest may declare.
    pub least_interval: Period,
}

/// Manifests without a mistake.
#[derive(Debug, Clone)]
pub struct Manifests {
    /// Each account, in the order of the files.
    pub accounts: Vec<Manifest>,
    /// The objects that are not ApiAccounts of this program.
    pub skipped: Vec<Skipped>,
}

/// The number of manifests without a mistake.
#[derive(Debug, Clone)]
pub struct Checked {
    /// How many accounts the manifests declare.
    pub accounts: usize,
    /// The objects that are not ApiAccounts of this program.
    pub skipped: Vec<Skipped>,
}

/// One account's manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The desired state that it declares.
    pub desired: Desired,
    /// Whether it has the annotation that pauses the resource, with any value.
    pub has_paused_annotation: bool,
    /// Where the manifest begins.
    pub place: Place,
}

/// Reads every manifest in the sources.
///
/// `stdin` is read if one of the sources is [`Source::Stdin`]. A file is read once, even if it is named several times.
///
/// # Errors
/// [`Invalid`] with all mistakes: mistakes in a manifest, a source that cannot be read, two manifests that claim the
/// same resource, account name or Secret, and a source without an ApiAccount, since applying nothing must not look like
/// success.
pub fn read(sources: &[Source], stdin: impl Read, options: &Options) -> Result<Manifests, Invalid> {
    let mut accounts = Vec::new();
    let skipped = walk(&Schema::of_api_account(), sources, stdin, options, &mut |manifest| accounts.push(manifest))?;
    Ok(Manifests { accounts, skipped })
}

/// Checks every manifest in the sources as [`read`] does, but keeps none of them in memory. Calls `right` with the
/// place of each manifest that has no mistake of its own.
///
/// # Errors
/// The same as for [`read`].
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

/// Calls `take` with each manifest that has no mistake of its own, and returns the skipped objects. If the result is an
/// error, the caller must discard the manifests that `take` got.
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
    /// The number of accounts and problems so far, to notice a source that has neither.
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

    fn found(&mut self, file: &Arc<str>, found: DocumentContent) {
        match found {
            DocumentContent::Account(root) => self.account(file, &root),
            DocumentContent::Mistake(mistake) => self.mistake(file, None, mistake),
            DocumentContent::Other { at, kind, name, why } => {
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
                    mistakes.extend(self.claims.name_and_secret(&desired, root));
                }
                (self.take)(Manifest { desired, has_paused_annotation: names_paused(root), place });
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

    /// Adds a problem that concerns a whole source.
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
