//! Secrets that hold an account's keys: what one shall look like, what was found, and the port to where they are kept.

pub mod cache;
pub mod cluster;
pub mod directory;
mod dry_run;
mod error;
mod found;
mod manifest;
mod snapshot;

pub use dry_run::DryRunSecrets;
pub use error::SecretError;
pub use found::{FoundSecret, ResourceIdentity, is_bookkeeping};
pub use manifest::{AppliedNames, IssuedKeys, SecretLayout, SecretManifest, SecretRef};
pub use snapshot::{AssumedKeys, SecretSnapshot};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Where Secrets are kept: a cluster, or a directory of manifests.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// What is at this place. `verified` is what was found to be right the last time, so that an unchanged Secret need not be
    /// read.
    async fn find(&self, at: &SecretRef, verified: Option<VerifiedSecret<'_>>) -> Result<Lookup, SecretError>;

    /// What is at a place where [`SecretStore::find`] sees nothing, for whoever will not write there: `find` is not told of
    /// everything that others put there.
    async fn confirm(&self, at: &SecretRef) -> Result<Lookup, SecretError> {
        self.find(at, None).await
    }

    /// The Secrets that say they belong to this resource, wherever they are.
    async fn owned_by(&self, wanted: &ResourceIdentity) -> Result<Vec<SecretRef>, SecretError>;

    /// Writes a Secret where none was seen, and answers with what is there then.
    ///
    /// # Errors
    /// [`SecretError::Exists`] if there is one after all; it is not touched, and the next [`SecretStore::find`] reads it.
    async fn create(&self, manifest: &SecretManifest) -> Result<Stored, SecretError>;

    /// Makes a Secret that was found say what the manifest says, leaving others' labels, annotations and owners alone,
    /// and answers with what is there then.
    ///
    /// # Errors
    /// [`SecretError::Changed`] if it is no longer what was found.
    async fn replace(&self, found: &FoundSecret, manifest: &SecretManifest) -> Result<Stored, SecretError>;

    /// Deletes a Secret of this resource, and answers whether it did: one that is gone already is fine, one that is somebody
    /// else's is left.
    async fn remove(&self, at: &SecretRef, of: &ResourceIdentity) -> Result<bool, SecretError>;

    /// Takes the references off the resource's Secret that have the cluster's garbage collector delete it with the resource,
    /// and answers whether there were any.
    async fn release(&self, at: &SecretRef, of: &ResourceIdentity) -> Result<bool, SecretError>;
}

/// A Secret as it is after it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its version; `None` where versions are not kept.
    pub version: Option<String>,
    /// The parts that are not as they were written, by name (see [`FoundSecret::differences`]): an admission policy, say,
    /// has changed them on the way.
    pub rewritten: Vec<String>,
}

impl Stored {
    /// What was stored is `secret`, where `manifest` was asked for.
    pub fn of(secret: Secret, manifest: &SecretManifest) -> Self {
        let found = FoundSecret::new(manifest.at.clone(), secret);
        Self { version: found.version().map(str::to_owned), rewritten: found.differences(manifest) }
    }
}

/// A Secret that was right when it was looked at.
#[derive(Debug, Clone, Copy)]
pub struct VerifiedSecret<'a> {
    /// Its version (see [`FoundSecret::version`]).
    pub version: &'a str,
    /// The id of the key that its mark shall be made with; `None`: any.
    pub marked_with: Option<&'a str>,
}

impl VerifiedSecret<'_> {
    /// Whether a Secret of this version is the one that was right, and nothing is to be changed on it that was right then: an
    /// owner reference, or the mark of another keyring.
    pub(crate) fn is_still(self, version: Option<&str>, is_tied: bool, marked_with: Option<&str>) -> bool {
        let is_marked = marked_with.is_some_and(|found| self.marked_with.is_none_or(|wanted| wanted == found));
        version == Some(self.version) && !is_tied && is_marked
    }

    /// The same for a Secret with this metadata.
    pub(crate) fn is(self, metadata: &ObjectMeta) -> bool {
        self.is_still(
            metadata.resource_version.as_deref(),
            found::has_owner_reference(metadata),
            found::marked_with(metadata),
        )
    }
}

/// What a [`SecretStore`] sees at a place.
#[derive(Debug)]
pub enum Lookup {
    /// Nothing, as far as is known.
    Absent,
    /// The very version that was verified.
    Unchanged,
    /// This.
    Found(Box<FoundSecret>),
}
