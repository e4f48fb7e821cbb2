//! The store of Secrets on a cluster. [`SecretCache`] knows from a metadata watch which Secrets exist, so that neither
//! a new account nor an unchanged Secret needs a read.

use super::cache::{CacheLookup, SecretCache, SecretCaches};
use super::{
    FoundSecret, Lookup, ResourceIdentity, SecretError, SecretManifest, SecretRef, SecretStore, Stored, VerifiedSecret,
};
use crate::api::MANAGER;
use crate::kube_error::{needs_a_person, reason};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use std::sync::Arc;

/// The Secrets of a cluster.
pub struct Cluster {
    client: Client,
    caches: SecretCaches,
}

impl Cluster {
    /// Creates the store. Watches must feed `caches`.
    pub fn new(client: Client, caches: SecretCaches) -> Self {
        Self { client, caches }
    }

    fn cache(&self, namespace: &str) -> Result<&Arc<SecretCache>, SecretError> {
        let Some(cache) = self.caches.of(namespace) else {
            return Err(SecretError::Unlisted { reason: format!("the namespace {namespace} is not watched") });
        };
        cache.check_not_refused().map_err(|reason| SecretError::Unlisted { reason })?;
        Ok(cache)
    }

    fn api(&self, at: &SecretRef) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &at.namespace)
    }

    /// Deletes the version that was found, and creates the Secret again. The database still has the keys: if this is
    /// interrupted, the next reconcile finds no Secret, and creates it.
    async fn recreate(&self, found: &FoundSecret, manifest: &SecretManifest) -> Result<Stored, SecretError> {
        let at = &manifest.at;
        let cache = self.cache(&at.namespace)?;
        let metadata = found.metadata();
        let found_version =
            Preconditions { resource_version: metadata.resource_version.clone(), uid: metadata.uid.clone() };
        match self.api(at).delete(&at.name, &DeleteParams::default().preconditions(found_version)).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                cache.mark_contested(at);
                return Err(SecretError::Changed(at.clone()));
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(refused(at, &error)),
            Ok(_) => {}
        }
        cache.forget(at);
        self.write(manifest, &found.rebuilt(manifest)).await
    }

    /// Creates a Secret where the cache has none.
    async fn write(&self, manifest: &SecretManifest, secret: &Secret) -> Result<Stored, SecretError> {
        let at = &manifest.at;
        let cache = self.cache(&at.namespace)?;
        match self.api(at).create(&as_manager(), secret).await {
            Ok(secret) => {
                cache.record(at, &secret.metadata);
                Ok(Stored::of(secret, manifest))
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                cache.mark_contested(at);
                Err(SecretError::Exists(at.clone()))
            }
            Err(error) => Err(refused(at, &error)),
        }
    }

    /// Replaces the version of the Secret that was found, and returns the stored Secret.
    async fn overwrite(&self, at: &SecretRef, secret: &Secret) -> Result<Secret, SecretError> {
        let cache = self.cache(&at.namespace)?;
        match self.api(at).replace(&at.name, &as_manager(), secret).await {
            Ok(secret) => {
                cache.record(at, &secret.metadata);
                Ok(secret)
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                cache.mark_contested(at);
                Err(SecretError::Changed(at.clone()))
            }
            Err(error) => Err(refused(at, &error)),
        }
    }

    async fn read(&self, at: &SecretRef) -> Result<Option<FoundSecret>, SecretError> {
        let cache = self.cache(&at.namespace)?;
        let secret = self.api(at).get_opt(&at.name).await.map_err(|error| refused(at, &error))?;
        match &secret {
            Some(secret) => cache.record(at, &secret.metadata),
            None => cache.forget(at),
        }
        Ok(secret.map(|secret| FoundSecret::new(at.clone(), secret)))
    }
}

#[async_trait]
impl SecretStore for Cluster {
    async fn find(&self, at: &SecretRef, verified: Option<VerifiedSecret<'_>>) -> Result<Lookup, SecretError> {
        match self.cache(&at.namespace)?.lookup(at) {
            CacheLookup::Absent => Ok(Lookup::Absent),
            CacheLookup::Secret { version, has_owner_reference, marked_with }
                if verified.is_some_and(|known| {
                    known.is_still(Some(&version), has_owner_reference, marked_with.as_deref())
                }) =>
            {
                Ok(Lookup::Unchanged)
            }
            _ => self.confirm(at).await,
        }
    }

