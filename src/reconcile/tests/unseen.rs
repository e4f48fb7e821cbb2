//! Tests of changes that no notification reports: an account that is imported, a Secret that no watch shows.

use super::generators::{owner, reconciler_with_clock, run};
use super::memory::{Accounts, Counting, Secrets, lock};
use super::scenarios::desired;
use crate::account::{Life, Owner, Version};
use crate::api::{ApiAccountSpec, ApiAccountStatus, ManagementPolicy};
use crate::reconcile::{
    Declarations, Deletion, DeletionPolicy, Desired, Done, Outcome, Reconciler, Unconfirmed, possible_secrets,
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
    /// Returns a stage without an account and a Secret, with a resource that only observes.
    fn new() -> Self {
        let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
        let (reconciler, clock) = reconciler_with_clock(&accounts, &secrets);
        let desired = Desired { management: ManagementPolicy::Observe, ..desired() };
        Self { accounts, secrets, reconciler, clock, desired }
    }

    /// Returns the same stage after a reconcile that enforced the declaration.
    fn with_account() -> Self {
        let stage = Self::new();
        let enforced = Desired { management: ManagementPolicy::Enforce, ..stage.desired.clone() };
        assert!(run(stage.reconciler.reconcile(&enforced, None, None)).not_ready.is_none());
        stage
    }

    fn reconcile(&self) -> Outcome {
        run(self.reconciler.reconcile(&self.desired, None, None))
    }

    /// Reconciles, and returns the drift and the seconds until the next reconcile.
    fn reported(&self) -> (Vec<String>, Option<i64>) {
        let outcome = self.reconcile();
        let now = *lock(&self.clock.now);
        let drift = outcome.drift.iter().map(|drift| format!("{}: {}", drift.field, drift.actual)).collect();
        (drift, outcome.next_reconcile.map(|next| next.as_second() - now.as_second()))
    }

    /// Puts a foreign Secret, which the watch does not show, under the declared name.
    fn put_foreign(&self) {
        self.secrets.put(&self.desired.secret.at, Secret::default());
        lock(&self.secrets.unseen).insert(self.desired.secret.at.clone());
    }
}

#[test]
fn a_missing_observed_account_is_polled() {
    let stage = Stage::with_account();
    let mut legacy = lock(&stage.accounts.rows).remove(0);
    lock(&stage.secrets.objects).clear();
    assert_eq!(stage.reported(), (vec!["account: absent".to_owned(), "secret: absent".to_owned()], Some(60)));
    legacy.owner = None;
    lock(&stage.accounts.rows).push(legacy);
    assert_eq!(stage.reported(), (vec!["owner: none".to_owned(), "secret: absent".to_owned()], Some(60)));
}

#[test]
fn differences_of_an_existing_account_are_not_polled() {
    let stage = Stage::with_account();
    lock(&stage.accounts.rows)[0].settings.enabled = false;
    lock(&stage.accounts.rows)[0].version = Version(9);
    assert_eq!(stage.reported(), (vec!["enabled: false".to_owned()], None));
    assert_eq!(
        (stage.reconcile().account.map(|account| account.life), stage.reconcile().done.len()),
        (Some(Life::Live), 0)
    );
}

#[test]
fn a_secret_that_no_watch_shows_is_found_while_observing() {
    let stage = Stage::new();
    stage.put_foreign();
    let whose = "secret: it was not made by opsadmin-operator";
    assert_eq!(stage.reported(), (vec!["account: absent".to_owned(), whose.to_owned()], Some(60)));
    let stage = Stage::with_account();
    stage.put_foreign();
    assert_eq!(stage.reported(), (vec![whose.to_owned()], Some(60)));
    assert_eq!(lock(&stage.accounts.rows)[0].owner, Some(owner("acme")));
    let own = Stage::with_account();
    lock(&own.secrets.unseen).insert(own.desired.secret.at.clone());
    assert_eq!(own.reported(), (Vec::new(), None));
}

#[test]
fn a_secret_that_no_watch_shows_is_retained_with_the_account() {
    let stage = Stage::with_account();
    let at = stage.desired.secret.at.clone();
    let resource = stage.desired.identity();
    let Some(reference) = resource.owner_reference() else { panic!("it is on a cluster") };
    // An earlier version wrote the Secret.
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
    // A foreign Secret stays as it is.
    let mut theirs = Secret::default();
    theirs.metadata.owner_references = Some(vec![OwnerReference { controller: None, ..reference }]);
    stage.secrets.put(&at, theirs.clone());
    assert_eq!(end(std::slice::from_ref(&at)), []);
    assert_eq!(lock(&stage.secrets.objects)[&at].metadata.owner_references, theirs.metadata.owner_references);
}

#[test]
fn a_secret_is_searched_under_the_valid_names_of_status_and_spec() {
    let owner = owner("acme");
    let names = |declared: Option<&str>, told: Option<&str>| -> Vec<String> {
        let mut spec = ApiAccountSpec::default();
        spec.secret.name = declared.map(str::to_owned);
        let status = ApiAccountStatus { secret_name: told.map(str::to_owned), ..ApiAccountStatus::default() };
        possible_secrets(&owner, &spec, Some(&status)).into_iter().map(|at| at.name).collect()
    };
    assert_eq!(names(None, None), ["acme-opsadmin"]);
    assert_eq!(names(Some("new"), Some("old")), ["new", "old"]);
    assert_eq!(names(Some("same"), Some("same")), ["same"]);
    assert_eq!(names(Some("Upper"), Some("../configmaps/x")), [""; 0]);
}

/// Confirms every change, and records the calls.
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
fn after_a_conflict_the_declaration_is_confirmed_anew() {
    let mut stage = Stage::with_account();
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
