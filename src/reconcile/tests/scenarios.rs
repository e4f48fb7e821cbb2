//! Tests of single scenarios that the property tests rarely reach: lost answers, races, deletions.

use super::generators::{keyring, owner, reconciler, reconciler_with_clock, run};
use super::memory::{Accounts, Fault, Secrets, lock};
use crate::account::{
    Account, AccountId, AccountName, AllowedIps, ApiKey, Description, KeyId, KeyPair, KeyState, Life, Period,
    RotationPolicy, RotationRequests, SecretKey, Settings, StoredKey, samples,
};
use crate::api::{AdoptionPolicy, ApiAccount, ApiAccountSpec, ApiAccountStatus, ManagementPolicy, Reason};
use crate::database::DatabaseError;
use crate::reconcile::{
    Deletion, DeletionPolicy, Desired, Done, History, Known, NotReady, Outcome, Reconciler, Verified, status,
};
use crate::secrets::directory::Directory;
use crate::secrets::{ResourceIdentity, SecretLayout, SecretRef};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub fn desired() -> Desired {
    Desired {
        owner: owner("acme"),
        uid: Some("u".to_owned()),
        generation: Some(1),
        requested_by: None,
        settings: Settings {
            name: AccountName::parse("acme").unwrap(),
            description: Description::default(),
            enabled: true,
            use_refresh_token: false,
            affiliate: None,
            roles: BTreeSet::new(),
            allowed_ips: AllowedIps::any(),
        },
        declares_addresses: true,
        secret: SecretLayout {
            at: SecretRef { namespace: "ns".to_owned(), name: "s".to_owned() },
            api_key_field: "a".to_owned(),
            secret_key_field: "s".to_owned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        },
        rotation: RotationPolicy {
            interval: None,
            overlap: Period::parse("24h").unwrap(),
            requests: RotationRequests::default(),
        },
        adoption: AdoptionPolicy::Never,
        management: ManagementPolicy::Enforce,
        paused: false,
    }
}

fn identity() -> ResourceIdentity {
    desired().identity()
}

#[test]
fn a_lost_answer_is_found_by_reading_and_not_by_generating_again() {
    let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
    let reconciler = reconciler(&accounts, &secrets);
    lock(&accounts.faults).push(Fault::AnswerLost);
    let lost = run(reconciler.reconcile(&desired(), None, None));
    assert_eq!(lost.not_ready.unwrap().reason(), Reason::DatabaseUnavailable);
    let made = lock(&accounts.rows)[0].clone();

    let outcome = run(reconciler.reconcile(&desired(), None, None));
    assert!(outcome.not_ready.is_none());
    assert_eq!(lock(&accounts.rows).as_slice(), std::slice::from_ref(&made));
    let key = made.active_key().unwrap();
    let secret_key = keyring().open(made.id, key.id, &key.sealed).unwrap();
    let secret = lock(&secrets.objects).values().next().unwrap().clone();
    assert_eq!(secret.data.unwrap()["s"].0, secret_key.expose().as_bytes());
}

#[test]
fn a_failed_change_is_made_later() {
    let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
    let reconciler = reconciler(&accounts, &secrets);
    lock(&accounts.faults).push(Fault::NotMade);
    assert!(run(reconciler.reconcile(&desired(), None, None)).not_ready.is_some());
    assert!(lock(&secrets.objects).is_empty(), "database first, then Secret");
    assert!(run(reconciler.reconcile(&desired(), None, None)).not_ready.is_none());
}

#[test]
fn a_stale_bulk_read_is_noticed_by_its_version() {
    let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
    let reconciler = reconciler(&accounts, &secrets);
    run(reconciler.reconcile(&desired(), None, None));
    let stale = lock(&accounts.rows)[0].clone();
    let mut changed = desired();
    changed.settings.use_refresh_token = true;
    run(reconciler.reconcile(&changed, None, None));
    let mut other = changed.clone();
    other.settings.enabled = false;
    let outcome = run(reconciler.reconcile(&other, None, Some(stale)));
    assert!(outcome.not_ready.is_none());
    assert!(matches!(&outcome.done[..], [Done::Updated { changes }] if changes.len() == 1), "{:?}", outcome.done);
    assert!(!lock(&accounts.rows)[0].settings.enabled && lock(&accounts.rows)[0].settings.use_refresh_token);
}

