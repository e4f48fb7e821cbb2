//! Tests of obstacles: a refused resource first checks whether the obstacle still exists, so that nothing is written in
//! vain.

use super::generators::{owner, reconciler, run};
use super::memory::{Accounts, Fault, Secrets, lock};
use super::scenarios::desired;
use crate::account::AffiliateName;
use crate::api::{AdoptionPolicy, ApiAccountStatus};
use crate::reconcile::{Desired, Done, History, Known, NotReady, Obstacle, Outcome, Reconciler, status};
use jiff::Timestamp;
use std::sync::Arc;

struct Stage {
    accounts: Arc<Accounts>,
    secrets: Arc<Secrets>,
    reconciler: Reconciler,
}

impl Stage {
    fn new() -> Self {
        let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
        let reconciler = reconciler(&accounts, &secrets);
        Self { accounts, secrets, reconciler }
    }

    /// Reconciles a resource that was refused before. Returns the outcome, and whether a change was committed.
    fn again(&self, desired: &Desired, refused: &Outcome) -> (Outcome, bool) {
        let told = status(desired.generation, "secret", refused, None, Timestamp::UNIX_EPOCH);
        let obstacle = Obstacle::of(&told, desired.generation);
        assert!(obstacle.is_some(), "{refused:?}");
        lock(&self.accounts.faults).push(Fault::NotMade);
        let outcome = run(self.reconciler.reconcile_with(
            &History::default().with_obstacle(obstacle),
            desired,
            None,
            Known::Nothing,
        ));
        let is_tried = lock(&self.accounts.faults).pop().is_none();
        (outcome, is_tried)
    }

    fn reconcile(&self, desired: &Desired) -> Outcome {
        run(self.reconciler.reconcile(desired, None, None))
    }
}

fn other() -> Desired {
    let mut other = desired();
    other.owner = owner("other");
    other.secret.at.name = "other-opsadmin".to_owned();
    other
}

#[test]
fn a_name_is_tried_again_only_when_it_is_free() {
    let stage = Stage::new();
    assert!(stage.reconcile(&desired()).not_ready.is_none());
    let refused = stage.reconcile(&other());
    assert!(matches!(refused.not_ready, Some(NotReady::NameTaken { .. })), "{refused:?}");
    let (outcome, is_tried) = stage.again(&other(), &refused);
    assert!(matches!(outcome.not_ready, Some(NotReady::NameTaken { .. })) && !is_tried, "{outcome:?}");
    lock(&stage.accounts.rows).clear();
    assert!(stage.again(&other(), &refused).1);
}

#[test]
fn a_rename_to_a_name_that_is_still_taken_is_not_tried() {
    let stage = Stage::new();
    let mut renamed = other();
    renamed.settings.name = crate::account::AccountName::parse("another").unwrap();
    assert!(stage.reconcile(&desired()).not_ready.is_none() && stage.reconcile(&renamed).not_ready.is_none());
    let refused = stage.reconcile(&other());
    let (outcome, is_tried) = stage.again(&other(), &refused);
    assert!(matches!(outcome.not_ready, Some(NotReady::NameTaken { .. })) && !is_tried, "{outcome:?}");
}

#[test]
fn an_account_that_can_be_adopted_now_is_adopted_without_a_failed_creation() {
    let stage = Stage::new();
    assert!(stage.reconcile(&desired()).not_ready.is_none());
    let adopting = Desired { adoption: AdoptionPolicy::IfUnowned, ..other() };
    let refused = stage.reconcile(&adopting);
    assert!(matches!(refused.not_ready, Some(NotReady::OwnedElsewhere { .. })), "{refused:?}");
    assert!(!stage.again(&adopting, &refused).1);
    lock(&stage.accounts.rows)[0].owner = None;
    let told = status(adopting.generation, "secret", &refused, None, Timestamp::UNIX_EPOCH);
    let obstacle = Obstacle::of(&told, adopting.generation);
    let outcome = run(stage.reconciler.reconcile_with(
        &History::default().with_obstacle(obstacle),
        &adopting,
        None,
        Known::Nothing,
    ));
    assert_eq!(outcome.done.first(), Some(&Done::Adopted));
}

#[test]
fn an_affiliate_is_tried_again_only_when_it_is_known() {
    let stage = Stage::new();
    let mut wanted = desired();
    wanted.settings.affiliate = Some(AffiliateName::parse("North").unwrap());
    let refused = stage.reconcile(&wanted);
    let (outcome, is_tried) = stage.again(&wanted, &refused);
    assert!(matches!(outcome.not_ready, Some(NotReady::UnknownAffiliate { .. })) && !is_tried, "{outcome:?}");
    lock(&stage.accounts.affiliates).insert("North".to_owned());
    assert!(stage.again(&wanted, &refused).1);
}

#[test]
fn an_api_key_that_another_account_still_has_is_not_tried() {
    let stage = Stage::new();
    assert!(stage.reconcile(&desired()).not_ready.is_none());
    // The resource has no account any more, and another account has the API key in its Secret.
    lock(&stage.accounts.rows)[0].owner = Some(owner("thief"));
    "thief".clone_into(&mut lock(&stage.accounts.rows)[0].settings.name);
    assert_eq!(lock(&stage.secrets.objects).len(), 1);
    let refused = stage.reconcile(&desired());
    assert!(matches!(refused.not_ready, Some(NotReady::KeyTaken { .. })), "{refused:?}");
    let (outcome, is_tried) = stage.again(&desired(), &refused);
    assert!(matches!(outcome.not_ready, Some(NotReady::KeyTaken { .. })) && !is_tried, "{outcome:?}");
}

#[test]
fn an_obstacle_of_another_generation_does_not_count() {
    let refused = Outcome::blocked(NotReady::UnknownAffiliate { affiliate: AffiliateName::parse("North").unwrap() });
    let told = status(Some(1), "secret", &refused, None, Timestamp::UNIX_EPOCH);
    assert_eq!(Obstacle::of(&told, Some(1)), Some(Obstacle::Affiliate));
    assert_eq!(Obstacle::of(&told, Some(2)), None);
    assert_eq!(Obstacle::of(&ApiAccountStatus::default(), None), None);
}
