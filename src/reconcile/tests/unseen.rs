//! What others do while nobody is told of it: an account that is imported, a Secret that no watch shows.

use super::memory::{Accounts, Counting, Secrets, lock};
use super::properties::{owner, reconciler_with_clock, run};
use super::scenarios::desired;
use crate::account::{Life, Owner, Version};
use crate::api::{ApiAccountSpec, ApiAccountStatus, ManagementPolicy};
use crate::reconcile::{
    Declarations, Deletion, DeletionPolicy, Desired, Done, Outcome, Reconciler, Unconfirmed, secret_places,
};
use crate::secrets::{ResourceIdentity, SecretRef};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::sync::{Arc, Mutex};

struct Stage {
    accounts: Arc<Accounts>,
    secrets: Arc<Secrets>,
    reconciler: Reconciler,
    clock: Arc<Counting>,
    desired: Desired,
}

impl Stage {
    /// Nothing is there, and the resource only observes.
    fn set() -> Self {
        let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
        let (reconciler, clock) = reconciler_with_clock(&accounts, &secrets);
        let desired = Desired { management: ManagementPolicy::Observe, ..desired() };
        Self { accounts, secrets, reconciler, clock, desired }
    }

    /// The same, once it was enforced.
    fn made() -> Self {
        let stage = Self::set();
        let enforced = Desired { management: ManagementPolicy::Enforce, ..stage.desired.clone() };
        assert!(run(stage.reconciler.reconcile(&enforced, None, None)).not_ready.is_none());
        stage
    }

    fn look(&self) -> Outcome {
        run(self.reconciler.reconcile(&self.desired, None, None))
    }

    /// What differs, and in how many seconds it is looked at again.
    fn told(&self) -> (Vec<String>, Option<i64>) {
        let outcome = self.look();
        let now = *lock(&self.clock.now);
        let drift = outcome.drift.iter().map(|drift| format!("{}: {}", drift.field, drift.actual)).collect();
        (drift, outcome.next_look.map(|next| next.as_second() - now.as_second()))
    }

    /// Somebody puts a Secret of his own at the resource's place.
    fn put_foreign(&self) {
        self.secrets.put(&self.desired.secret.at, Secret::default());
        lock(&self.secrets.unseen).insert(self.desired.secret.at.clone());
    }
}

#[test]
fn an_observed_account_that_is_not_there_is_looked_for_again() {
    let stage = Stage::made();
    let mut legacy = lock(&stage.accounts.rows).remove(0);
    lock(&stage.secrets.objects).clear();
    assert_eq!(stage.told(), (vec!["account: absent".to_owned(), "secret: absent".to_owned()], Some(60)));
    legacy.owner = None;
    lock(&stage.accounts.rows).push(legacy);
    assert_eq!(stage.told(), (vec!["owner: nobody".to_owned(), "secret: absent".to_owned()], Some(60)));
}

#[test]
fn what_differs_of_its_own_account_is_left_to_whoever_tells_of_changes() {
    let stage = Stage::made();
    lock(&stage.accounts.rows)[0].settings.enabled = false;
    lock(&stage.accounts.rows)[0].version = Version(9);
    assert_eq!(stage.told(), (vec!["enabled: false".to_owned()], None));
    assert_eq!((stage.look().account.map(|account| account.life), stage.look().done.len()), (Some(Life::Live), 0));
}

#[test]
fn a_secret_that_nothing_shows_is_found_by_whoever_only_observes() {
    let stage = Stage::set();
    stage.put_foreign();
    let whose = "secret: it was not made by opsadmin-operator";
    assert_eq!(stage.told(), (vec!["account: absent".to_owned(), whose.to_owned()], Some(60)));
    let stage = Stage::made();
    stage.put_foreign();
    assert_eq!(stage.told(), (vec![whose.to_owned()], Some(60)));
    assert_eq!(lock(&stage.accounts.rows)[0].owner, Some(owner("acme")));
    let own = Stage::made();
    lock(&own.secrets.unseen).insert(own.desired.secret.at.clone());
    assert_eq!(own.told(), (Vec::new(), None));
}

