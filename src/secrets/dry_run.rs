//! A place for Secrets that is only read: what would be written there is remembered here instead.

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

/// Rehearses writes to a store.
pub struct DryRunSecrets {
    base: Base,
    overlay: Mutex<Overlay>,
}

/// What would have been written, and what is taken for granted.
#[derive(Default)]
struct Overlay {
    /// What would be at each place that would be written to; `None`: nothing.
    secrets: HashMap<SecretRef, Option<OverlaySecret>>,
    /// The places written to for each owner, since all was settled the last time.
    places: HashMap<Owner, Vec<SecretRef>>,
    /// What is taken to be where nobody may look; `None`: something right, whatever that is.
    assumed: HashMap<SecretRef, Option<Box<Secret>>>,
}

/// A Secret that would be written.
#[derive(Clone, PartialEq)]
struct OverlaySecret {
    identity: ResourceIdentity,
    /// All of it, until its owner has no more business with it.
    secret: Option<Box<Secret>>,
}

/// What is there before anything would be written.
enum Base {
    /// What this store sees.
    Store(Arc<dyn SecretStore>),
    /// What a cluster has, as a survey has shown it.
    Snapshot(Arc<SecretSnapshot>),
    /// Nobody may look.
    Unseen,
}

impl DryRunSecrets {
    /// Over this store.
    pub fn new(real: Arc<dyn SecretStore>) -> Self {
        Self { base: Base::Store(real), overlay: Mutex::default() }
    }

    /// Over what a cluster has.
    pub fn over_snapshot(real: Arc<SecretSnapshot>) -> Self {
        Self { base: Base::Snapshot(real), overlay: Mutex::default() }
    }

    /// Over a store that nobody may look at.
    pub fn unseen() -> Self {
        Self { base: Base::Unseen, overlay: Mutex::default() }
    }

    /// Takes for granted, where nobody may look, that these Secrets are there and no others; `None`: one that is right whatever
    /// becomes of its account.
    pub fn assume(&self, secrets: HashMap<SecretRef, Option<Box<Secret>>>) {
        self.overlay().assumed = secrets;
    }

    /// A panic elsewhere cannot leave the map half changed.
    fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets of the Secrets so far all but whose each is: their owners must not ask for them again. So it takes little
    /// memory to rehearse for many, one after another.
    pub fn forget_contents(&self) {
        let Overlay { secrets, places, .. } = &mut *self.overlay();
        for at in mem::take(places).values().flatten() {
            if let Some(Some(staged)) = secrets.get_mut(at) {
                staged.secret = None;
            }
        }
    }

    fn write(&self, at: &SecretRef, identity: &ResourceIdentity, secret: Secret) {
        let mut stage = self.overlay();
        stage.places.entry(identity.owner.clone()).or_default().push(at.clone());
        let staged = OverlaySecret { identity: identity.clone(), secret: Some(Box::new(secret)) };
        stage.secrets.insert(at.clone(), Some(staged));
    }
}

#[async_trait]
impl SecretStore for DryRunSecrets {
    async fn find(&self, at: &SecretRef, verified: Option<VerifiedSecret<'_>>) -> Result<Lookup, SecretError> {
        let (staged, assumed) = {
            let stage = self.overlay();
            (stage.secrets.get(at).cloned(), stage.assumed.get(at).cloned())
        };
        match (staged, &self.base) {
            (Some(Some(OverlaySecret { identity, secret })), _) => {
                let known_owner = || Secret { metadata: identity.metadata(), ..Secret::default() };
                let secret = secret.map_or_else(known_owner, |secret| *secret);
                Ok(Lookup::Found(Box::new(FoundSecret::new(at.clone(), secret))))
            }
            (None, Base::Store(store)) => store.find(at, verified).await,
            (None, Base::Snapshot(survey)) => survey.find(at, verified).await,
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
            Base::Snapshot(survey) => survey.owned_by(wanted),
            Base::Unseen => Vec::new(),
        };
        let stage = self.overlay();
        places.extend(stage.places.get(&wanted.owner).into_iter().flatten().cloned());
        places.sort();
        places.dedup();
        places.retain(|at| stage.secrets.get(at) != Some(&None));
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
        let untied = match self.find(at, None).await? {
            Lookup::Found(found) if of.check(found.metadata()).is_ok() => found.without_owner_references(of),
            Lookup::Found(_) | Lookup::Absent | Lookup::Unchanged => None,
        };
        let is_tied = untied.is_some();
        if let Some(untied) = untied {
            self.write(at, of, untied);
        }
        Ok(is_tied)
    }
}
