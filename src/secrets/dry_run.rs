//! A store that writes nothing: it reads another store, and keeps writes in an overlay.

use super::{
    FoundSecret, Lookup, ResourceIdentity, SecretError, SecretManifest, SecretRef, SecretSnapshot, SecretStore, Stored,
    VerifiedSecret,
};
use crate::account::Owner;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A dry run over another store.
pub struct DryRunSecrets {
    base: Base,
    overlay: Mutex<Overlay>,
}

/// The writes of the dry run, and the assumed Secrets.
#[derive(Default)]
struct Overlay {
    /// The Secret at each written place; `None`: it was deleted.
    secrets: HashMap<SecretRef, Option<OverlaySecret>>,
    /// The places written for each owner since the last call of [`DryRunSecrets::forget_contents`].
    places: HashMap<Owner, Vec<SecretRef>>,
    /// The assumed Secrets of [`Base::Unseen`]; `None`: one that is in sync, with any contents.
    assumed: HashMap<SecretRef, Option<Box<Secret>>>,
}

/// A Secret that the dry run has written.
#[derive(Clone, PartialEq)]
struct OverlaySecret {
    identity: ResourceIdentity,
    /// The complete Secret; `None` after [`DryRunSecrets::forget_contents`].
    secret: Option<Box<Secret>>,
}

/// The Secrets that exist before the dry run.
enum Base {
    /// The Secrets of this store.
    Store(Arc<dyn SecretStore>),
    /// The Secrets of a cluster, as a snapshot has them.
    Snapshot(Arc<SecretSnapshot>),
    /// The Secrets are not read.
    Unseen,
}

impl DryRunSecrets {
    /// Creates a dry run over this store.
    pub fn new(real: Arc<dyn SecretStore>) -> Self {
        Self { base: Base::Store(real), overlay: Mutex::default() }
    }

    /// Creates a dry run over the snapshot of a cluster.
    pub fn over_snapshot(real: Arc<SecretSnapshot>) -> Self {
        Self { base: Base::Snapshot(real), overlay: Mutex::default() }
    }

    /// Creates a dry run that reads no Secrets.
    pub fn unseen() -> Self {
        Self { base: Base::Unseen, overlay: Mutex::default() }
    }

    /// Assumes, if Secrets are not read, that exactly these exist. `None`: one that is in sync whatever happens to its
    /// account.
    pub fn assume(&self, secrets: HashMap<SecretRef, Option<Box<Secret>>>) {
        self.overlay().assumed = secrets;
    }

    /// A panic of another task cannot leave the map half changed, so a poisoned lock is still usable.
    fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the contents of the written Secrets, and keeps their owners. This saves memory in a dry run over many
    /// accounts. An account whose contents were removed must not be reconciled again.
    pub fn forget_contents(&self) {
        let Overlay { secrets, places, .. } = &mut *self.overlay();
        for at in mem::take(places).values().flatten() {
            if let Some(Some(written)) = secrets.get_mut(at) {
                written.secret = None;
            }
        }
    }

    fn write(&self, at: &SecretRef, identity: &ResourceIdentity, secret: Secret) {
        let mut overlay = self.overlay();
        overlay.places.entry(identity.owner.clone()).or_default().push(at.clone());
        let written = OverlaySecret { identity: identity.clone(), secret: Some(Box::new(secret)) };
        overlay.secrets.insert(at.clone(), Some(written));
    }
}

#[async_trait]
impl SecretStore for DryRunSecrets {
    async fn find(&self, at: &SecretRef, verified: Option<VerifiedSecret<'_>>) -> Result<Lookup, SecretError> {
        let (written, assumed) = {
            let overlay = self.overlay();
            (overlay.secrets.get(at).cloned(), overlay.assumed.get(at).cloned())
        };
        match (written, &self.base) {
            (Some(Some(OverlaySecret { identity, secret })), _) => {
                let known_owner = || Secret { metadata: identity.metadata(), ..Secret::default() };
                let secret = secret.map_or_else(known_owner, |secret| *secret);
                Ok(Lookup::Found(Box::new(FoundSecret::new(at.clone(), secret))))
            }
            (None, Base::Store(store)) => store.find(at, verified).await,
            (None, Base::Snapshot(snapshot)) => snapshot.find(at, verified).await,
            (None, Base::Unseen) => Ok(match assumed {
                Some(Some(secret)) => Lookup::Found(Box::new(FoundSecret::new(at.clone(), *secret))),
                Some(None) => Lookup::Unchanged,
                None => Lookup::Absent,
            }),
            (Some(None), _) => Ok(Lookup::Absent),
        }
    }

    async fn owned_by(&self, wanted: &ResourceIdentity) -> Result<Vec<SecretRef>, SecretError> {
        let mut places = match &self.base {
            Base::Store(store) => store.owned_by(wanted).await?,
            Base::Snapshot(snapshot) => snapshot.owned_by(wanted),
            Base::Unseen => Vec::new(),
        };
        let overlay = self.overlay();
        places.extend(overlay.places.get(&wanted.owner).into_iter().flatten().cloned());
        places.sort();
        places.dedup();
        places.retain(|at| overlay.secrets.get(at) != Some(&None));
        Ok(places)
    }

    async fn create(&self, manifest: &SecretManifest) -> Result<Stored, SecretError> {
        match self.find(&manifest.at, None).await? {
            Lookup::Absent => {
                self.write(&manifest.at, &manifest.identity, manifest.to_secret());
                Ok(Stored::default())
            }
            Lookup::Unchanged | Lookup::Found(_) => Err(SecretError::Exists(manifest.at.clone())),
        }
    }

    async fn replace(&self, found: &FoundSecret, manifest: &SecretManifest) -> Result<Stored, SecretError> {
        self.write(&manifest.at, &manifest.identity, found.corrected(manifest));
        Ok(Stored::default())
    }

    async fn remove(&self, at: &SecretRef, of: &ResourceIdentity) -> Result<bool, SecretError> {
        let found = match self.find(at, None).await? {
            Lookup::Found(found) => of.check(found.metadata()).is_ok(),
            Lookup::Absent | Lookup::Unchanged => false,
        };
        if found {
            self.overlay().secrets.insert(at.clone(), None);
        }
        Ok(found)
    }

    async fn release(&self, at: &SecretRef, of: &ResourceIdentity) -> Result<bool, SecretError> {
        let without_references = match self.find(at, None).await? {
            Lookup::Found(found) if of.check(found.metadata()).is_ok() => found.without_owner_references(of),
            Lookup::Found(_) | Lookup::Absent | Lookup::Unchanged => None,
        };
        let has_references = without_references.is_some();
        if let Some(without_references) = without_references {
            self.write(at, of, without_references);
        }
        Ok(has_references)
    }
}