#[test]
fn a_secret_that_nothing_shows_outlives_its_resource_with_the_account() {
    let stage = Stage::made();
    let at = stage.desired.secret.at.clone();
    let resource = stage.desired.identity();
    let Some(reference) = resource.owner_reference() else { panic!("it is on a cluster") };
    // As an earlier version wrote it.
    let mut tied = lock(&stage.secrets.objects)[&at].clone();
    tied.metadata.owner_references = Some(vec![reference.clone()]);
    stage.secrets.put(&at, tied);
    let end = |places: &[SecretRef]| {
        lock(&stage.secrets.unseen).insert(at.clone());
        let going = Deletion { places, ..Deletion::of(&resource) };
        run(stage.reconciler.delete(going, DeletionPolicy::Retain)).done
    };
    assert_eq!(end(std::slice::from_ref(&at)), [Done::SecretReleased(at.clone()), Done::Retained]);
    let owners = lock(&stage.secrets.objects)[&at].metadata.owner_references.clone();
    assert_eq!(owners, None);
    assert_eq!(end(std::slice::from_ref(&at)), [], "there is nothing to let go of");
    // Somebody else's goes as he wants it to.
    let mut theirs = Secret::default();
    theirs.metadata.owner_references = Some(vec![OwnerReference { controller: None, ..reference }]);
    stage.secrets.put(&at, theirs.clone());
    assert_eq!(end(std::slice::from_ref(&at)), []);
    assert_eq!(lock(&stage.secrets.objects)[&at].metadata.owner_references, theirs.metadata.owner_references);
}

#[test]
fn a_secret_is_looked_for_where_status_and_spec_say_and_no_name_can_lead_elsewhere() {
    let owner = owner("acme");
    let names = |declared: Option<&str>, told: Option<&str>| -> Vec<String> {
        let mut spec = ApiAccountSpec::default();
        spec.secret.name = declared.map(str::to_owned);
        let status = ApiAccountStatus { secret_name: told.map(str::to_owned), ..ApiAccountStatus::default() };
        secret_places(&owner, &spec, Some(&status)).into_iter().map(|at| at.name).collect()
    };
    assert_eq!(names(None, None), ["acme-opsadmin"]);
    assert_eq!(names(Some("new"), Some("old")), ["new", "old"]);
    assert_eq!(names(Some("same"), Some("same")), ["same"]);
    assert_eq!(names(Some("Upper"), Some("../configmaps/x")), [""; 0]);
}

/// Confirms everything, and writes down what it is told.
#[derive(Default)]
struct Noting(Mutex<Vec<&'static str>>);

#[async_trait]
impl Declarations for Noting {
    async fn confirm(&self, _: &Desired) -> Result<(), Unconfirmed> {
        lock(&self.0).push("asked");
        Ok(())
    }

    async fn confirm_deletion(&self, _: &ResourceIdentity) -> Result<(), Unconfirmed> {
        lock(&self.0).push("asked");
        Ok(())
    }

    fn overtaken(&self, _: &Owner) {
        lock(&self.0).push("doubted");
    }
}

#[test]
fn who_was_overtaken_doubts_the_declaration_before_the_next_attempt() {
    let mut stage = Stage::made();
    let noting = Arc::new(Noting::default());
    stage.reconciler.declarations = Arc::clone(&noting) as Arc<dyn Declarations>;
    let known = {
        let mut rows = lock(&stage.accounts.rows);
        rows[0].settings.enabled = false;
        let before = rows[0].clone();
        rows[0].version = Version(9);
        before
    };
    let enforced = Desired { management: ManagementPolicy::Enforce, ..stage.desired.clone() };
    assert!(run(stage.reconciler.reconcile(&enforced, None, Some(known))).not_ready.is_none());
    assert_eq!(*lock(&noting.0), ["asked", "doubted", "asked"]);
    assert!(lock(&stage.accounts.rows)[0].settings.enabled);
}
