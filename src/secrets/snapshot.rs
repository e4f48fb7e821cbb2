//! The Secrets of a cluster as a few lists have shown them, for whoever only looks: whose each is and what it is labelled
//! with is known from that, and contents are read on request alone.

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

/// Secrets by their metadata. A place that no list has shown is taken to be empty.
#[derive(Default)]
pub struct SecretSnapshot {
    seen: HashMap<SecretRef, ObjectMeta>,
    /// By namespace and name of the ApiAccounts that they may belong to.
    by_account: HashMap<(String, String), Vec<SecretRef>>,
    /// Reads contents; without it, they are what was taken for granted.
    reader: Option<Client>,
    assumed: Mutex<HashMap<SecretRef, AssumedKeys>>,
}

/// What a Secret was written with, as far as anybody can say who does not read it.
#[derive(Debug, Clone)]
pub struct AssumedKeys {
    /// The data key that holds the API key.
    pub api_key_field: String,
    /// The data key that holds the secret key.
    pub secret_key_field: String,
    /// The pair's id.
    pub id: KeyId,
    /// The pair's public half.
    pub api_key: ApiKey,
}

impl SecretSnapshot {
    /// Has the contents of Secrets that say they are an ApiAccount's read with this client.
    #[must_use]
    pub fn with_contents(mut self, reader: Client) -> Self {
        self.reader = Some(reader);
        self
    }

    /// Takes in a Secret that is there.
    pub fn add(&mut self, at: SecretRef, metadata: ObjectMeta) {
        if self.has(&at) {
            return;
        }
        for name in accounts_of(controller(&metadata), owner_annotation(&metadata)) {
            self.by_account.entry((at.namespace.clone(), name.to_owned())).or_default().push(at.clone());
        }
        self.seen.insert(at, metadata);
    }

    /// Whether a Secret was seen at this place.
    pub fn has(&self, at: &SecretRef) -> bool {
        self.seen.contains_key(at)
    }

    /// Whether the contents of this resource's Secret have to be taken for granted.
    pub fn is_unread(&self, at: &SecretRef, of: &ResourceIdentity) -> bool {
        self.reader.is_none() && self.seen.get(at).is_some_and(|metadata| of.check(metadata).is_ok())
    }

