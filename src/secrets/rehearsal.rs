//! A place for Secrets that is only read: what would be written there is remembered here instead.

use super::{
    Belonging, FoundSecret, Known, SecretError, SecretManifest, SecretRef, SecretStore, Sight, Stored, Survey,
};
use crate::account::Owner;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Rehearses writes to a store.
pub struct Rehearsal {
    real: Real,
    stage: Mutex<Stage>,
}

/// What would have been written, and what is taken for granted.
#[derive(Default)]
struct Stage {
    /// What would be at each place that would be written to; `None`: nothing.
    secrets: HashMap<SecretRef, Option<Staged>>,
    /// The places written to for each owner, since all was settled the last time.
    places: HashMap<Owner, Vec<SecretRef>>,
    /// What is taken to be where nobody may look; `None`: something right, whatever that is.
    assumed: HashMap<SecretRef, Option<Box<Secret>>>,
}

/// A Secret that would be written.
#[derive(Clone, PartialEq)]
struct Staged {
    belonging: Belonging,
    /// All of it, until its owner has no more business with it.
    secret: Option<Box<Secret>>,
}

/// What is there before anything would be written.
enum Real {
    /// What this store sees.
    Store(Arc<dyn SecretStore>),
    /// What a cluster has, as a survey has shown it.
    Surveyed(Arc<Survey>),
    /// Nobody may look.
    Unseen,
}

impl Rehearsal {
    /// Over this store.
    pub fn new(real: Arc<dyn SecretStore>) -> Self {
        Self { real: Real::Store(real), stage: Mutex::default() }
    }

    /// Over what a cluster has.
    pub fn surveyed(real: Arc<Survey>) -> Self {
        Self { real: Real::Surveyed(real), stage: Mutex::default() }
    }

    /// Over a store that nobody may look at.
    pub fn unseen() -> Self {
        Self { real: Real::Unseen, stage: Mutex::default() }
    }

    /// Takes for granted, where nobody may look, that these Secrets are there and no others; `None`: one that is right whatever
    /// becomes of its account.
    pub fn assume(&self, secrets: HashMap<SecretRef, Option<Box<Secret>>>) {
        self.stage().assumed = secrets;
    }

    /// A panic elsewhere cannot leave the map half changed.
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets of the Secrets so far all but whose each is: their owners must not ask for them again. So it takes little
    /// memory to rehearse for many, one after another.
    pub fn settle(&self) {
        let Stage { secrets, places, .. } = &mut *self.stage();
        for at in mem::take(places).values().flatten() {
            if let Some(Some(staged)) = secrets.get_mut(at) {
                staged.secret = None;
            }
        }
    }

    fn write(&self, at: &SecretRef, belonging: &Belonging, secret: Secret) {
        let mut stage = self.stage();
        stage.places.entry(belonging.owner.clone()).or_default().push(at.clone());
        let staged = Staged { belonging: belonging.clone(), secret: Some(Box::new(secret)) };
        stage.secrets.insert(at.clone(), Some(staged));
    }
}

#[async_trait]
impl SecretStore for Rehearsal {
    async fn find(&self, at: &SecretRef, verified: Option<Known<'_>>) -> Result<Sight, SecretError> {
        let (staged, assumed) = {
            let stage = self.stage();
            (stage.secrets.get(at).cloned(), stage.assumed.get(at).cloned())
        };
        match (staged, &self.real) {
            (Some(Some(Staged { belonging, secret })), _) => {
                let known_owner = || Secret { metadata: belonging.metadata(), ..Secret::default() };
                let secret = secret.map_or_else(known_owner, |secret| *secret);
                Ok(Sight::Found(Box::new(FoundSecret::new(at.clone(), secret))))
            }
            (None, Real::Store(store)) => store.find(at, verified).await,
            (None, Real::Surveyed(survey)) => survey.find(at, verified).await,
            (None, Real::Unseen) => Ok(match assumed {
                Some(Some(secret)) => Sight::Found(Box::new(FoundSecret::new(at.clone(), *secret))),
                Some(None) => Sight::Unchanged,
                None => Sight::Absent,
            }),
            (Some(None), _) => Ok(Sight::Absent),
        }
    }

    async fn belonging_to(&self, wanted: &Belonging) -> Result<Vec<SecretRef>, SecretError> {
        let mut places = match &self.real {
            Real::Store(store) => store.belonging_to(wanted).await?,
            Real::Surveyed(survey) => survey.belonging_to(wanted),
            Real::Unseen => Vec::new(),
        };
        let stage = self.stage();
        places.extend(stage.places.get(&wanted.owner).into_iter().flatten().cloned());
        places.sort();
        places.dedup();
        places.retain(|at| stage.secrets.get(at) != Some(&None));
        Ok(places)
    }

    async fn create(&self, manifest: &SecretManifest) -> Result<Stored, SecretError> {
        match self.find(&manifest.at, None).await? {
            Sight::Absent => {
                self.write(&manifest.at, &manifest.belonging, manifest.to_secret());
                Ok(Stored::default())
            }
            Sight::Unchanged | Sight::Found(_) => Err(SecretError::Exists(manifest.at.clone())),
        }
    }

    async fn replace(&self, found: &FoundSecret, manifest: &SecretManifest) -> Result<Stored, SecretError> {
        self.write(&manifest.at, &manifest.belonging, found.put_right(manifest));
        Ok(Stored::default())
    }

    async fn remove(&self, at: &SecretRef, of: &Belonging) -> Result<bool, SecretError> {
        let found = match self.find(at, None).await? {
            Sight::Found(found) => of.check(found.metadata()).is_ok(),
            Sight::Absent | Sight::Unchanged => false,
        };
        if found {
            self.stage().secrets.insert(at.clone(), None);
        }
        Ok(found)
    }

    async fn release(&self, at: &SecretRef, of: &Belonging) -> Result<bool, SecretError> {
        let untied = match self.find(at, None).await? {
            Sight::Found(found) if of.check(found.metadata()).is_ok() => found.untied(of),
            Sight::Found(_) | Sight::Absent | Sight::Unchanged => None,
        };
        let is_tied = untied.is_some();
        if let Some(untied) = untied {
            self.write(at, of, untied);
        }
        Ok(is_tied)
    }
}
