//! Tests of rotations and overlaps while the clock jumps forward and back.

use super::generators::{reconciler_with_clock, run};
use super::memory::{Accounts, Counting, Secrets, lock};
use super::scenarios::desired;
use crate::account::{Account, KeyId, KeyState, Period, Suspension};
use crate::api::ManagementPolicy;
use crate::reconcile::{Desired, Done, Reconciler, status};
use jiff::Timestamp;
use std::sync::Arc;

/// One account that was created at the epoch, and its declaration.
struct Stage {
    accounts: Arc<Accounts>,
    secrets: Arc<Secrets>,
    reconciler: Reconciler,
    clock: Arc<Counting>,
    desired: Desired,
}

impl Stage {
    fn new(interval: Option<&str>, overlap: &str) -> Self {
        let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
        let (reconciler, clock) = reconciler_with_clock(&accounts, &secrets);
        let mut desired = desired();
        desired.rotation.interval = interval.map(|interval| Period::parse(interval).unwrap());
        desired.rotation.overlap = Period::parse(overlap).unwrap();
        let stage = Self { accounts, secrets, reconciler, clock, desired };
        assert_eq!(stage.reconcile(), ["Created", "SecretWritten"]);
        stage
    }

    /// Moves the clock by these hours, reconciles, and returns the reasons of the changes.
    fn after(&self, hours: i64) -> Vec<&'static str> {
        self.clock.move_by(hours);
        self.reconcile()
    }

    /// Reconciles, checks that the Secret has the active key pair, and returns the reasons of the changes.
    fn reconcile(&self) -> Vec<&'static str> {
        let outcome = run(self.reconciler.reconcile(&self.desired, None, None));
        assert!(outcome.not_ready.is_none(), "{:?}", outcome.not_ready);
        let active = self.account().active_key().unwrap().api_key.clone();
        let secret = lock(&self.secrets.objects).values().next().unwrap().clone();
        assert_eq!(secret.data.unwrap()["a"].0, active.as_str().as_bytes());
        outcome.done.iter().map(Done::reason).collect()
    }

    fn ask(&mut self, trigger: &str) {
        self.desired.rotation.requests.trigger = Some(trigger.to_owned());
    }

    fn account(&self) -> Account {
        lock(&self.accounts.rows)[0].clone()
    }

    fn active(&self) -> KeyId {
        self.account().active_key().unwrap().id
    }

    /// Returns the retiring key pairs, each with the hour at which it expires.
    fn retiring(&self) -> Vec<(KeyId, i64)> {
        let keys = self.account().keys;
        let ends = keys.iter().filter_map(|key| match key.state {
            KeyState::Active => None,
            KeyState::Retiring { expires } => Some((key.id, expires.as_second() / 3600)),
        });
        ends.collect()
    }
}

const NOTHING: [&str; 0] = [];
const ROTATED: [&str; 2] = ["Rotated", "SecretUpdated"];

#[test]
fn a_clock_set_back_after_a_rotation_causes_no_second_rotation() {
    let stage = Stage::new(Some("100h"), "1h");
    assert_eq!(stage.after(100), ROTATED);
    let active = stage.active();
    assert_eq!(stage.after(-50), NOTHING);
    assert_eq!(stage.after(-49), NOTHING, "it is hardly older than the pair of before");
    assert_eq!(stage.after(99), NOTHING, "the same moment comes again");
    assert_eq!(stage.after(89), ["Revoked"], "and the pair of before has ended meanwhile");
    assert_eq!(stage.active(), active);
    assert_eq!(stage.after(11), ROTATED);
}

#[test]
fn a_jump_over_many_intervals_is_one_rotation() {
    let stage = Stage::new(Some("100h"), "10h");
    let first = stage.active();
    assert_eq!(stage.after(1000), ROTATED);
    assert_eq!(stage.retiring(), [(first, 1010)], "the pair of before has its whole overlap");
    assert_eq!(stage.after(0), NOTHING);
    assert_eq!(stage.after(-1000), NOTHING, "and none is made up for when the clock is put right");
}