#[test]
fn an_account_that_a_bulk_read_did_not_find_is_not_read_again_and_is_noticed_if_it_was_made_since() {
    let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
    let reconciler = reconciler(&accounts, &secrets);
    let reconcile =
        |desired: &Desired| run(reconciler.reconcile_with(&History::default(), desired, None, Known::NoAccount));
    let outcome = reconcile(&desired());
    assert!(outcome.not_ready.is_none());
    assert_eq!(*lock(&accounts.searches), 0, "the bulk read said that there is none");

    let disabled = Desired { settings: Settings { enabled: false, ..desired().settings }, ..desired() };
    let outcome = reconcile(&disabled);
    assert!(outcome.not_ready.is_none());
    assert!(matches!(&outcome.done[..], [Done::Updated { changes }] if changes.len() == 1), "{:?}", outcome.done);

    let observing = Desired { management: ManagementPolicy::Observe, ..disabled };
    let outcome = reconcile(&observing);
    assert!(outcome.not_ready.is_none(), "{:?}", outcome.not_ready);
}

#[test]
fn only_a_spec_that_was_reconciled_before_can_drift() {
    let reason = |generation: i64, outcome: &Outcome| {
        let previous = status(Some(2), "s", outcome, None, Timestamp::UNIX_EPOCH);
        let done = vec![Done::Updated { changes: Vec::new() }, Done::Disabled];
        let told = Outcome { done, ..Outcome::default() }.attribute_drift(Some(&previous), Some(generation));
        told.done.iter().map(Done::reason).collect::<Vec<_>>()
    };
    assert_eq!(reason(2, &Outcome::default()), ["DriftCorrected", "Disabled"]);
    assert_eq!(reason(3, &Outcome::default()), ["Updated", "Disabled"], "another spec");
    let refused = Outcome::blocked(NotReady::Contended);
    assert_eq!(reason(2, &refused), ["Updated", "Disabled"], "never done before");
    let first = Outcome { done: vec![Done::Updated { changes: Vec::new() }], ..Outcome::default() };
    assert_eq!(first.attribute_drift(None, None).done[0].reason(), "Updated");
}

#[test]
fn an_account_without_keys_gets_no_new_keys_without_a_request() {
    let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
    let reconciler = reconciler(&accounts, &secrets);
    run(reconciler.reconcile(&desired(), None, None));
    lock(&accounts.rows)[0].keys.clear();
    lock(&secrets.objects).clear();
    let outcome = run(reconciler.reconcile(&desired(), None, None));
    assert!(matches!(outcome.not_ready, Some(NotReady::NoKeys { .. })));
}

#[test]
fn lost_keys_are_restored_from_the_accounts_own_secret() {
    let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
    let reconciler = reconciler(&accounts, &secrets);
    run(reconciler.reconcile(&desired(), None, None));
    let before = lock(&secrets.objects).clone();
    let api_key = lock(&accounts.rows)[0].keys[0].api_key.clone();
    lock(&accounts.rows)[0].keys.clear();
    let mut disabled = desired();
    disabled.settings.enabled = false;
    let outcome = run(reconciler.reconcile(&disabled, None, None));
    assert!(outcome.not_ready.is_none());
    let done: Vec<_> = outcome.done.iter().map(Done::reason).collect();
    assert_eq!(done, ["Updated", "KeyRestored"]);
    assert_eq!(*lock(&secrets.objects), before, "nothing is written to a Secret that is right");
    assert_eq!(lock(&accounts.rows)[0].active_key().unwrap().api_key, api_key);
}

#[test]
fn keys_of_another_account_are_not_taken_and_do_not_prevent_revocation() {
    let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
    let reconciler = reconciler(&accounts, &secrets);
    run(reconciler.reconcile(&desired(), None, None));
    let mut thief = lock(&accounts.rows)[0].clone();
    thief.id = crate::account::AccountId::from_random([9; 16]);
    thief.owner = Some(owner("other"));
    lock(&accounts.rows)[0].keys.clear();
    lock(&accounts.rows).push(thief.clone());
    let mut disabled = desired();
    disabled.settings.enabled = false;
    disabled.settings.name = AccountName::parse("renamed").unwrap();
    let outcome = run(reconciler.reconcile(&disabled, None, None));
    assert!(matches!(outcome.not_ready, Some(NotReady::KeyTaken { .. })), "{:?}", outcome.not_ready);
    let rows = lock(&accounts.rows);
    assert!(rows.iter().any(|row| row.owner == Some(owner("acme")) && !row.settings.enabled && row.keys.is_empty()));
    assert!(rows.contains(&thief));
}

