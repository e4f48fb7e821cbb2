//! Tests of dry runs: a dry run changes nothing, and reports exactly what the real run then does.

use super::generators::{desired, everything, owner, reconciler_at, run, world};
use super::memory::{Accounts, lock};
use crate::account::{Life, Owner, comparable_name};
use crate::database;
use crate::reconcile::{Deletion, DeletionPolicy, Desired, Outcome, Reconciler};
use crate::run::{ApplyOrder, Batch};
use crate::secrets::{self as stores, ResourceIdentity};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Returns the reconciler with ports that keep changes in memory and write nothing.
fn rehearsing(reconciler: Reconciler) -> Reconciler {
    Reconciler {
        database: Arc::new(database::DryRunDatabase::new(Some(reconciler.database))),
        secrets: Arc::new(stores::DryRunSecrets::new(reconciler.secrets)),
        ..reconciler
    }
}

/// Returns whether the names are unique, as the real database ensures.
fn names_are_unique(accounts: &Accounts) -> bool {
    let rows = lock(&accounts.rows);
    let live = rows.iter().filter(|row| !matches!(row.life, Life::Deleted { .. }));
    let names: Vec<String> = live.map(|row| comparable_name(&row.settings.name)).collect();
    names.iter().collect::<BTreeSet<_>>().len() == names.len()
}

fn told(outcome: &Outcome) -> String {
    let not_ready = outcome.not_ready.as_ref().map(ToString::to_string);
    let account = outcome.account.clone().map(|mut account| {
        account.keys.sort_by_key(|key| key.id.to_string());
        account
    });
    format!("{:?} {not_ready:?} {:?} {account:?}", outcome.done, outcome.drift)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_dry_run_reports_what_the_real_run_does(
        first in desired(),
        second in desired(),
        (accounts, secrets) in world(),
        hours in 0i64..5,
        prune: bool,
    ) {
        prop_assume!(names_are_unique(&accounts));
        // The dry run cannot know which Secrets a lagging cache hides, so the test hides none.
        lock(&secrets.unseen).clear();
        let before = everything(&accounts, &secrets);
        let play = |reconciler: &Reconciler| {
            let mut told = vec![
                told(&run(reconciler.reconcile(&first, None, None))),
                told(&run(reconciler.reconcile(&second, None, None))),
            ];
            if prune {
                let resource = ResourceIdentity { uid: first.uid.clone(), owner: first.owner.clone() };
                told.push(self::told(&run(reconciler.delete(Deletion::of(&resource), DeletionPolicy::Delete))));
            }
            told
        };
        let rehearsed = play(&rehearsing(reconciler_at(&accounts, &secrets, hours)));
        prop_assert_eq!(everything(&accounts, &secrets), before);
        prop_assert_eq!(rehearsed, play(&reconciler_at(&accounts, &secrets, hours)));
    }

    #[test]
    fn a_dry_run_that_forgets_contents_still_finds_conflicts(
        first in desired(),
        second in desired(),
        third in desired(),
        (accounts, secrets) in world(),
        hours in 0i64..5,
    ) {
        prop_assume!(names_are_unique(&accounts));
        lock(&secrets.unseen).clear();
        let named = |name: &str, desired| Desired { owner: owner(name), uid: Some(format!("of {name}")), ..desired };
        let declared = [named("acme", first), named("other", second), named("third", third)];
        let real = reconciler_at(&accounts, &secrets, hours);
        let database = Arc::new(database::DryRunDatabase::new(Some(real.database)));
        let store = Arc::new(stores::DryRunSecrets::new(real.secrets));
        let rehearsing =
            Reconciler { database: Arc::clone(&database) as _, secrets: Arc::clone(&store) as _, ..real };
        let rehearsed: Vec<String> = declared.iter().map(|desired| {
            let told = told(&run(rehearsing.reconcile(desired, None, None)));
            database.compact();
            store.forget_contents();
            told
        }).collect();
        let real = reconciler_at(&accounts, &secrets, hours);
        let done: Vec<String> = declared.iter().map(|desired| told(&run(real.reconcile(desired, None, None)))).collect();
        prop_assert_eq!(rehearsed, done);
    }

    #[test]
    fn a_dry_run_of_a_whole_apply_reports_what_the_real_run_does(
        mut declared in vec(desired(), 1..5),
        (accounts, secrets) in world(),
        hours in 0i64..5,
        at_a_time in 1usize..4,
        first in 0usize..3,
        retain: bool,
    ) {
        prop_assume!(names_are_unique(&accounts));
        lock(&secrets.unseen).clear();
        // Among these are the owners of existing accounts. Some of them are no longer declared.
        let names = ["acme", "other", "third", "fourth", "fifth", "sixth"];
        for (desired, name) in declared.iter_mut().zip(&names[first..]) {
            (desired.owner, desired.uid) = (owner(name), Some(format!("of {name}")));
        }
        let undeclared: Vec<Owner> = names[..first].iter().map(|name| owner(name)).collect();
        let play = |reconciler: &Reconciler, settle: &dyn Fn()| {
            let (mut turns, mut all) = (ApplyOrder::new(&declared, at_a_time), Vec::new());
            while let Some(turn) = turns.next() {
                let Batch::Declared(batch) = turn else {
                    for owner in &undeclared {
                        let resource = ResourceIdentity { uid: None, owner: owner.clone() };
                        let policy = if retain { DeletionPolicy::Retain } else { DeletionPolicy::Delete };
                        let outcome = run(reconciler.delete(Deletion::of(&resource), policy));
                        turns.pruned(&outcome);
                        all.push(told(&outcome));
                    }
                    continue;
                };
                for desired in batch {
                    let outcome = run(reconciler.reconcile(desired, None, None));
                    if turns.is_final(desired, &outcome) {
                        all.push(told(&outcome));
                    }
                }
                settle();
            }
            all
        };
        let real = reconciler_at(&accounts, &secrets, hours);
        let database = Arc::new(database::DryRunDatabase::new(Some(real.database)));
        let store = Arc::new(stores::DryRunSecrets::new(real.secrets));
        let rehearsing =
            Reconciler { database: Arc::clone(&database) as _, secrets: Arc::clone(&store) as _, ..real };
        let rehearsed = play(&rehearsing, &|| {
            database.compact();
            store.forget_contents();
        });
        prop_assert_eq!(rehearsed.len(), declared.len() + undeclared.len());
        let done = play(&reconciler_at(&accounts, &secrets, hours), &|| ());
        prop_assert_eq!(rehearsed, done);
    }
}