#[test]
fn a_clock_set_back_ends_no_overlap_early_and_restores_no_key_pair() {
    let mut stage = Stage::new(None, "10h");
    let first = stage.active();
    assert_eq!(stage.after(100), NOTHING);
    stage.ask("one");
    assert_eq!(stage.reconcile(), ROTATED);
    for hours in [-90, 80, 19] {
        assert_eq!(stage.after(hours), NOTHING);
        assert_eq!(stage.retiring(), [(first, 110)]);
    }
    assert_eq!(stage.after(1), ["Revoked"]);
    assert_eq!(stage.after(-5), NOTHING, "what was revoked stays so");
    assert_eq!(stage.retiring(), []);
}

#[test]
fn an_unobserved_expiry_counts_again_after_the_clock_was_set_back() {
    let mut stage = Stage::new(None, "10h");
    let first = stage.active();
    stage.ask("one");
    assert_eq!(stage.reconcile(), ROTATED);
    stage.clock.move_by(20);
    assert_eq!(stage.after(-15), NOTHING, "by the clock, it has five hours yet");
    assert_eq!(stage.retiring(), [(first, 10)]);
    assert_eq!(stage.after(5), ["Revoked"]);
}

#[test]
fn a_key_pair_generated_after_the_clock_was_set_back_is_active() {
    let mut stage = Stage::new(Some("100h"), "10h");
    stage.clock.move_by(-50);
    let first = stage.active();
    stage.ask("one");
    assert_eq!(stage.reconcile(), ROTATED);
    assert_ne!(stage.active(), first);
    assert_eq!(stage.account().keys[0].id, first, "the database reads the pair first that looks newer");
    assert_eq!(stage.after(9), NOTHING);
    assert_eq!(stage.after(1), ["Revoked"]);
    let second = stage.active();
    assert_eq!(stage.after(79), NOTHING, "it is due a hundred hours after it was made, by the clock of then");
    assert_eq!(stage.active(), second);
    assert_eq!(stage.after(11), ROTATED);
}

#[test]
fn a_leaked_key_pair_is_revoked_at_once_at_any_time() {
    let mut stage = Stage::new(None, "0s");
    let first = stage.active();
    stage.clock.move_by(-1000);
    stage.ask("leaked");
    assert_eq!(stage.reconcile(), ROTATED);
    assert_eq!((stage.account().keys.len(), stage.retiring()), (1, vec![]));
    assert_ne!(stage.active(), first);
    assert_eq!(stage.after(1000), NOTHING);
}

#[test]
fn requested_rotations_while_the_clock_jumps_leave_three_key_pairs_with_the_newest() {
    let mut stage = Stage::new(None, "24h");
    for (trigger, hours) in [("a", 0), ("b", -5), ("c", 3), ("d", -9), ("e", 7)] {
        let before = stage.active();
        stage.clock.move_by(hours);
        stage.ask(trigger);
        assert_eq!(stage.reconcile(), ROTATED);
        assert!(stage.retiring().iter().any(|(id, _)| *id == before), "{trigger}");
        assert!(stage.account().keys.len() <= 3, "{trigger}");
    }
}

/// Drift and a suspension are reported, and do not change the time of the next reconcile.
#[test]
fn a_resource_that_only_observes_waits_for_an_expiry_but_not_for_an_overdue_rotation() {
    for (is_drifted, is_suspended) in [(false, false), (true, false), (false, true)] {
        let mut stage = Stage::new(Some("100h"), "10h");
        stage.ask("one");
        assert_eq!(stage.reconcile(), ROTATED);
        stage.desired.management = ManagementPolicy::Observe;
        stage.desired.settings.enabled = !is_drifted;
        let suspension = Suspension { since: Timestamp::UNIX_EPOCH, reason: "unpaid".to_owned() };
        lock(&stage.accounts.rows)[0].suspension = is_suspended.then_some(suspension);
        for (hours, next, keys) in [(0, Some(10), 2), (9, Some(10), 2), (1, None, 1), (490, None, 1)] {
            let now = stage.clock.move_by(hours);
            let outcome = run(stage.reconciler.reconcile(&stage.desired, None, None));
            assert_eq!(outcome.not_ready.is_some(), is_drifted || is_suspended);
            assert_eq!((outcome.done.len(), outcome.next_rotation), (0, None));
            assert_eq!(outcome.next_reconcile.map(|next| next.as_second() / 3600), next, "at {now}");
            assert!(outcome.secret_version.is_some(), "the Secret is as declared");
            let told = status(Some(1), "s", &outcome, None, now);
            assert_eq!(told.keys.len(), keys, "those that authenticate at {now}");
        }
    }
}
