//! Finds two manifests that claim the same resource, account name or Secret.

use super::problem::{Place, Position};
use super::shape::Mistake;
use super::tree::Node;
use crate::reconcile::Desired;
use crate::secrets::SecretRef;
use sha2::{Digest as _, Sha256};
use std::array;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The claims of all manifests so far, each with the first manifest that made it.
///
/// There may be tens of thousands of manifests, so each claim is stored as a short digest.
#[derive(Default)]
pub(super) struct Claims {
    claimed: HashMap<Digest, ClaimantIndex>,
    /// All manifests so far.
    claimants: Vec<Claimant>,
}

/// The first half of a claim's SHA-256.
type Digest = [u8; 16];

/// An index into [`Claims::claimants`].
type ClaimantIndex = usize;

enum Claim<'a> {
    Resource(&'a str),
    AccountName(&'a str),
    Secret(&'a SecretRef),
}

struct Claimant {
    resource: Box<str>,
    place: Place,
}

impl Claims {
    /// Adds a manifest. Returns a mistake if an earlier manifest has the same resource.
    pub fn resource(&mut self, resource: &str, root: &Node, place: &Place) -> Option<Mistake> {
        self.claimants.push(Claimant { resource: resource.into(), place: place.clone() });
        let first = self.first(&Claim::Resource(resource))?;
        let message = format!("this resource is declared twice; the first time at {}", first.place);
        Some(Mistake { at: root.at, field: String::new(), message })
    }

    /// Adds the other claims of the manifest that was added last. Returns a mistake for each claim that an earlier
    /// manifest has made.
    pub fn name_and_secret(&mut self, desired: &Desired, root: &Node) -> Vec<Mistake> {
        let name = desired.settings.name.comparable();
        let name = self.first(&Claim::AccountName(&name)).map(|Claimant { resource: other, place }| Mistake {
            at: nearest(root, &["spec", "name"]),
            field: "spec.name".to_owned(),
            message: format!(
                "{other} at {place} has the account name {:?} too, and names are unique in OpsAdmin, whatever their case; choose another",
                desired.settings.name.as_str()
            ),
        });
        let secret = self.first(&Claim::Secret(&desired.secret.at)).map(|Claimant { resource: other, place }| Mistake {
            at: nearest(root, &["spec", "secret", "name"]),
            field: "spec.secret.name".to_owned(),
            message: format!(
                "{other} at {place} has the Secret {} too, and a Secret holds the keys of one account; choose another name",
                desired.secret.at.name
            ),
        });
        name.into_iter().chain(secret).collect()
    }

    /// Returns the earlier manifest that made the claim. If there is none, the manifest that was added last makes it.
    fn first(&mut self, claim: &Claim) -> Option<&Claimant> {
        match self.claimed.entry(claim.digest()) {
            Entry::Occupied(claimed) => self.claimants.get(*claimed.get()),
            Entry::Vacant(unclaimed) => {
                unclaimed.insert(self.claimants.len().saturating_sub(1));
                None
            }
        }
    }
}

impl Claim<'_> {
    fn digest(&self) -> Digest {
        let parts = match self {
            Self::Resource(resource) => ["resource", resource, ""],
            Self::AccountName(name) => ["name", name, ""],
            Self::Secret(at) => ["secret", &at.namespace, &at.name],
        };
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        array::from_fn(|at| digest[at])
    }
}

/// Returns the position of a field, or of its nearest parent that exists.
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
