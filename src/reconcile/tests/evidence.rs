//! Keys that are found in a Secret: believed only with the mark that shows who put them there, and never once they were revoked.

use super::memory::{Accounts, Secrets, lock};
use super::properties::{owner, reconciler, run};
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
    /// Nothing is there; the account is to reach the whole API.
    fn set() -> Self {
        let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
        let reconciler = reconciler(&accounts, &secrets);
        let mut desired = desired();
        desired.settings.roles.insert(Role::Administrator);
        Self { accounts, secrets, reconciler, desired }
    }

    fn made() -> Self {
        let stage = Self::set();
        assert!(stage.look().not_ready.is_none());
        stage
    }

    fn look(&self) -> Outcome {
        run(self.reconciler.reconcile(&self.desired, None, None))
    }

    /// Somebody puts a Secret where the account's is to be, as like it as can be.
    fn plant(&self, keys: &IssuedKeys) -> Secret {
        let manifest = SecretManifest::new(&self.desired.secret, self.desired.identity(), keys);
        self.secrets.put(&self.desired.secret.at, manifest.to_secret());
        self.secret()
    }

    fn secret(&self) -> Secret {
        lock(&self.secrets.objects)[&self.desired.secret.at].clone()
    }

    /// The API key in the Secret.
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

    /// The account's row is lost.
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
fn a_planted_secret_decides_no_keys() {
    let other_keyring = Keyring::from_random(Zeroizing::new([9; 32]));
    let stage = Stage::set();
    let of_another_pair = stage.reconciler.keyring.mark(&owner("acme"), &pair(2));
    let of_another_owner = stage.reconciler.keyring.mark(&owner("other"), &pair(1));
    let of_another_keyring = other_keyring.mark(&owner("acme"), &pair(1));
    for mark in [Mark::unknown(), of_another_pair, of_another_owner, of_another_keyring] {
        let stage = Stage::set();
        let planted = stage.plant(&IssuedKeys { pair: pair(1), mark });
        let outcome = stage.look();
        assert!(matches!(outcome.not_ready, Some(NotReady::UnprovenKeys { .. })), "{:?}", outcome.not_ready);
        assert_eq!(outcome.not_ready.unwrap().reason(), Reason::SecretConflict);
        assert!(outcome.done.is_empty() && lock(&stage.accounts.rows).is_empty());
        assert_eq!(stage.secret(), planted, "it may be all that is left of a lost database");
        // The message says to delete it.
        lock(&stage.secrets.objects).clear();
        assert_eq!(reasons(&stage.look()), ["Created", "SecretWritten"]);
        assert_ne!(stage.api_key(), pair(1).api_key.as_str());
    }
}

#[test]
fn a_lost_row_comes_back_with_the_keys_of_its_own_secret() {
    let stage = Stage::made();
    let (before, api_key) = (stage.secret(), stage.api_key());
    stage.lose_row();
    assert_eq!(reasons(&stage.look()), ["Recovered"]);
    assert_eq!((stage.secret(), stage.api_key()), (before, api_key));
}

#[test]
fn an_unproven_secret_does_not_keep_an_account_from_being_adopted() {
    let mut stage = Stage::made();
    let api_key = stage.api_key();
    lock(&stage.accounts.rows)[0].owner = None;
    stage.plant(&IssuedKeys { pair: pair(1), mark: Mark::unknown() });
    assert!(matches!(stage.look().not_ready, Some(NotReady::AdoptionRequired { .. })));
    stage.desired.adoption = AdoptionPolicy::IfUnowned;
    assert_eq!(reasons(&stage.look()), ["Adopted", "SecretUpdated"]);
    assert_eq!(stage.api_key(), api_key, "what the database knows is put there");
}

#[test]
fn the_mark_of_an_earlier_version_or_keyring_is_put_right_once() {
    let mut stage = Stage::made();
    let verified = |outcome: &Outcome| {
        let status = status(stage.desired.generation, "s", outcome, None, Timestamp::UNIX_EPOCH);
        Verified::of(&status)
    };
    let (mark, ready) = (stage.mark(), stage.look());
    assert!(mark.is_some());
    stage.unmark();
    // Its version counts as verified, as after an upgrade.
    let mut known = verified(&ready).unwrap();
    known.version = stage.secret().metadata.resource_version.unwrap();
    let outcome = run(stage.reconciler.reconcile(&stage.desired, Some(&known), None));
    let told = outcome.attribute_drift(Some(&status(Some(1), "s", &ready, None, Timestamp::UNIX_EPOCH)), Some(1));
    assert_eq!(reasons(&told), ["SecretUpdated"], "nobody has changed it");
    assert_eq!(stage.mark(), mark);

    let rotated = Keyring::from_random(Zeroizing::new([9; 32]));
    stage.reconciler.keyring =
        stage.reconciler.keyring.clone().with_another(Zeroizing::new([9; 32])).sealing_with_the_last();
    let known = verified(&stage.look());
    assert_ne!(stage.mark(), mark);
    assert_eq!(Mark::parts(&stage.mark().unwrap()).0, rotated.ids().next().unwrap());
    let again = run(stage.reconciler.reconcile(&stage.desired, known.as_ref(), None));
    assert!(again.done.is_empty() && again.secret_version == known.map(|known| known.version));
}

#[test]
fn who_only_observes_is_not_told_of_a_mark() {
    let mut stage = Stage::made();
    stage.unmark();
    stage.desired.management = ManagementPolicy::Observe;
    let outcome = stage.look();
    assert!(outcome.not_ready.is_none() && outcome.drift.is_empty(), "{:?}", outcome.drift);
}

#[test]
fn a_pair_that_was_revoked_for_a_leak_does_not_come_back_with_a_lost_row() {
    let mut stage = Stage::made();
    let (leaked, before) = (stage.api_key(), stage.secret());
    stage.desired.rotation.overlap = crate::account::Period::parse("0s").unwrap();
    stage.desired.rotation.requests.trigger = Some("leak".to_owned());
    assert!(stage.look().not_ready.is_none());
    // The row is lost before anybody has written the new pair.
    stage.secrets.put(&stage.desired.secret.at, before);
    stage.lose_row();
    assert_eq!(reasons(&stage.look()), ["Created", "SecretUpdated"]);
    assert_ne!(stage.api_key(), leaked);
}

#[test]
fn a_purged_pair_does_not_come_back_from_a_backup_of_secrets() {
    let stage = Stage::made();
    let (api_key, backup) = (stage.api_key(), stage.secret());
    let deleted = run(stage.reconciler.delete(Deletion::of(&stage.desired.identity()), DeletionPolicy::Delete));
    assert_eq!(reasons(&deleted), ["Disabled", "SecretRemoved"]);
    let later = Timestamp::from_second(1).unwrap();
    run(stage.accounts.purge(&owner("acme").cluster, &|_| false, later, later)).unwrap();
    stage.secrets.put(&stage.desired.secret.at, backup);
    assert_eq!(reasons(&stage.look()), ["Created", "SecretUpdated"]);
    assert_ne!(stage.api_key(), api_key);
}
