//! Secrets that hold the keys of accounts: the desired Secret, the found Secret, and the port [`SecretStore`] to where
//! Secrets are kept.

pub mod cache;
pub mod cluster;
pub mod directory;
mod dry_run;
mod error;
mod found;
mod manifest;
mod small_texts;
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
    /// Returns what is at this place. `verified` is the Secret that was in sync the last time, so that an unchanged
    /// Secret is not read.
    async fn find(&self, at: &SecretRef, verified: Option<VerifiedSecret<'_>>) -> Result<Lookup, SecretError>;

    /// Reads what is at a place where [`SecretStore::find`] sees nothing. A caller that does not write there needs
    /// this, because `find` does not see every foreign Secret.
    async fn confirm(&self, at: &SecretRef) -> Result<Lookup, SecretError> {
        self.find(at, None).await
    }

    /// Returns all Secrets that name this resource as their owner.
    async fn owned_by(&self, wanted: &ResourceIdentity) -> Result<Vec<SecretRef>, SecretError>;

    /// Creates a Secret where `find` saw none, and returns what was stored.
    ///
    /// # Errors
    /// [`SecretError::Exists`] if there is a Secret. It is not changed, and the next [`SecretStore::find`] reads it.
    async fn create(&self, manifest: &SecretManifest) -> Result<Stored, SecretError>;

    /// Changes a found Secret to what the manifest says, and returns what was stored. Labels, annotations and owner
    /// references of other programs and users are kept.
    ///
    /// # Errors
    /// [`SecretError::Changed`] if the Secret has changed since it was found.
    async fn replace(&self, found: &FoundSecret, manifest: &SecretManifest) -> Result<Stored, SecretError>;

    /// Deletes a Secret of this resource, and returns whether it did. A missing Secret is no error, and a foreign
    /// Secret is kept.
    async fn remove(&self, at: &SecretRef, of: &ResourceIdentity) -> Result<bool, SecretError>;

    /// Removes the owner references that let the garbage collector delete the resource's Secret, and returns whether
    /// there were any.
    async fn release(&self, at: &SecretRef, of: &ResourceIdentity) -> Result<bool, SecretError>;
}

/// The result of a write of a Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// The resourceVersion; `None` where versions are not kept.
    pub version: Option<String>,
    /// The names of the parts that were stored differently from the manifest, for example because an admission policy
    /// changed them (see [`FoundSecret::differences`]).
    pub rewritten: Vec<String>,
}

impl Stored {
    /// Compares the stored Secret with the manifest.
    pub fn of(secret: Secret, manifest: &SecretManifest) -> Self {
        let found = FoundSecret::new(manifest.at.clone(), secret);
        Self { version: found.version().map(str::to_owned), rewritten: found.differences(manifest) }
    }
}

/// A Secret that was in sync when it was last read.
#[derive(Debug, Clone, Copy)]
pub struct VerifiedSecret<'a> {
    /// Its resourceVersion (see [`FoundSecret::version`]).
    pub version: &'a str,
    /// The id of the keyring key with which its mark must be made; `None`: any.
    pub marked_with: Option<&'a str>,
}

impl VerifiedSecret<'_> {
    /// Returns whether a Secret with this resourceVersion is still in sync: it is the verified version, and has no
    /// owner reference and no mark of another keyring.
    pub(crate) fn is_still(self, version: Option<&str>, has_reference: bool, marked_with: Option<&str>) -> bool {
        let is_marked = marked_with.is_some_and(|found| self.marked_with.is_none_or(|wanted| wanted == found));
        version == Some(self.version) && !has_reference && is_marked
    }

    /// Does the same as `is_still` for a Secret with this metadata.
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
    /// There is no Secret, as far as is known.
    Absent,
    /// The Secret is the version that was verified.
    Unchanged,
    /// This Secret was read.
    Found(Box<FoundSecret>),
}
