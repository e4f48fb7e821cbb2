//! Secrets on a cluster, read as rarely as can be: [`View`] knows from a metadata watch which there are, so that a new
//! account needs no read, and an unchanged Secret none either.

use super::view::View;
use super::{Belonging, FoundSecret, SecretError, SecretManifest, SecretRef, SecretStore, Sight};
use crate::api::MANAGER;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use std::sync::Arc;

/// The Secrets of a cluster.
pub struct Cluster {
    client: Client,
    view: Arc<View>,
}

impl Cluster {
    /// The Secrets that this client reaches; somebody must keep the view fed by a watch.
    pub fn new(client: Client, view: Arc<View>) -> Self {
        Self { client, view }
    }

    fn api(&self, at: &SecretRef) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &at.namespace)
    }

    /// Deletes exactly what was found, and writes it anew. The keys are in the database meanwhile: whoever is interrupted
    /// here finds no Secret the next time, and writes it.
    async fn remake(&self, found: &FoundSecret, manifest: &SecretManifest) -> Result<Option<String>, SecretError> {
        let at = &manifest.at;
        let metadata = found.metadata();
        let exactly_this =
            Preconditions { resource_version: metadata.resource_version.clone(), uid: metadata.uid.clone() };
        match self.api(at).delete(&at.name, &DeleteParams::default().preconditions(exactly_this)).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                self.view.contest(at);
                return Err(SecretError::Changed(at.clone()));
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(refused(at, error)),
            Ok(_) => {}
        }
        self.view.forget(at);
        self.write(at, &found.remade(manifest)).await
    }

    /// Writes a Secret where none was seen.
    async fn write(&self, at: &SecretRef, secret: &Secret) -> Result<Option<String>, SecretError> {
        match self.api(at).create(&as_manager(), secret).await {
            Ok(secret) => {
                self.view.note(at, &secret.metadata);
                Ok(secret.metadata.resource_version)
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                self.view.contest(at);
                Err(SecretError::Exists(at.clone()))
            }
            Err(error) => Err(refused(at, error)),
        }
    }

    async fn read(&self, at: &SecretRef) -> Result<Option<FoundSecret>, SecretError> {
        let secret = self.api(at).get_opt(&at.name).await.map_err(|error| refused(at, error))?;
        match &secret {
            Some(secret) => self.view.note(at, &secret.metadata),
            None => self.view.forget(at),
        }
        Ok(secret.map(|secret| FoundSecret::new(at.clone(), secret)))
    }
}

#[async_trait]
impl SecretStore for Cluster {
    async fn find(&self, at: &SecretRef, verified: Option<&str>) -> Result<Sight, SecretError> {
        match self.view.look(at) {
            Some(None) => Ok(Sight::Absent),
            Some(Some(version)) if Some(version.as_str()) == verified => Ok(Sight::Unchanged),
            _ => Ok(self.read(at).await?.map_or(Sight::Absent, |found| Sight::Found(Box::new(found)))),
        }
    }

    async fn belonging_to(&self, wanted: &Belonging) -> Result<Vec<SecretRef>, SecretError> {
        Ok(wanted.uid.as_deref().map(|uid| self.view.controlled_by(uid)).unwrap_or_default())
    }

    async fn create(&self, manifest: &SecretManifest) -> Result<Option<String>, SecretError> {
        self.write(&manifest.at, &manifest.to_secret()).await
    }

    async fn replace(&self, found: &FoundSecret, manifest: &SecretManifest) -> Result<Option<String>, SecretError> {
        let at = &manifest.at;
        if found.is_stuck(manifest) {
            return self.remake(found, manifest).await;
        }
        match self.api(at).replace(&at.name, &as_manager(), &found.put_right(manifest)).await {
            Ok(secret) => {
                self.view.note(at, &secret.metadata);
                Ok(secret.metadata.resource_version)
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                self.view.contest(at);
                Err(SecretError::Changed(at.clone()))
            }
            Err(error) => Err(refused(at, error)),
        }
    }

    async fn remove(&self, at: &SecretRef, of: &Belonging) -> Result<(), SecretError> {
        let Some(metadata) = self.api(at).get_metadata_opt(&at.name).await.map_err(|error| refused(at, error))? else {
            self.view.forget(at);
            return Ok(());
        };
        if of.check(&metadata.metadata).is_err() {
            self.view.note(at, &metadata.metadata);
            return Ok(());
        }
        let exactly_this =
            Preconditions { resource_version: metadata.metadata.resource_version, uid: metadata.metadata.uid };
        match self.api(at).delete(&at.name, &DeleteParams::default().preconditions(exactly_this)).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => Err(SecretError::Changed(at.clone())),
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                self.view.forget(at);
                Ok(())
            }
            Err(error) => Err(refused(at, error)),
            Ok(_) => {
                self.view.forget(at);
                Ok(())
            }
        }
    }

    async fn release(&self, at: &SecretRef, of: &Belonging) -> Result<(), SecretError> {
        let Some(found) = self.read(at).await? else {
            return Ok(());
        };
        let owners = found.metadata().owner_references.iter().flatten();
        let others: Vec<_> = owners.filter(|owner| !of.is_controller(owner)).collect();
        let patch = json!({ "metadata": { "resourceVersion": found.version(), "ownerReferences": others } });
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match self.api(at).patch(&at.name, &params, &Patch::Merge(patch)).await {
            Ok(secret) => self.view.note(at, &secret.metadata),
            Err(kube::Error::Api(status)) if status.is_conflict() => return Err(SecretError::Changed(at.clone())),
            Err(kube::Error::Api(status)) if status.is_not_found() => self.view.forget(at),
            Err(error) => return Err(refused(at, error)),
        }
        Ok(())
    }
}

fn as_manager() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

/// Overload, time-outs and trouble on the way pass by themselves; any other refusal somebody has to mend.
fn refused(at: &SecretRef, error: kube::Error) -> SecretError {
    let at = at.clone();
    match error {
        kube::Error::Api(status) if status.code < 500 && !matches!(status.code, 408 | 409 | 429) => {
            SecretError::Refused { at, reason: status.message }
        }
        kube::Error::Api(status) => SecretError::Unavailable { at, reason: status.message },
        other => SecretError::Unavailable { at, reason: other.to_string() },
    }
}
