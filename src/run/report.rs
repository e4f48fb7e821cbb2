//! What `plan` and `apply` report for each account. Both commands use the same types, so that a plan can be compared
//! with what `apply` did. The field names are public: docs/commands-files.md documents them.

use super::action::{Action, Change};
use crate::account::Owner;
use crate::manifests::Manifest;
use crate::reconcile::{Desired, Outcome};
use serde::Serialize;

/// The field of a result that lists the accounts. Declared accounts come first, in the order of the manifests; then
/// accounts that no manifest declares; then accounts that had to wait until another account released their name.
pub const ACCOUNTS: &str = "accounts";
/// The field of a result that counts the accounts by [`AccountResult`].
pub const SUMMARY: &str = "summary";

/// What is done, or would be done, for one account.
#[derive(Debug, PartialEq, Serialize)]
pub struct AccountReport {
    /// The resource's namespace.
    pub namespace: String,
    /// The resource's name.
    pub name: String,
    /// `FILE:LINE:COLUMN` of its manifest; `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// The overall result for the account.
    pub result: AccountResult,
    /// The actions, in order.
    pub actions: Vec<Action>,
    /// The changes that give the account more rights than before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Why the account is not, or not yet, in sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// The differences that are not corrected, because the resource is only observed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Change>,
}

/// The overall result for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountResult {
    /// The account is created.
    Create,
    /// An unowned account is adopted.
    Adopt,
    /// A deleted or retained account is restored.
    Restore,
    /// The account gets a new key pair.
    Rotate,
    /// Settings of the account, its keys or its Secret are changed in another way.
    Change,
    /// The account is deleted.
    Delete,
    /// The account is not in sync, and the change is refused.
    Refuse,
    /// The account is in sync.
    Unchanged,
}

/// The condition that the resource has, or would have, on a cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Condition {
    /// The reason of the condition.
    pub reason: &'static str,
    /// The message of the condition.
    pub message: String,
}

/// The number of accounts for each [`AccountResult`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// [`AccountResult::Create`].
    pub create: usize,
    /// [`AccountResult::Adopt`].
    pub adopt: usize,
    /// [`AccountResult::Restore`].
    pub restore: usize,
    /// [`AccountResult::Rotate`].
    pub rotate: usize,
    /// [`AccountResult::Change`].
    pub change: usize,
    /// [`AccountResult::Delete`].
    pub delete: usize,
    /// [`AccountResult::Refuse`].
    pub refuse: usize,
    /// [`AccountResult::Unchanged`].
    pub unchanged: usize,
    /// No Secret was read, so a missing or wrong Secret is not in the plan.
    #[serde(rename = "secretsNotCompared", skip_serializing_if = "std::ops::Not::not")]
    pub secrets_not_compared: bool,
}

impl AccountReport {
    /// Returns the report of an account that a manifest declares.
    pub fn declared(manifest: &Manifest, outcome: &Outcome) -> Self {
        let manifest_place = Some(manifest.place.to_string());
        Self::of(&manifest.desired.owner, manifest_place, Some(&manifest.desired), outcome)
    }

    /// Returns the report of an account that no manifest declares.
    pub fn undeclared(owner: &Owner, outcome: &Outcome) -> Self {
        Self::of(owner, None, None, outcome)
    }

    fn of(owner: &Owner, manifest: Option<String>, desired: Option<&Desired>, outcome: &Outcome) -> Self {
        let actions: Vec<Action> = outcome.done.iter().map(|done| Action::of(done, desired)).collect();
        let condition = outcome.not_ready.as_ref();
        let is_refused = condition.is_some_and(|not_ready| !not_ready.is_intended());
        Self {
            namespace: owner.namespace.clone(),
            name: owner.name.clone(),
            manifest,
            result: AccountResult::of(&actions, is_refused),
            warnings: actions.iter().flat_map(Action::warnings).collect(),
            actions,
            condition: condition
                .map(|not_ready| Condition { reason: not_ready.reason().as_str(), message: not_ready.to_string() }),
            drift: outcome
                .drift
                .iter()
                .map(|drift| Change {
                    field: drift.field.clone(),
                    old: drift.actual.clone(),
                    new: drift.declared.clone(),
                })
                .collect(),
        }
    }
}

impl AccountResult {
    fn of(actions: &[Action], is_refused: bool) -> Self {
        if is_refused {
            return Self::Refuse;
        }
        let rotates = || actions.iter().any(|action| matches!(action, Action::Rotate { .. }));
        match actions.first() {
            None => Self::Unchanged,
            Some(Action::Create { .. }) => Self::Create,
            Some(Action::Adopt) => Self::Adopt,
            Some(Action::Restore { .. }) => Self::Restore,
            Some(Action::Delete) => Self::Delete,
            Some(_) if rotates() => Self::Rotate,
            Some(_) => Self::Change,
        }
    }
}

impl Summary {
    /// Counts one more account with this result.
    pub fn count(&mut self, result: AccountResult) {
        *self.of(result) += 1;
    }

    fn of(&mut self, result: AccountResult) -> &mut usize {
        match result {
            AccountResult::Create => &mut self.create,
            AccountResult::Adopt => &mut self.adopt,
            AccountResult::Restore => &mut self.restore,
            AccountResult::Rotate => &mut self.rotate,
            AccountResult::Change => &mut self.change,
            AccountResult::Delete => &mut self.delete,
            AccountResult::Refuse => &mut self.refuse,
            AccountResult::Unchanged => &mut self.unchanged,
        }
    }

    /// Returns the number of all accounts.
    pub fn total(&self) -> usize {
        self.changes() + self.refuse + self.unchanged
    }

    /// Returns the number of accounts for which something is done.
    pub fn changes(&self) -> usize {
        self.create + self.adopt + self.restore + self.rotate + self.change + self.delete
    }
}
