//! What a rehearsal says would be done is what is then done, and it does nothing itself.

use super::memory::{Accounts, lock};
use super::properties::{desired, everything, reconciler_at, run, world};
use crate::account::{Life, comparable_name};
use crate::database;
use crate::reconcile::{Outcome, Reconciler};
use crate::secrets::{self, Belonging};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The same reconciler with nothing behind it that can be written.
fn rehearsing(reconciler: Reconciler) -> Reconciler {
    Reconciler {
        database: Arc::new(database::Rehearsal::new(Some(reconciler.database))),
        secrets: Arc::new(secrets::Rehearsal::new(reconciler.secrets)),
        ..reconciler
    }
}

/// As a real database keeps them.
fn names_are_unique(accounts: &Accounts) -> bool {
    let rows = lock(&accounts.rows);
    let live = rows.iter().filter(|row| !matches!(row.life, Life::Deleted { .. }));
    let names: Vec<String> = live.map(|row| comparable_name(&row.settings.name)).collect();
    names.iter().collect::<BTreeSet<_>>().len() == names.len()
}

fn told(outcome: &Outcome) -> String {
    let refusal = outcome.refusal.as_ref().map(ToString::to_string);
    let account = outcome.account.clone().map(|mut account| {
        account.keys.sort_by_key(|key| key.id.to_string());
        account
    });
    format!("{:?} {refusal:?} {:?} {account:?}", outcome.done, outcome.drift)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_rehearsed_is_what_is_then_done(
        first in desired(),
        second in desired(),
        (accounts, secrets) in world(),
        hours in 0i64..5,
        prune: bool,
    ) {
        prop_assume!(names_are_unique(&accounts));
        // A view that lags shows a rehearsal what it shows the real one, until something is written.
        lock(&secrets.unseen).clear();
        let before = everything(&accounts, &secrets);
        let play = |reconciler: &Reconciler| {
            let mut told = vec![
                told(&run(reconciler.reconcile(&first, None, None))),
                told(&run(reconciler.reconcile(&second, None, None))),
            ];
            if prune {
                let resource = Belonging { uid: first.uid.clone(), owner: first.owner.clone() };
                told.push(self::told(&run(reconciler.prune(&resource))));
            }
            told
        };
        let rehearsed = play(&rehearsing(reconciler_at(&accounts, &secrets, hours)));
        prop_assert_eq!(everything(&accounts, &secrets), before);
        prop_assert_eq!(rehearsed, play(&reconciler_at(&accounts, &secrets, hours)));
    }
}
