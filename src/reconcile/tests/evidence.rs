//! Tests of keys that are found in a Secret: they are used only with a mark of this program, and never after they were
//! revoked.

use super::generators::{owner, reconciler, run};
use super::memory::{Accounts, Secrets, lock};
use super::scenarios::desired;
use crate::account::{KeyEntropy, KeyId, KeyPair, Mark, Role};
use crate::api::{AdoptionPolicy, MARK_ANNOTATION, ManagementPolicy, Reason};
use crate::database::{AccountDatabase, Keyring};
use crate::reconcile::{Deletion, DeletionPolicy, Desired, Done, NotReady, Outcome, Reconciler, Verified, status};
use crate::secrets::{IssuedKeys, SecretManifest};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use std::sync::Arc;
use zeroize::Zeroizing;

struct Stage {
    accounts: Arc<Accounts>,
    secrets: Arc<Secrets>,
    reconciler: Reconciler,
    desired: Desired,
}

impl Stage {
    /// Returns a stage without an account and a Secret. The declared account may use the whole API.
    fn new() -> Self {
        let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
        let reconciler = reconciler(&accounts, &secrets);
        let mut desired = desired();
        desired.settings.roles.insert(Role::Administrator);
        Self { accounts, secrets, reconciler, desired }
    }

    fn with_account() -> Self {
        let stage = Self::new();
        assert!(stage.reconcile().not_ready.is_none());
        stage
    }

    fn reconcile(&self) -> Outcome {
        run(self.reconciler.reconcile(&self.desired, None, None))
    }

    /// Puts a Secret with these keys under the declared name, with all metadata of the resource's own Secret.
    fn plant(&self, keys: &IssuedKeys) -> Secret {
        let manifest = SecretManifest::new(&self.desired.secret, self.desired.identity(), keys);
        self.secrets.put(&self.desired.secret.at, manifest.to_secret());
        self.secret()
    }

    fn secret(&self) -> Secret {
        lock(&self.secrets.objects)[&self.desired.secret.at].clone()
    }

    /// Returns the API key in the Secret.
    fn api_key(&self) -> String {
        let data = self.secret().data.unwrap();
        String::from_utf8(data[&self.desired.secret.api_key_field].0.clone()).unwrap()
    }

    fn mark(&self) -> Option<String> {
        self.secret().metadata.annotations.unwrap().get(MARK_ANNOTATION).cloned()
    }

    fn unmark(&self) {
        let mut secret = self.secret();
        secret.metadata.annotations.get_or_insert_default().remove(MARK_ANNOTATION);
        self.secrets.put(&self.desired.secret.at, secret);
    }

    /// Removes the account's row.
    fn lose_row(&self) {
        lock(&self.accounts.rows).clear();
    }
}

fn pair(seed: u8) -> KeyPair {
    let entropy = KeyEntropy { api_key: [seed; 16], secret_key: Zeroizing::new([seed; 32]) };
    KeyPair::from_entropy(KeyId::from_random([seed; 16]), &entropy)
}

fn reasons(outcome: &Outcome) -> Vec<&'static str> {
    outcome.done.iter().map(Done::reason).collect()
}

#[test]
fn keys_from_a_planted_secret_are_not_used() {
    let other_keyring = Keyring::from_random(Zeroizing::new([9; 32]));
    let stage = Stage::new();
    let of_another_pair = stage.reconciler.keyring.get().mark(&owner("acme"), &pair(2));
    let of_another_owner = stage.reconciler.keyring.get().mark(&owner("other"), &pair(1));
    let of_another_keyring = other_keyring.mark(&owner("acme"), &pair(1));
    for mark in [Mark::unknown(), of_another_pair, of_another_owner, of_another_keyring] {
        let stage = Stage::new();
        let planted = stage.plant(&IssuedKeys { pair: pair(1), mark });
        let outcome = stage.reconcile();
        assert!(matches!(outcome.not_ready, Some(NotReady::UnprovenKeys { .. })), "{:?}", outcome.not_ready);
        assert_eq!(outcome.not_ready.unwrap().reason(), Reason::SecretConflict);
        assert!(outcome.done.is_empty() && lock(&stage.accounts.rows).is_empty());
        assert_eq!(stage.secret(), planted, "it may be all that is left of a lost database");
        // The message asks the user to delete the Secret.
        lock(&stage.secrets.objects).clear();
        assert_eq!(reasons(&stage.reconcile()), ["Created", "SecretWritten"]);
        assert_ne!(stage.api_key(), pair(1).api_key.as_str());
    }
}