#[test]
fn a_retired_key_pair_is_not_restored() {
    let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
    let reconciler = reconciler(&accounts, &secrets);
    run(reconciler.reconcile(&desired(), None, None));
    lock(&accounts.rows)[0].keys[0].state = KeyState::Retiring { expires: Timestamp::UNIX_EPOCH };
    let outcome = run(reconciler.reconcile(&desired(), None, None));
    assert!(matches!(outcome.not_ready, Some(NotReady::NoKeys { .. })), "{:?}", outcome.not_ready);
    assert_eq!(lock(&accounts.rows)[0].keys.len(), 1);
}

#[test]
fn a_deletion_needs_neither_the_secret_nor_a_valid_spec_and_happens_once() {
    let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
    let reconciler = reconciler(&accounts, &secrets);
    run(reconciler.reconcile(&desired(), None, None));
    lock(&secrets.objects).clear();
    let outcome = run(reconciler.delete(Deletion::of(&identity()), DeletionPolicy::Delete));
    assert_eq!((outcome.not_ready.is_none(), &outcome.done[..]), (true, &[Done::Disabled][..]));
    assert!(!lock(&accounts.rows)[0].settings.enabled);
    let again = run(reconciler.delete(Deletion::of(&identity()), DeletionPolicy::Delete));
    assert_eq!(again.done, []);
    let never_made = ResourceIdentity { owner: owner("never"), uid: None };
    assert!(run(reconciler.delete(Deletion::of(&never_made), DeletionPolicy::Delete)).not_ready.is_none());
}

#[test]
fn a_deletion_that_did_not_reach_the_database_is_not_complete() {
    let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
    let reconciler = reconciler(&accounts, &secrets);
    run(reconciler.reconcile(&desired(), None, None));
    lock(&accounts.faults).push(Fault::NotMade);
    let outcome = run(reconciler.delete(Deletion::of(&identity()), DeletionPolicy::Delete));
    assert!(matches!(outcome.not_ready, Some(NotReady::Database(DatabaseError::Unavailable { .. }))));
}

#[test]
fn a_retained_account_is_left_as_it_is() {
    let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
    let reconciler = reconciler(&accounts, &secrets);
    run(reconciler.reconcile(&desired(), None, None));
    let before = lock(&accounts.rows)[0].clone();
    run(reconciler.delete(Deletion::of(&identity()), DeletionPolicy::Retain));
    let after = lock(&accounts.rows)[0].clone();
    assert!(matches!(after.life, Life::Retained { .. }));
    assert_eq!((after.settings, after.keys), (before.settings, before.keys));
    let secret = lock(&secrets.objects).values().next().unwrap().clone();
    assert_eq!(secret.metadata.owner_references, None);
}

#[test]
fn an_outcome_names_what_a_rename_a_deletion_and_a_retention_set_free() {
    for policy in [DeletionPolicy::Delete, DeletionPolicy::Retain] {
        let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
        let reconciler = reconciler(&accounts, &secrets);
        let mut desired = desired();
        let before = desired.settings.name.as_str().to_owned();
        assert_eq!(run(reconciler.reconcile(&desired, None, None)).released_names, [""; 0]);
        desired.settings.name = AccountName::parse("renamed").unwrap();
        assert_eq!(run(reconciler.reconcile(&desired, None, None)).released_names, [before]);
        assert_eq!(run(reconciler.reconcile(&desired, None, None)).released_names, [""; 0]);
        let deleted = run(reconciler.delete(Deletion::of(&identity()), policy));
        assert_eq!(deleted.released_names, ["renamed"], "{policy:?}");
    }
}

