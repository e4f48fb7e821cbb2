//! Property tests of the reconciler, for any desired and any observed state.

use super::generators::{
    account, at, desired, everything, is_foreign, keyring, keys_of, life, owner, reconciler, reconciler_at,
    reconciler_with_clock, row, run, stored, texts, world,
};
use super::memory::lock;
use crate::account::{
    Account, AllowedIps, KeyState, Life, MAX_LIVE_KEY_PAIRS, RotationRequests, StoredSettings, expired, rotation_reason,
};
use crate::api::{AdoptionPolicy, ManagementPolicy};
use crate::reconcile::{
    Desired, Done, History, Known, NotReady, Observed, ObservedSecret, Outcome, SecretPlan, Verified, plan, status,
};
use crate::secrets::{FoundSecret, SecretRef};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeMap;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// One reconcile makes everything as declared or reports why not. The next reconcile changes nothing.
    #[test]
    fn a_second_reconcile_changes_nothing(desired in desired(), (accounts, secrets) in world(), hours in 0i64..5) {
        let reconciler = reconciler_at(&accounts, &secrets, hours);
        let outcome = run(reconciler.reconcile(&desired, None, None));
        let after = everything(&accounts, &secrets);
        let again = run(reconciler.reconcile(&desired, None, None));
        prop_assert_eq!(&again.done, &[]);
        prop_assert_eq!(everything(&accounts, &secrets), after);
        prop_assert_eq!(outcome.not_ready.map(|r| r.to_string()), again.not_ready.map(|r| r.to_string()));
    }

    /// If the resource is Ready, the account and the Secret are exactly as declared.
    #[test]
    fn a_ready_resource_is_as_declared(desired in desired(), (accounts, secrets) in world()) {
        let outcome = run(reconciler(&accounts, &secrets).reconcile(&desired, None, None));
        if outcome.not_ready.is_some() {
            return Ok(());
        }
        let account = run(reconciler(&accounts, &secrets).database.find_by_owner(&desired.owner)).unwrap().unwrap();
        prop_assert_eq!(account.life, Life::Live);
        prop_assert_eq!(account.settings, StoredSettings::from(&desired.settings));
        let (_, api_key, secret_key) = keys_of(&accounts, "acme").unwrap();
        let secret = lock(&secrets.objects)[&desired.secret.at].clone();
        let expected = BTreeMap::from([
            (desired.secret.api_key_field.clone(), api_key),
            (desired.secret.secret_key_field.clone(), secret_key),
        ]);
        prop_assert_eq!(texts(&secret), expected);
        let labels = secret.metadata.labels.unwrap();
        prop_assert!(desired.secret.labels.iter().all(|(name, value)| labels.get(name) == Some(value)));
    }

    /// Keys change only when a rotation was requested, or when neither the database nor the resource's own Secret has
    /// keys. A key pair that the database lost is restored from the Secret, unless another account uses it. An existing
    /// account gets no other key pair.
    #[test]
    fn keys_change_only_on_request_or_when_there_are_none(
        desired in desired(), (accounts, secrets) in world(), hours in 0i64..5,
    ) {
        let find = || run(reconciler(&accounts, &secrets).database.find_by_owner(&desired.owner)).unwrap();
        let (account, before) = (find(), keys_of(&accounts, "acme"));
        let known: Vec<String> = lock(&accounts.rows)
            .iter()
            .flat_map(|row| &row.keys)
            .map(|key| key.api_key.as_str().to_owned())
            .collect();
        let at_place = lock(&secrets.objects).get(&desired.secret.at).cloned();
        let in_secret = at_place
            .filter(|secret| !is_foreign(secret) && !lock(&secrets.unseen).contains(&desired.secret.at))
            .map(|secret| FoundSecret::new(desired.secret.at.clone(), secret))
            .and_then(|found| {
                let (api_key, secret_key) = found.keys()?;
                let is_proven = keyring().verifies_mark(found.mark(), &owner("acme"), &api_key, &secret_key);
                Some((api_key, secret_key, is_proven))
            });
        let outcome = run(reconciler_at(&accounts, &secrets, hours).reconcile(&desired, None, None));
        prop_assume!(!outcome.done.contains(&Done::Adopted));
        let after = keys_of(&accounts, "acme");
        let now = Timestamp::from_second(hours * 3600).unwrap();
        match (account, before, in_secret) {
            (Some(account), Some(before), _) => {
                let asked = rotation_reason(&desired.rotation, &account, now).is_some();
                if !asked {
                    prop_assert_eq!(after, Some(before));
                } else if !desired.rotation.overlap.is_zero() {
                    let kept = find().unwrap().keys.into_iter().any(|key| key.id == before.0);
                    prop_assert!(kept, "the old pair goes on working for the overlap");
                }
            }
            (account, None, Some((_, _, false))) => {
                prop_assert!(outcome.not_ready.is_some());
                prop_assert!(after.is_none() && account.is_some() == find().is_some(), "nobody believes these keys");
            }
            (_, None, Some((api_key, _, _))) if known.iter().any(|known| known == api_key.as_str()) => {
                prop_assert_eq!(after, None);
                prop_assert!(outcome.not_ready.is_some());
            }
            (_, None, Some((api_key, secret_key, _))) => match after {
                Some((_, api, secret)) => {
                    let may_rotate = desired.rotation.interval.is_some() || desired.rotation.requests != RotationRequests::default();
                    let given_back = (api.as_str(), secret.as_str()) == (api_key.as_str(), secret_key.expose());
                    prop_assert!(given_back || may_rotate);
                }
                None => prop_assert!(outcome.not_ready.is_some(), "it is given back, or something else is in the way"),
            },
            (Some(_), None, None) if !lock(&secrets.objects).contains_key(&desired.secret.at) => {
                prop_assert_eq!(after, None);
            }
            _ => {}
        }
    }

    /// However often a rotation is requested, an account has few key pairs, and the newest is in the Secret.
    #[test]
    fn key_pairs_stay_few(desired in desired(), (accounts, secrets) in world(), steps in vec((0i64..3, "[a-c]"), 1..12)) {
        let (reconciler, clock) = reconciler_with_clock(&accounts, &secrets);
        let mut desired = desired;
        for (hours, trigger) in steps {
            let later = clock.move_by(hours);
            desired.rotation.requests.trigger = Some(trigger);
            let outcome = run(reconciler.reconcile(&desired, None, None));
            let Some(account) = outcome.account.filter(|_| outcome.not_ready.is_none()) else {
                return Ok(());
            };
            prop_assert!(account.keys.len() <= MAX_LIVE_KEY_PAIRS, "{:?}", account.keys);
            prop_assert_eq!(account.keys.iter().filter(|key| key.state == KeyState::Active).count(), 1);
            prop_assert!(expired(&account, later).is_empty());
            let (_, api_key, _) = keys_of(&accounts, "acme").unwrap();
            let secret = lock(&secrets.objects)[&desired.secret.at].clone();
            prop_assert_eq!(&texts(&secret)[&desired.secret.api_key_field], &api_key);
        }
    }

    /// For a resource that only observes, differences are reported and nothing is changed.
    #[test]
    fn observing_changes_nothing(desired in desired(), (accounts, secrets) in world(), hours in 0i64..5) {
        let observed = Desired { management: ManagementPolicy::Observe, ..desired };
        let before = everything(&accounts, &secrets);
        let outcome = run(reconciler_at(&accounts, &secrets, hours).reconcile(&observed, None, None));
        prop_assert_eq!(everything(&accounts, &secrets), before);
        prop_assert_eq!(outcome.drift.is_empty(), outcome.not_ready.is_none());
    }

    /// A frozen controller changes nothing. If it reports nothing that is left to do, a reconcile does nothing either,
    /// except that it removes expired key pairs.
    #[test]
    fn a_frozen_controller_changes_nothing_and_leaves_nothing_out(
        desired in desired(), (accounts, secrets) in world(), hours in 0i64..5,
    ) {
        let before = everything(&accounts, &secrets);
        let reported = run(reconciler_at(&accounts, &secrets, hours).report_frozen(&History::default(), &desired, None, Known::Nothing));
        prop_assert_eq!(everything(&accounts, &secrets), before);
        prop_assert_eq!(reported.done, []);
        let is_pending = matches!(reported.not_ready, Some(NotReady::Frozen { .. }));
        let reconciled = run(reconciler_at(&accounts, &secrets, hours).reconcile(&desired, None, None));
        let is_left_out = |done: &Done| !is_pending && !matches!(done, Done::Revoked(_));
        prop_assert!(!reconciled.done.iter().any(is_left_out), "{:?} {:?}", reported.not_ready, reconciled.done);
    }

    /// Foreign Secrets and accounts of other owners are not changed.
    #[test]
    fn foreign_secrets_and_accounts_are_not_changed(desired in desired(), (accounts, secrets) in world()) {
        let foreign = |(rows, objects): (Vec<Account>, BTreeMap<SecretRef, Secret>)| {
            let may_be_adopted = |row: &Account| {
                desired.adoption == AdoptionPolicy::IfUnowned && (row.owner.is_none() || row.life != Life::Live)
            };
            let rows = rows.into_iter().filter(|row| row.owner != Some(owner("acme")) && !may_be_adopted(row));
            let rows: Vec<_> = rows.collect();
            let objects: BTreeMap<_, _> = objects.into_iter().filter(|(_, secret)| is_foreign(secret)).collect();
            (rows, objects)
        };
        let before = foreign(everything(&accounts, &secrets));
        run(reconciler(&accounts, &secrets).reconcile(&desired, None, None));
        prop_assert_eq!(foreign(everything(&accounts, &secrets)), before);
    }

    /// A plan never changes a foreign Secret.
    #[test]
    fn a_foreign_secret_is_never_in_a_plan(desired in desired(), own in option::of((life(), stored(), row())), stale_secrets in vec("s[3-5]", 0..3)) {
        let account = own.map(|(life, settings, row)| account(1, Some(owner("acme")), life, settings, row));
        let stale_secrets = stale_secrets.iter().map(|name| at(name)).collect();
        let secret = ObservedSecret::Foreign { holder: "them".to_owned() };
        let plan = plan(&desired, &Observed { account, secret, stale_secrets }, Timestamp::UNIX_EPOCH);
        prop_assert_eq!(plan.secret, SecretPlan::Refuse { holder: "them".to_owned() });
        prop_assert!(plan.remove.is_empty(), "the keys would be nowhere");
    }

    /// A refusal never widens access: each account is set as it was before or as declared.
    #[test]
    fn a_refused_account_is_set_as_it_was_or_as_declared(desired in desired(), (accounts, secrets) in world()) {
        let before = lock(&accounts.rows).clone();
        let outcome = run(reconciler(&accounts, &secrets).reconcile(&desired, None, None));
        let after = lock(&accounts.rows).clone();
        let is_as_it_was = |row: &Account| before.iter().any(|was| was.id == row.id && was.settings == row.settings);
        let is_as_declared = |row: &Account| row.settings == StoredSettings::from(&desired.settings);
        prop_assert!(after.iter().all(|row| is_as_it_was(row) || is_as_declared(row)));
        if matches!(outcome.not_ready, Some(NotReady::NameTaken { .. } | NotReady::UnknownAffiliate { .. })) {
            prop_assert!(after.iter().all(is_as_it_was));
        }
    }

    /// A resource that declares no addresses never makes an account usable from more addresses. Everything else is
    /// done, and the status reports that the list was kept.
    #[test]
    fn an_address_list_that_the_spec_leaves_out_is_kept(desired in desired(), (accounts, secrets) in world()) {
        let mut silent = Desired { declares_addresses: false, ..desired };
        silent.settings.allowed_ips = AllowedIps::any();
        let before = lock(&accounts.rows).clone();
        let outcome = run(reconciler(&accounts, &secrets).reconcile(&silent, None, None));
        for row in &*lock(&accounts.rows) {
            let Some(was) = before.iter().find(|was| was.id == row.id) else { continue };
            prop_assert_eq!(row.settings.any_ip, was.settings.any_ip);
            prop_assert!(row.settings.allowed_ips.is_subset(&was.settings.allowed_ips));
        }
        if let Some(NotReady::AllowedIpsMissing { .. }) = outcome.not_ready {
            let account = outcome.account.unwrap();
            prop_assert!(!account.settings.any_ip);
            let declared = StoredSettings::from(&silent.settings);
            let kept = StoredSettings { any_ip: false, allowed_ips: account.settings.allowed_ips.clone(), ..declared };
            prop_assert_eq!(account.settings, kept);
        } else if outcome.not_ready.is_none() {
            prop_assert!(outcome.account.unwrap().settings.any_ip);
        }
    }

    /// A Secret that the status says was verified is not read again, but any later edit is still corrected.
    #[test]
    fn a_verified_secret_is_not_read_until_it_changes(desired in desired(), (accounts, secrets) in world(), edit in "api|secret|extra") {
        let reconciler = reconciler(&accounts, &secrets);
        let outcome = run(reconciler.reconcile(&desired, None, None));
        if outcome.not_ready.is_some() {
            return Ok(());
        }
        let said = status(desired.generation, &desired.secret.at.name, &outcome, None, Timestamp::UNIX_EPOCH);
        let verified = Verified::of(&said);
        prop_assert!(verified.is_some());
        let good = lock(&secrets.objects)[&desired.secret.at].clone();
        let again = run(reconciler.reconcile(&desired, verified.as_ref(), None));
        let said_again = status(desired.generation, &desired.secret.at.name, &again, Some(&said), Timestamp::UNIX_EPOCH);
        prop_assert_eq!(said_again, said, "nothing new, so nothing is written");

        let mut edited = good.clone();
        edited.data.get_or_insert_default().insert(edit, ByteString(b"edited".to_vec()));
        secrets.put(&desired.secret.at, edited);
        let put_back = run(reconciler.reconcile(&desired, verified.as_ref(), None));
        prop_assert!(put_back.not_ready.is_none());
        prop_assert_eq!(&lock(&secrets.objects)[&desired.secret.at].data, &good.data);
    }

    /// No outcome contains a secret key in plain text.
    #[test]
    fn no_outcome_shows_a_secret_key(desired in desired(), (accounts, secrets) in world()) {
        let outcome: Outcome = run(reconciler(&accounts, &secrets).reconcile(&desired, None, None));
        let said = status(desired.generation, "s", &outcome, None, Timestamp::UNIX_EPOCH);
        let done: Vec<String> = outcome.done.iter().map(ToString::to_string).collect();
        let not_ready = outcome.not_ready.as_ref().map(ToString::to_string);
        let shown = format!("{outcome:?} {done:?} {not_ready:?} {}", serde_json::to_string(&said).unwrap());
        prop_assert!(!shown.contains("opsa_sk_"), "{}", shown);
    }
}
