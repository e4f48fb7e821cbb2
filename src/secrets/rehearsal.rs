//! A place for Secrets that is only read: what would be written there is remembered here instead.

use super::{Belonging, FoundSecret, SecretError, SecretManifest, SecretRef, SecretStore, Sight};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Rehearses writes to a store.
pub struct Rehearsal {
    real: Real,
    /// What would be at each place that would be written to; `None`: nothing.
    stage: Mutex<HashMap<SecretRef, Option<Secret>>>,
}

/// What is there before anything would be written.
enum Real {
    /// What this store sees.
    Store(Arc<dyn SecretStore>),
    /// Nobody may look: right Secrets at these places are taken for granted, and no others.
    Unseen(HashSet<SecretRef>),
}

impl Rehearsal {
    /// Over this store.
    pub fn new(real: Arc<dyn SecretStore>) -> Self {
        Self { real: Real::Store(real), stage: Mutex::default() }
    }

    /// Over a store that nobody may look at, as if it had a Secret that is right at each of these places.
    pub fn unseen(present: HashSet<SecretRef>) -> Self {
        Self { real: Real::Unseen(present), stage: Mutex::default() }
    }

    /// A panic elsewhere cannot leave the map half changed.
    fn stage(&self) -> MutexGuard<'_, HashMap<SecretRef, Option<Secret>>> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SecretStore for Rehearsal {
    async fn find(&self, at: &SecretRef, verified: Option<&str>) -> Result<Sight, SecretError> {
        let staged = self.stage().get(at).cloned();
        match (staged, &self.real) {
            (Some(Some(secret)), _) => Ok(Sight::Found(Box::new(FoundSecret::new(at.clone(), secret)))),
            (None, Real::Store(store)) => store.find(at, verified).await,
            (None, Real::Unseen(present)) if present.contains(at) => Ok(Sight::Unchanged),
            (Some(None), _) | (None, Real::Unseen(_)) => Ok(Sight::Absent),
        }
    }

    async fn belonging_to(&self, wanted: &Belonging) -> Result<Vec<SecretRef>, SecretError> {
        let mut places = match &self.real {
            Real::Store(store) => store.belonging_to(wanted).await?,
            Real::Unseen(_) => Vec::new(),
        };
        let stage = self.stage();
        places.retain(|at| !stage.contains_key(at));
        let is_own = |secret: &Secret| wanted.check(&secret.metadata).is_ok();
        let staged = stage.iter().filter(|(_, secret)| secret.as_ref().is_some_and(is_own));
        places.extend(staged.map(|(at, _)| at.clone()));
        Ok(places)
    }

    async fn create(&self, manifest: &SecretManifest) -> Result<Option<String>, SecretError> {
        match self.find(&manifest.at, None).await? {
            Sight::Absent => {
                self.stage().insert(manifest.at.clone(), Some(manifest.to_secret()));
                Ok(None)
            }
            Sight::Unchanged | Sight::Found(_) => Err(SecretError::Exists(manifest.at.clone())),
        }
    }

    async fn replace(&self, found: &FoundSecret, manifest: &SecretManifest) -> Result<Option<String>, SecretError> {
        self.stage().insert(manifest.at.clone(), Some(found.put_right(manifest)));
        Ok(None)
    }

    async fn remove(&self, at: &SecretRef, of: &Belonging) -> Result<(), SecretError> {
        if let Sight::Found(found) = self.find(at, None).await?
            && of.check(found.metadata()).is_ok()
        {
            self.stage().insert(at.clone(), None);
        }
        Ok(())
    }

    /// Who owns a Secret that stays makes no difference to anything that a rehearsal goes on to do.
    async fn release(&self, _at: &SecretRef, _of: &Belonging) -> Result<(), SecretError> {
        Ok(())
    }
}