#[test]
fn an_invalid_spec_names_every_wrong_field() {
    let mut resource = ApiAccount::new("acme", ApiAccountSpec::default());
    resource.spec.name = Some(" ".to_owned());
    resource.spec.allowed_ips = Some(["10.0.0.1/8", "1.2.3.4", "1.2.3.4"].map(str::to_owned).to_vec());
    resource.spec.roles = vec!["Admin".to_owned()];
    resource.spec.secret.keys.api_key = "OPSADMIN_SECRET_KEY".to_owned();
    let invalid = Desired::parse(&resource, &owner("acme").cluster).unwrap_err();
    let fields: Vec<_> = invalid.errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["spec.name", "spec.roles[0]", "spec.allowedIPs[0]", "spec.allowedIPs[2]", "spec.secret.keys"]);
}

#[test]
fn conditions_follow_kstatus_and_keep_their_times() {
    let (before, later) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
    let shown = |status: &crate::api::ApiAccountStatus| -> Vec<String> {
        status.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect()
    };
    let ready = status(Some(1), "s", &Outcome::default(), None, before);
    assert_eq!(shown(&ready), ["Ready=True Reconciled"]);

    let away = Outcome::blocked(NotReady::Database(DatabaseError::Unavailable { reason: "gone".to_owned() }));
    let away = status(Some(2), "s", &away, Some(&ready), later);
    assert_eq!(shown(&away), ["Ready=Unknown DatabaseUnavailable", "Reconciling=True DatabaseUnavailable"]);
    assert_eq!(away.observed_generation, Some(2));
    assert_eq!(away.secret_name, ready.secret_name, "what was said before still stands");

    let name = AccountName::parse("acme").unwrap();
    let taken = Outcome::blocked(NotReady::NameTaken { name, holder: "somebody".to_owned() });
    let taken = status(Some(2), "s", &taken, Some(&away), later);
    assert_eq!(shown(&taken), ["Ready=False NameTaken", "Stalled=True NameTaken"]);

    let still = status(Some(2), "s", &Outcome::default(), Some(&ready), later);
    assert_eq!(still.conditions[0].last_transition_time.0, before, "no transition, no new time");
}

/// The old Secret still exists, in the version that was verified.
#[test]
fn a_secret_that_could_not_be_written_after_a_rotation_is_written_later() {
    // The clock may have been set back, so the rotation may be later or earlier than the creation of the old key pair.
    for hours in [1, -1] {
        let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
        let (reconciler, clock) = reconciler_with_clock(&accounts, &secrets);
        let reconcile = |previous: Option<&ApiAccountStatus>, asked: &str| {
            let mut desired = desired();
            desired.rotation.requests.annotation = Some(asked.to_owned());
            let verified = previous.and_then(Verified::of);
            let outcome = run(reconciler.reconcile(&desired, verified.as_ref(), None));
            status(Some(1), "s", &outcome, previous, Timestamp::UNIX_EPOCH)
        };
        let ready = reconcile(None, "before");
        clock.move_by(hours);
        *lock(&secrets.refusing) = true;
        let refused = reconcile(Some(&ready), "leaked");
        assert_eq!(refused.conditions[0].reason, "SecretUnavailable");
        assert_ne!(refused.active_key(), ready.active_key());
        *lock(&secrets.refusing) = false;
        let at_last = reconcile(Some(&refused), "leaked");
        assert_eq!(at_last.conditions[0].reason, "Reconciled");
        assert_eq!(at_last.active_key(), refused.active_key());
        let secret = lock(&secrets.objects).values().next().unwrap().clone();
        let api_key = at_last.active_key().unwrap().api_key.clone();
        assert_eq!(secret.data.unwrap()["a"].0, api_key.into_bytes());
    }
}

/// A resource that is declared again has a new trigger: its Secret is written, and then its keys are rotated.
#[test]
fn a_secret_with_the_old_key_pair_is_not_reported_as_verified() {
    let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
    let reconciler = reconciler(&accounts, &secrets);
    run(reconciler.reconcile(&desired(), None, None));
    run(reconciler.delete(Deletion::of(&identity()), DeletionPolicy::Delete));
    lock(&secrets.objects).clear();
    *lock(&secrets.refusing) = true;
    let mut again = desired();
    again.rotation.requests.trigger = Some("new".to_owned());
    let outcome = run(reconciler.reconcile(&again, None, None));
    let done: Vec<_> = outcome.done.iter().map(Done::reason).collect();
    assert_eq!(done, ["Restored", "SecretWritten", "Rotated"]);
    assert_eq!(outcome.not_ready.unwrap().reason(), Reason::SecretUnavailable);
    assert_eq!(outcome.secret_version, None);
}

