//! The Secrets of a cluster as a few lists have shown them, for commands that write nothing. The lists contain
//! metadata; contents are read only on request.

use super::cluster::refused;
use super::found::{accounts_of, controller, is_account, is_watched, owner_annotation};
use super::manifest::Data;
use super::{FoundSecret, Lookup, ResourceIdentity, SecretError, SecretLayout, SecretRef, VerifiedSecret};
use crate::account::{ApiKey, KeyEntropy, KeyId, KeyPair};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// The Secrets by their metadata. A place that is not in any list counts as empty.
#[derive(Default)]
pub struct SecretSnapshot {
    seen: HashMap<SecretRef, ObjectMeta>,
    /// The places by namespace and name of the ApiAccounts that the Secrets may belong to.
    by_account: HashMap<(String, String), Vec<SecretRef>>,
    /// The client that reads contents. `None`: contents are assumed.
    reader: Option<Client>,
    assumed: Mutex<HashMap<SecretRef, AssumedKeys>>,
}

/// The keys that a Secret is assumed to hold, without the secret key.
#[derive(Debug, Clone)]
pub struct AssumedKeys {
    /// The name of the data field for the API key.
    pub api_key_field: String,
    /// The name of the data field for the secret key.
    pub secret_key_field: String,
    /// The id of the key pair.
    pub id: KeyId,
    /// The API key, which is the public part of the key pair.
    pub api_key: ApiKey,
}

impl SecretSnapshot {
    /// Reads the contents of Secrets that name an ApiAccount as their owner with this client.
    #[must_use]
    pub fn with_contents(mut self, reader: Client) -> Self {
        self.reader = Some(reader);
        self
    }

    /// Adds a Secret that exists.
    pub fn add(&mut self, at: SecretRef, metadata: ObjectMeta) {
        if self.has(&at) {
            return;
        }
        for name in accounts_of(controller(&metadata), owner_annotation(&metadata)) {
            self.by_account.entry((at.namespace.clone(), name.to_owned())).or_default().push(at.clone());
        }
        self.seen.insert(at, metadata);
    }

    /// Returns whether a Secret exists at this place.
    pub fn has(&self, at: &SecretRef) -> bool {
        self.seen.contains_key(at)
    }

    /// Returns whether this resource has a Secret at this place whose contents are not read.
    pub fn is_unread(&self, at: &SecretRef, of: &ResourceIdentity) -> bool {
        self.reader.is_none() && self.seen.get(at).is_some_and(|metadata| of.check(metadata).is_ok())
    }

    /// Assumes that the Secret at this place holds these keys.
    pub fn assume(&self, at: &SecretRef, written: AssumedKeys) {
        self.assumed().insert(at.clone(), written);
    }

    pub(super) async fn find(
        &self,
        at: &SecretRef,
        verified: Option<VerifiedSecret<'_>>,
    ) -> Result<Lookup, SecretError> {
        let Some(metadata) = self.seen.get(at) else {
            return Ok(Lookup::Absent);
        };
        // The controller's watch does not show a Secret without this program's label, so such a Secret never counts as
        // verified.
        if verified.is_some_and(|known| known.is(metadata)) && is_watched(metadata) {
            return Ok(Lookup::Unchanged);
        }
        let found = match &self.reader {
            // The contents of foreign Secrets are not read.
            Some(client) if names_an_account(metadata) => {
                let api: Api<Secret> = Api::namespaced(client.clone(), &at.namespace);
                api.get_opt(&at.name).await.map_err(|error| refused(at, &error))?
            }
            Some(_) => Some(Secret { metadata: metadata.clone(), ..Secret::default() }),
            None => {
                let mut found =
                    FoundSecret::new(at.clone(), Secret { metadata: metadata.clone(), ..Secret::default() });
                found.data = self.assumed().get(at).map_or_else(some_keys, AssumedKeys::data);
                return Ok(Lookup::Found(Box::new(found)));
            }
        };
        Ok(found.map_or(Lookup::Absent, |found| Lookup::Found(Box::new(FoundSecret::new(at.clone(), found)))))
    }

    pub(super) fn owned_by(&self, wanted: &ResourceIdentity) -> Vec<SecretRef> {
        let account = (wanted.owner.namespace.clone(), wanted.owner.name.clone());
        let is_own = |at: &&SecretRef| self.seen.get(*at).is_some_and(|metadata| wanted.check(metadata).is_ok());
        self.by_account.get(&account).into_iter().flatten().filter(is_own).cloned().collect()
    }

