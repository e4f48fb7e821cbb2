//! What no two manifests can both have: a resource, the name of an account, a Secret.

use super::problem::{Place, Position};
use super::shape::Mistake;
use super::tree::Node;
use crate::reconcile::Desired;
use crate::secrets::SecretRef;
use std::collections::HashMap;

/// What the manifests so far have, each with the first that has it.
#[derive(Default)]
pub(super) struct Claims(HashMap<Claim, First>);

#[derive(PartialEq, Eq, Hash)]
enum Claim {
    Resource(String),
    AccountName(String),
    Secret(SecretRef),
}

struct First {
    resource: String,
    place: Place,
}

impl Claims {
    /// The mistake, if there was a manifest for this resource before.
    pub fn resource(&mut self, resource: &str, root: &Node, place: &Place) -> Option<Mistake> {
        let first = self.first(Claim::Resource(resource.to_owned()), resource, place)?;
        let message = format!("this resource is declared twice; the first time at {}", first.place);
        Some(Mistake { at: root.at, field: String::new(), message })
    }

    /// The mistakes, if this resource declares what another declares already.
    pub fn declared(&mut self, desired: &Desired, resource: &str, root: &Node, place: &Place) -> Vec<Mistake> {
        let name = Claim::AccountName(desired.settings.name.comparable());
        let name = self.first(name, resource, place).map(|First { resource: other, place }| Mistake {
            at: nearest(root, &["spec", "name"]),
            field: "spec.name".to_owned(),
            message: format!(
                "{other} at {place} has the account name {:?} too, and names are unique in OpsAdmin, whatever their case; choose another",
                desired.settings.name.as_str()
            ),
        });
        let secret = Claim::Secret(desired.secret.at.clone());
        let secret = self.first(secret, resource, place).map(|First { resource: other, place }| Mistake {
            at: nearest(root, &["spec", "secret", "name"]),
            field: "spec.secret.name".to_owned(),
            message: format!(
                "{other} at {place} has the Secret {} too, and a Secret holds the keys of one account; choose another name",
                desired.secret.at.name
            ),
        });
        name.into_iter().chain(secret).collect()
    }

    /// Who claimed it before, unless it was this very resource.
    fn first(&mut self, claim: Claim, resource: &str, place: &Place) -> Option<&First> {
        let new = || First { resource: resource.to_owned(), place: place.clone() };
        let first: &First = self.0.entry(claim).or_insert_with(new);
        (first.place != *place).then_some(first)
    }
}

/// The place of a field, or of what it would stand in.
fn nearest(root: &Node, path: &[&str]) -> Position {
    let mut node = root;
    for field in path {
        match node.get(field) {
            Some(inner) => node = inner,
            None => break,
        }
    }
    node.at
}