#[test]
fn a_secret_verified_for_another_spec_is_not_verified_for_this_spec() {
    let now = Timestamp::UNIX_EPOCH;
    let ready = Outcome { secret_version: Some("7".to_owned()), ..Outcome::default() };
    let before = status(Some(1), "s", &ready, None, now);
    let refused = || Outcome::blocked(NotReady::Contended);
    let same = status(Some(1), "s", &refused(), Some(&before), now);
    assert_eq!(same.secret_resource_version.as_deref(), Some("7"));
    let next = status(Some(2), "s", &refused(), Some(&before), now);
    assert_eq!(next.secret_resource_version, None);
}

#[test]
fn a_secret_that_another_program_deleted_is_not_reported_as_removed() {
    let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
    let folder = tempfile::tempdir().unwrap();
    let directory = Arc::new(Directory::open(folder.path()).unwrap());
    let reconciler = Reconciler { secrets: directory, ..reconciler(&accounts, &secrets) };
    let mut moved = Desired { uid: None, ..desired() };
    run(reconciler.reconcile(&moved, None, None));
    moved.secret.at.name = "t".to_owned();
    std::fs::remove_file(folder.path().join("ns.s.yaml")).unwrap();
    let outcome = run(reconciler.reconcile(&moved, None, None));
    assert_eq!(outcome.done, [Done::SecretWritten(moved.secret.at.clone())]);
    std::fs::remove_file(folder.path().join("ns.t.yaml")).unwrap();
    assert_eq!(run(reconciler.delete(Deletion::of(&moved.identity()), DeletionPolicy::Delete)).done, [Done::Disabled]);
}

/// A key pair that another program created with a secret key of this many characters, as imported.
fn imported_key(characters: usize) -> StoredKey {
    let pair = KeyPair {
        id: KeyId::from_random([9; 16]),
        api_key: ApiKey::imported("legacy-key").unwrap(),
        secret_key: SecretKey::imported(&"x".repeat(characters)).unwrap(),
    };
    let id = AccountId::from_random([5; 16]);
    let sealed = keyring().seal(id, pair.id, &pair.secret_key, [7; 12]);
    StoredKey { id: pair.id, api_key: pair.api_key, sealed, state: KeyState::Active, created: Timestamp::UNIX_EPOCH }
}

#[test]
fn a_secret_key_that_is_too_short_to_log_in_is_reported_until_a_rotation() {
    let with =
        |keys: Vec<StoredKey>| Outcome { account: Some(Account { keys, ..samples::account() }), ..Outcome::default() };
    let of = |outcome: &Outcome, previous: Option<&ApiAccountStatus>| {
        status(Some(1), "s", outcome, previous, Timestamp::UNIX_EPOCH)
    };
    let told = |status: &ApiAccountStatus| -> Vec<String> {
        status.conditions.iter().map(|found| format!("{}={}/{}", found.type_, found.status, found.reason)).collect()
    };
    let ready = "Ready=True/Reconciled";
    assert_eq!(told(&of(&with(vec![imported_key(32)]), None)), [ready]);
    let short = of(&with(vec![imported_key(31)]), None);
    assert_eq!(told(&short), [ready, "CannotLogIn=True/SecretKeyTooShort"]);
    assert_eq!(of(&with(vec![imported_key(31)]), Some(&short)), short, "it is told once");

    let away = DatabaseError::Unavailable { reason: "gone".to_owned() };
    let away = of(&Outcome::blocked(NotReady::Database(away)), Some(&short));
    assert_eq!(told(&away).last().unwrap(), "CannotLogIn=True/SecretKeyTooShort");
    let retiring = KeyState::Retiring { expires: Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1) };
    let rotated = vec![imported_key(43), StoredKey { state: retiring, ..imported_key(31) }];
    assert_eq!(told(&of(&with(rotated), Some(&away))), [ready]);
}