    /// Takes for granted that the Secret at this place is as it was once written.
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
        // One that no watch shows is looked at, whatever was verified.
        if verified.is_some_and(|known| known.is(metadata)) && is_watched(metadata) {
            return Ok(Lookup::Unchanged);
        }
        let found = match &self.reader {
            // Of what is somebody else's, nothing is read.
            Some(client) if is_an_accounts(metadata) => {
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

    /// A panic elsewhere cannot leave the map half changed.
    fn assumed(&self) -> MutexGuard<'_, HashMap<SecretRef, AssumedKeys>> {
        self.assumed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AssumedKeys {
    /// This pair in a Secret of this layout.
    pub fn to(layout: &SecretLayout, id: KeyId, api_key: ApiKey) -> Self {
        let (api_key_field, secret_key_field) = (layout.api_key_field.clone(), layout.secret_key_field.clone());
        Self { api_key_field, secret_key_field, id, api_key }
    }

    /// With a worthless secret key, as accounts have it that are given out without theirs.
    fn data(&self) -> BTreeMap<String, Data> {
        let pair = KeyPair::without_secret(self.id, self.api_key.clone());
        BTreeMap::from([
            (self.api_key_field.clone(), Data::from(pair.api_key.as_str())),
            (self.secret_key_field.clone(), Data::from(pair.secret_key.expose())),
        ])
    }
}

/// Of a Secret that nobody can say anything of but that it is an account's: that it holds some pair of keys.
fn some_keys() -> BTreeMap<String, Data> {
    let nothing = KeyEntropy { api_key: [0; 16], secret_key: Zeroizing::new([0; 32]) };
    let pair = KeyPair::from_entropy(KeyId::from_random([0; 16]), &nothing);
    let [api_key_field, secret_key_field] = ["api key", "secret key"].map(str::to_owned);
    AssumedKeys { api_key_field, secret_key_field, id: pair.id, api_key: pair.api_key }.data()
}

fn is_an_accounts(metadata: &ObjectMeta) -> bool {
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

    const HUSH: &str = r#"{"kind":"Secret","apiVersion":"v1","metadata":{},"data":{"a":"aHVzaA=="}}"#;

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

    fn handed_out(pair: KeyPair) -> IssuedKeys {
        IssuedKeys { pair, mark: Mark::unknown() }
    }

    const SEVENTH: VerifiedSecret<'_> = VerifiedSecret { version: "7", marked_with: None };

    /// What the account's Secret shall be, for somebody who may not know its secret key; and its metadata.
    fn ours() -> (SecretManifest, ObjectMeta) {
        let pair = KeyPair::without_secret(pair().id, pair().api_key);
        let manifest = SecretManifest::new(&layout(), identity("u"), &handed_out(pair));
        let metadata = ObjectMeta { resource_version: Some("7".to_owned()), ..manifest.to_secret().metadata };
        (manifest, metadata)
    }

    fn survey(metadata: ObjectMeta) -> SecretSnapshot {
        let mut survey = SecretSnapshot::default();
        survey.add(layout().at, metadata);
        survey
    }

    async fn found(survey: &SecretSnapshot) -> FoundSecret {
        match survey.find(&layout().at, None).await {
            Ok(Lookup::Found(found)) => *found,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_is_not_read_holds_what_it_was_written_with() {
        let (manifest, metadata) = ours();
        let survey = survey(metadata);
        assert!(survey.is_unread(&layout().at, &identity("u")));
        assert!(found(&survey).await.keys().is_some(), "keys, whichever they are");
        survey.assume(&layout().at, AssumedKeys::to(&layout(), pair().id, pair().api_key));
        assert_eq!(found(&survey).await.differences(&manifest), [""; 0]);
        let other = KeyPair::without_secret(KeyId::from_random([8; 16]), pair().api_key);
        let rotated = SecretManifest::new(&layout(), identity("u"), &handed_out(other));
        assert_eq!(found(&survey).await.differences(&rotated), ["data.secret"]);
        assert!(matches!(survey.find(&layout().at, Some(SEVENTH)).await, Ok(Lookup::Unchanged)));
        assert_eq!(survey.owned_by(&identity("u")), [layout().at]);
    }

    #[tokio::test]
    async fn a_secret_of_a_version_before_is_not_taken_for_verified() {
        let (manifest, mut metadata) = ours();
        metadata.labels.as_mut().unwrap().remove(ACCOUNT_LABEL);
        let survey = survey(metadata);
        survey.assume(&layout().at, AssumedKeys::to(&layout(), pair().id, pair().api_key));
        let Ok(Lookup::Found(found)) =
            survey.find(&layout().at, Some(VerifiedSecret { version: "7", marked_with: None })).await
        else {
            panic!("no watch shows it")
        };
        assert_eq!(found.differences(&manifest), [format!("label {ACCOUNT_LABEL}")]);
    }

    #[tokio::test]
    async fn nothing_is_read_of_what_is_somebody_elses() {
        let reads = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reads);
        let service = tower::service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, Infallible>(Response::new(Body::from(HUSH.as_bytes().to_vec()))) }
        });
        let client = Client::new(service, "ns");
        let (_, metadata) = ours();
        let mut namesake = identity("u").owner_reference().map(|reference| vec![reference]);
        namesake.iter_mut().flatten().for_each(|owner| owner.api_version = format!("{GROUP}.example/v1"));
        for owner_references in [None, namesake] {
            let foreign = ObjectMeta { annotations: None, owner_references, ..metadata.clone() };
            let foreign = survey(foreign).with_contents(client.clone());
            assert!(found(&foreign).await.data.is_empty());
            assert_eq!(reads.load(Ordering::Relaxed), 0);
        }
        let ours = survey(metadata).with_contents(client);
        assert!(matches!(ours.find(&layout().at, Some(SEVENTH)).await, Ok(Lookup::Unchanged)));
        assert_eq!(reads.load(Ordering::Relaxed), 0);
        assert!(found(&ours).await.data.contains_key("a"));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }
}