#[test]
fn a_lost_row_is_restored_with_the_keys_of_its_own_secret() {
    let stage = Stage::with_account();
    let (before, api_key) = (stage.secret(), stage.api_key());
    stage.lose_row();
    assert_eq!(reasons(&stage.reconcile()), ["Recovered"]);
    assert_eq!((stage.secret(), stage.api_key()), (before, api_key));
}

#[test]
fn an_unproven_secret_does_not_prevent_adoption() {
    let mut stage = Stage::with_account();
    let api_key = stage.api_key();
    lock(&stage.accounts.rows)[0].owner = None;
    stage.plant(&IssuedKeys { pair: pair(1), mark: Mark::unknown() });
    assert!(matches!(stage.reconcile().not_ready, Some(NotReady::AdoptionRequired { .. })));
    stage.desired.adoption = AdoptionPolicy::IfUnowned;
    assert_eq!(reasons(&stage.reconcile()), ["Adopted", "SecretUpdated"]);
    assert_eq!(stage.api_key(), api_key, "what the database knows is put there");
}

#[test]
fn the_mark_of_an_earlier_version_or_keyring_is_corrected_once() {
    let stage = Stage::with_account();
    let verified = |outcome: &Outcome| {
        let status = status(stage.desired.generation, "s", outcome, None, Timestamp::UNIX_EPOCH);
        Verified::of(&status)
    };
    let (mark, ready) = (stage.mark(), stage.reconcile());
    assert!(mark.is_some());
    stage.unmark();
    // The Secret's version counts as verified, as after an upgrade.
    let mut known = verified(&ready).unwrap();
    known.version = stage.secret().metadata.resource_version.unwrap();
    let outcome = run(stage.reconciler.reconcile(&stage.desired, Some(&known), None));
    let told = outcome.attribute_drift(Some(&status(Some(1), "s", &ready, None, Timestamp::UNIX_EPOCH)), Some(1));
    assert_eq!(reasons(&told), ["SecretUpdated"], "nobody has changed it");
    assert_eq!(stage.mark(), mark);

    let rotated = Keyring::from_random(Zeroizing::new([9; 32]));
    let both = Keyring::clone(&stage.reconciler.keyring.get()).with_another(Zeroizing::new([9; 32]));
    stage.reconciler.keyring.replace(both.sealing_with_last_key());
    let known = verified(&stage.reconcile());
    assert_ne!(stage.mark(), mark);
    assert_eq!(Mark::parts(&stage.mark().unwrap()).0, rotated.ids().next().unwrap());
    let again = run(stage.reconciler.reconcile(&stage.desired, known.as_ref(), None));
    assert!(again.done.is_empty() && again.secret_version == known.map(|known| known.version));
}

#[test]
fn a_missing_mark_is_not_reported_to_a_resource_that_only_observes() {
    let mut stage = Stage::with_account();
    stage.unmark();
    stage.desired.management = ManagementPolicy::Observe;
    let outcome = stage.reconcile();
    assert!(outcome.not_ready.is_none() && outcome.drift.is_empty(), "{:?}", outcome.drift);
}

#[test]
fn a_revoked_key_pair_is_not_restored_with_a_lost_row() {
    let mut stage = Stage::with_account();
    let (leaked, before) = (stage.api_key(), stage.secret());
    stage.desired.rotation.overlap = crate::account::Period::parse("0s").unwrap();
    stage.desired.rotation.requests.trigger = Some("leak".to_owned());
    assert!(stage.reconcile().not_ready.is_none());
    // The row is lost before the new key pair is written to the Secret.
    stage.secrets.put(&stage.desired.secret.at, before);
    stage.lose_row();
    assert_eq!(reasons(&stage.reconcile()), ["Created", "SecretUpdated"]);
    assert_ne!(stage.api_key(), leaked);
}

#[test]
fn a_purged_key_pair_is_not_restored_from_a_backup_of_secrets() {
    let stage = Stage::with_account();
    let (api_key, backup) = (stage.api_key(), stage.secret());
    let deleted = run(stage.reconciler.delete(Deletion::of(&stage.desired.identity()), DeletionPolicy::Delete));
    assert_eq!(reasons(&deleted), ["Disabled", "SecretRemoved"]);
    let later = Timestamp::from_second(1).unwrap();
    run(stage.accounts.purge(&owner("acme").cluster, &|_| false, later, later)).unwrap();
    stage.secrets.put(&stage.desired.secret.at, backup);
    assert_eq!(reasons(&stage.reconcile()), ["Created", "SecretUpdated"]);
    assert_ne!(stage.api_key(), api_key);
}
