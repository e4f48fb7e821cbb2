//! Describes differences in words, for resources that only observe and for accounts that could be adopted. Pure.

use super::outcome::Drift;
use super::{AccountPlan, Desired, Plan, SecretPlan};
use crate::account::{Account, Life, changes};

/// Describes what the plan would change. `named` is the account that has the declared name while the resource has none.
pub(super) fn drift(plan: &Plan, desired: &Desired, named: Option<&Account>) -> Vec<Drift> {
    let mut drift = match (&plan.account, named) {
        (AccountPlan::Keep, _) => Vec::new(),
        (AccountPlan::Update { changes, restore }, _) => {
            let gone = restore.then(|| drift_of("account", "declared", "deleted or retained"));
            gone.into_iter().chain(changes.iter().cloned().map(Drift::from)).collect()
        }
        (AccountPlan::Create { .. } | AccountPlan::Unproven, None) => vec![drift_of("account", "present", "absent")],
        (AccountPlan::Create { .. } | AccountPlan::Unproven, Some(account)) => {
            let owner = account.owner.as_ref().filter(|_| account.life == Life::Live);
            let owner = owner.map_or_else(|| "none".to_owned(), ToString::to_string);
            let mut drift = vec![drift_of("owner", &desired.owner.to_string(), &owner)];
            drift.extend(changes(&account.settings, &desired.settings).into_iter().map(Drift::from));
            drift
        }
    };
    let secret = &desired.secret.at.name;
    match &plan.secret {
        SecretPlan::Keep | SecretPlan::Postpone => {}
        SecretPlan::Create => drift.push(drift_of("secret", secret, "absent")),
        SecretPlan::Undecided => drift.push(drift_of("secret", secret, "other data")),
        SecretPlan::Replace { parts } => drift.push(drift_of("secret", secret, &format!("other {}", parts.join(", ")))),
        SecretPlan::Refuse { holder } => drift.push(drift_of("secret", secret, holder)),
    }
    drift.extend(plan.remove.iter().map(|stale| drift_of("secret", "absent", &stale.name)));
    drift
}

fn drift_of(field: &str, declared: &str, actual: &str) -> Drift {
    Drift { field: field.to_owned(), declared: declared.to_owned(), actual: actual.to_owned() }
}

/// Describes how an account that could be adopted differs, as the end of a sentence.
pub(super) fn difference(account: &Account, desired: &Desired) -> String {
    let changes = changes(&account.settings, &desired.settings);
    if changes.is_empty() {
        return " and that is set as declared".to_owned();
    }
    let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
    format!(" and that would be changed ({})", changes.join("; "))
}