    /// A panic of another task cannot leave the map half changed, so a poisoned lock is still usable.
    fn assumed(&self) -> MutexGuard<'_, HashMap<SecretRef, AssumedKeys>> {
        self.assumed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AssumedKeys {
    /// Returns the keys as a Secret of this layout holds them.
    pub fn to(layout: &SecretLayout, id: KeyId, api_key: ApiKey) -> Self {
        let (api_key_field, secret_key_field) = (layout.api_key_field.clone(), layout.secret_key_field.clone());
        Self { api_key_field, secret_key_field, id, api_key }
    }

    /// Returns the data of the Secret. The secret key is a placeholder, as in accounts that are read without their
    /// secret keys.
    fn data(&self) -> BTreeMap<String, Data> {
        let pair = KeyPair::without_secret(self.id, self.api_key.clone());
        BTreeMap::from([
            (self.api_key_field.clone(), Data::from(pair.api_key.as_str())),
            (self.secret_key_field.clone(), Data::from(pair.secret_key.expose())),
        ])
    }
}

/// Returns the data of a Secret of an account of which nothing else is known: some key pair.
fn some_keys() -> BTreeMap<String, Data> {
    let nothing = KeyEntropy { api_key: [0; 16], secret_key: Zeroizing::new([0; 32]) };
    let pair = KeyPair::from_entropy(KeyId::from_random([0; 16]), &nothing);
    let [api_key_field, secret_key_field] = ["api key", "secret key"].map(str::to_owned);
    AssumedKeys { api_key_field, secret_key_field, id: pair.id, api_key: pair.api_key }.data()
}

fn names_an_account(metadata: &ObjectMeta) -> bool {
    owner_annotation(metadata).is_some() || controller(metadata).is_some_and(is_account)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{ClusterId, Mark, Owner};
    use crate::api::{ACCOUNT_LABEL, GROUP};
    use crate::secrets::{IssuedKeys, SecretManifest};
    use http::{Request, Response};
    use kube::client::Body;
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const SECRET_JSON: &str = r#"{"kind":"Secret","apiVersion":"v1","metadata":{},"data":{"a":"aHVzaA=="}}"#;

    fn layout() -> SecretLayout {
        SecretLayout {
            at: SecretRef { namespace: "ns".to_owned(), name: "acme-opsadmin".to_owned() },
            api_key_field: "id".to_owned(),
            secret_key_field: "secret".to_owned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }

    fn identity(uid: &str) -> ResourceIdentity {
        let cluster = ClusterId::parse("here").unwrap();
        let owner = Owner { cluster, namespace: "ns".to_owned(), name: "acme".to_owned() };
        ResourceIdentity { owner, uid: Some(uid.to_owned()) }
    }

    fn pair() -> KeyPair {
        let entropy = KeyEntropy { api_key: [7; 16], secret_key: Zeroizing::new([7; 32]) };
        KeyPair::from_entropy(KeyId::from_random([7; 16]), &entropy)
    }

    fn issued(pair: KeyPair) -> IssuedKeys {
        IssuedKeys { pair, mark: Mark::unknown() }
    }

    const SEVENTH: VerifiedSecret<'_> = VerifiedSecret { version: "7", marked_with: None };

    /// Returns the desired Secret without its secret key, and the metadata of the existing one.
    fn ours() -> (SecretManifest, ObjectMeta) {
        let pair = KeyPair::without_secret(pair().id, pair().api_key);
        let manifest = SecretManifest::new(&layout(), identity("u"), &issued(pair));
        let metadata = ObjectMeta { resource_version: Some("7".to_owned()), ..manifest.to_secret().metadata };
        (manifest, metadata)
    }

    fn snapshot(metadata: ObjectMeta) -> SecretSnapshot {
        let mut snapshot = SecretSnapshot::default();
        snapshot.add(layout().at, metadata);
        snapshot
    }

    async fn found(snapshot: &SecretSnapshot) -> FoundSecret {
        match snapshot.find(&layout().at, None).await {
            Ok(Lookup::Found(found)) => *found,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_secret_that_is_not_read_holds_the_assumed_keys() {
        let (manifest, metadata) = ours();
        let snapshot = snapshot(metadata);
        assert!(snapshot.is_unread(&layout().at, &identity("u")));
        assert!(found(&snapshot).await.keys().is_some(), "keys, whichever they are");
        snapshot.assume(&layout().at, AssumedKeys::to(&layout(), pair().id, pair().api_key));
        assert_eq!(found(&snapshot).await.differences(&manifest), [""; 0]);
        let other = KeyPair::without_secret(KeyId::from_random([8; 16]), pair().api_key);
        let rotated = SecretManifest::new(&layout(), identity("u"), &issued(other));
        assert_eq!(found(&snapshot).await.differences(&rotated), ["data.secret"]);
        assert!(matches!(snapshot.find(&layout().at, Some(SEVENTH)).await, Ok(Lookup::Unchanged)));
        assert_eq!(snapshot.owned_by(&identity("u")), [layout().at]);
    }

    #[tokio::test]
    async fn a_secret_without_the_label_is_not_verified() {
        let (manifest, mut metadata) = ours();
        metadata.labels.as_mut().unwrap().remove(ACCOUNT_LABEL);
        let snapshot = snapshot(metadata);
        snapshot.assume(&layout().at, AssumedKeys::to(&layout(), pair().id, pair().api_key));
        let Ok(Lookup::Found(found)) =
            snapshot.find(&layout().at, Some(VerifiedSecret { version: "7", marked_with: None })).await
        else {
            panic!("no watch shows it")
        };
        assert_eq!(found.differences(&manifest), [format!("label {ACCOUNT_LABEL}")]);
    }

    #[tokio::test]
    async fn foreign_secrets_are_not_read() {
        let reads = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reads);
        let service = tower::service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, Infallible>(Response::new(Body::from(SECRET_JSON.as_bytes().to_vec()))) }
        });
        let client = Client::new(service, "ns");
        let (_, metadata) = ours();
        let mut namesake = identity("u").owner_reference().map(|reference| vec![reference]);
        namesake.iter_mut().flatten().for_each(|owner| owner.api_version = format!("{GROUP}.example/v1"));
        for owner_references in [None, namesake] {
            let foreign = ObjectMeta { annotations: None, owner_references, ..metadata.clone() };
            let foreign = snapshot(foreign).with_contents(client.clone());
            assert!(found(&foreign).await.data.is_empty());
            assert_eq!(reads.load(Ordering::Relaxed), 0);
        }
        let ours = snapshot(metadata).with_contents(client);
        assert!(matches!(ours.find(&layout().at, Some(SEVENTH)).await, Ok(Lookup::Unchanged)));
        assert_eq!(reads.load(Ordering::Relaxed), 0);
        assert!(found(&ours).await.data.contains_key("a"));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }
}