    async fn confirm(&self, at: &SecretRef) -> Result<Lookup, SecretError> {
        Ok(self.read(at).await?.map_or(Lookup::Absent, |found| Lookup::Found(Box::new(found))))
    }

    async fn owned_by(&self, wanted: &ResourceIdentity) -> Result<Vec<SecretRef>, SecretError> {
        Ok(self.cache(&wanted.owner.namespace)?.owned_by(wanted))
    }

    async fn create(&self, manifest: &SecretManifest) -> Result<Stored, SecretError> {
        self.write(manifest, &manifest.to_secret()).await
    }

    async fn replace(&self, found: &FoundSecret, manifest: &SecretManifest) -> Result<Stored, SecretError> {
        if found.must_be_recreated(manifest) {
            return self.recreate(found, manifest).await;
        }
        let stored = self.overwrite(&manifest.at, &found.corrected(manifest)).await?;
        Ok(Stored::of(stored, manifest))
    }

    async fn remove(&self, at: &SecretRef, of: &ResourceIdentity) -> Result<bool, SecretError> {
        let cache = self.cache(&at.namespace)?;
        let Some(metadata) = self.api(at).get_metadata_opt(&at.name).await.map_err(|error| refused(at, &error))? else {
            cache.forget(at);
            return Ok(false);
        };
        if of.check(&metadata.metadata).is_err() {
            cache.record(at, &metadata.metadata);
            return Ok(false);
        }
        let found_version =
            Preconditions { resource_version: metadata.metadata.resource_version, uid: metadata.metadata.uid };
        match self.api(at).delete(&at.name, &DeleteParams::default().preconditions(found_version)).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => Err(SecretError::Changed(at.clone())),
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                cache.forget(at);
                Ok(false)
            }
            Err(error) => Err(refused(at, &error)),
            Ok(_) => {
                cache.forget(at);
                Ok(true)
            }
        }
    }

    async fn release(&self, at: &SecretRef, of: &ResourceIdentity) -> Result<bool, SecretError> {
        if matches!(self.cache(&at.namespace)?.lookup(at), CacheLookup::Secret { has_owner_reference: false, .. }) {
            return Ok(false);
        }
        match self
            .read(at)
            .await?
            .filter(|found| of.check(found.metadata()).is_ok())
            .and_then(|found| found.without_owner_references(of))
        {
            None => Ok(false),
            Some(without_references) => self.overwrite(at, &without_references).await.map(|_| true),
        }
    }
}

fn as_manager() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

/// Converts an error of the API server. Overload, timeouts and network errors pass by themselves; for any other refusal
/// a user has to act.
pub(super) fn refused(at: &SecretRef, error: &kube::Error) -> SecretError {
    let (at, reason) = (at.clone(), reason(error));
    if is_for_an_ending_namespace(error) {
        return SecretError::Ending { at, reason };
    }
    if needs_a_person(error) { SecretError::Refused { at, reason } } else { SecretError::Unavailable { at, reason } }
}

fn is_for_an_ending_namespace(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == "NamespaceTerminating")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use std::convert::Infallible;

    #[tokio::test]
    async fn an_unreadable_answer_is_not_shown() {
        let at = SecretRef { namespace: "ns".to_owned(), name: "acme".to_owned() };
        let whole = r#"{"apiVersion":"v1","kind":"Secret","data":{"OPSADMIN_SECRET_KEY":"aHVzaA=="}}"#;
        let answers = [
            whole.as_bytes()[..whole.len() - 2].to_vec(),
            whole.replace(r#""aHVzaA==""#, r#"["aHVzaA=="]"#).into_bytes(),
            whole.replace(r#"{"OPSADMIN_SECRET_KEY":"aHVzaA=="}"#, r#""aHVzaA==""#).into_bytes(),
            whole.replace("aHVzaA==", "aHVzaA==!").into_bytes(),
            [whole.as_bytes(), &[0xff]].concat(),
        ];
        for answer in answers {
            let service = tower::service_fn(move |_: Request<Body>| {
                let answer = answer.clone();
                async move { Ok::<_, Infallible>(Response::new(Body::from(answer))) }
            });
            let client = Client::new(service, "ns");
            let cache = Arc::new(SecretCache::default());
            cache.mark_contested(&at);
            let error = Cluster::new(client, SecretCaches::Cluster(cache)).find(&at, None).await.unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(said.contains("its answer"), "{said}");
            assert!(!said.contains("aHV") && !said.contains("hush"), "{said}");
        }
    }
}
