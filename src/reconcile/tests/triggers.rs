//! Tests of accounts that a database trigger rewrites, and of drift that returns after each correction.

use super::generators::{reconciler, run};
use super::memory::{Accounts, Secrets, lock};
use super::scenarios::desired;
use crate::account::{AllowedIp, AllowedIps, Description};
use crate::api::{ApiAccountStatus, Reason};
use crate::reconcile::{Corrections, Desired, Done, History, Known, Outcome, Reconciler, Verified, status};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Stage {
    accounts: Arc<Accounts>,
    secrets: Arc<Secrets>,
    reconciler: Reconciler,
    desired: Desired,
    status: Option<ApiAccountStatus>,
    corrections: Corrections,
    now: Instant,
}

impl Stage {
    fn new() -> Self {
        let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
        let reconciler = reconciler(&accounts, &secrets);
        let (status, corrections, now) = (None, Corrections::default(), Instant::now());
        Self { accounts, secrets, reconciler, desired: desired(), status, corrections, now }
    }

    /// Reconciles once, as the controller does.
    fn reconcile(&mut self) -> Outcome {
        let previous = self.status.clone();
        let verified = previous.as_ref().and_then(Verified::of);
        let history = History::new(&self.corrections, previous.as_ref(), self.desired.generation, self.now);
        let outcome = run(self.reconciler.reconcile_with(&history, &self.desired, verified.as_ref(), Known::Nothing));
        let corrected = outcome.corrected(previous.as_ref(), self.desired.generation);
        self.corrections.record(corrected, self.now);
        let outcome = outcome.attribute_drift(previous.as_ref(), self.desired.generation);
        self.status = Some(status(self.desired.generation, "s", &outcome, previous.as_ref(), Timestamp::UNIX_EPOCH));
        outcome
    }

    /// Makes `edit` every second for this many seconds. Returns the seconds at which the edit was corrected.
    fn seconds_of_corrections(&mut self, seconds: u64, edit: impl Fn(&Self)) -> Vec<u64> {
        let mut at = Vec::new();
        for second in 0..seconds {
            edit(self);
            if !self.reconcile().done.is_empty() {
                at.push(second);
            }
            self.now += Duration::from_secs(1);
        }
        at
    }

    fn changes(&self) -> usize {
        lock(&self.accounts.changes).len()
    }
}

fn reason(outcome: &Outcome) -> Option<Reason> {
    outcome.not_ready.as_ref().map(crate::reconcile::NotReady::reason)
}

#[test]
fn fields_that_a_trigger_rewrites_are_reported_and_not_written_again() {
    let mut stage = Stage::new();
    *lock(&stage.accounts.trigger) = Some(|account| account.settings.description = "theirs".to_owned());
    stage.desired.settings.description = Description::parse("ours").unwrap();
    let first = stage.reconcile();
    assert_eq!(reason(&first), Some(Reason::AccountRewritten));
    let message = stage.status.as_ref().unwrap().conditions[0].message.clone();
    assert!(message.contains(r#"description: wanted "ours", stored "theirs""#), "{message}");
    let done: Vec<_> = first.done.iter().map(Done::reason).collect();
    assert_eq!(done, ["Created", "SecretWritten"], "its keys are handed out all the same");
    let (status, changes) = (stage.status.clone(), stage.changes());
    let again = stage.reconcile();
    assert_eq!((reason(&again), again.done.len()), (Some(Reason::AccountRewritten), 0));
    assert_eq!((&stage.status, stage.changes()), (&status, changes));

    // Everything else is done: access ends, and the Secret is corrected.
    stage.desired.settings.enabled = false;
    stage.desired.generation = Some(2);
    let disabled = stage.reconcile();
    assert!(matches!(&disabled.done[..], [Done::Updated { changes }] if changes.len() == 1), "{:?}", disabled.done);
    assert!(!lock(&stage.accounts.rows)[0].settings.enabled);
    lock(&stage.secrets.objects).clear();
    assert_eq!(stage.reconcile().done.len(), 1, "the Secret comes back");

    *lock(&stage.accounts.trigger) = None;
    assert!(stage.reconcile().not_ready.is_none());
}

#[test]
fn an_account_whose_access_a_trigger_would_widen_is_not_created() {
    let mut stage = Stage::new();
    *lock(&stage.accounts.trigger) = Some(|account| account.settings.any_ip = true);
    stage.desired.settings.allowed_ips = AllowedIps::from_networks([AllowedIp::parse("10.0.0.0/8").unwrap()]);
    let outcome = stage.reconcile();
    assert_eq!(reason(&outcome), Some(Reason::AccountRewritten));
    assert!(
        outcome.done.is_empty() && lock(&stage.accounts.rows).is_empty() && lock(&stage.secrets.objects).is_empty()
    );
}

#[test]
fn drift_that_returns_each_second_is_corrected_less_often_and_reported() {
    let mut stage = Stage::new();
    stage.reconcile();
    let edit = |stage: &Stage| lock(&stage.accounts.rows)[0].settings.description = "theirs".to_owned();
    let at = stage.seconds_of_corrections(600, edit);
    assert_eq!(at[..8], [0, 1, 2, 3, 4, 6, 10, 18]);
    assert!(at.len() < 15, "{at:?}");
    edit(&stage);
    let held = stage.reconcile();
    assert_eq!(reason(&held), Some(Reason::RepeatedDrift));
    assert!(held.next_reconcile.is_some() && held.done.is_empty());

    // A change of the spec is executed at once.
    stage.desired.settings.description = Description::parse("new").unwrap();
    stage.desired.generation = Some(2);
    assert!(matches!(&stage.reconcile().done[..], [Done::Updated { .. }]));
}

#[test]
fn drift_that_widens_access_is_corrected_soon() {
    let mut stage = Stage::new();
    stage.desired.settings.allowed_ips = AllowedIps::from_networks([AllowedIp::parse("10.0.0.0/8").unwrap()]);
    stage.reconcile();
    let at = stage.seconds_of_corrections(300, |stage| lock(&stage.accounts.rows)[0].settings.any_ip = true);
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] <= 10), "{at:?}");
    assert!(at.len() < 50, "{at:?}");
}

#[test]
fn a_secret_that_is_deleted_each_second_is_restored_less_often_and_new_keys_at_once() {
    let mut stage = Stage::new();
    stage.reconcile();
    let at = stage.seconds_of_corrections(600, |stage| lock(&stage.secrets.objects).clear());
    assert!(at.len() > 5 && at.len() < 15, "{at:?}");
    lock(&stage.secrets.objects).clear();
    assert!(stage.reconcile().done.is_empty(), "it waits");
    stage.desired.settings.enabled = false;
    stage.desired.generation = Some(2);
    assert_eq!(stage.reconcile().done.len(), 2, "a change of the spec has both done");
}
