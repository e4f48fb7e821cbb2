//! The outcome of a reconcile: the account as it is now, the changes, the next reconcile, and why the resource is not
//! Ready.

use super::repeated_drift::was_reconciled;
use super::{Done, NotReady};
use crate::account::{Account, FieldChange, Version};
use crate::api::{ACCOUNT_LABEL, ApiAccountStatus};
use crate::database::NameHolder;
use crate::secrets::is_bookkeeping;
use jiff::Timestamp;

/// The outcome of a reconcile.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The account as it is now, if it is known.
    pub account: Option<Account>,
    /// The account as the reconcile found it, before its own changes. If another writer changed the account in between,
    /// as it was after that.
    pub found: Found,
    /// The version of the Secret that is verified to be as declared.
    pub secret_version: Option<String>,
    /// Whether something else changes the Secret's `app.kubernetes.io/managed-by` label at each write; `None` if this
    /// was not observed.
    pub label_corrected: Option<bool>,
    /// The changes that were made, in order.
    pub done: Vec<Done>,
    /// The differences that are only reported, not corrected.
    pub drift: Vec<Drift>,
    /// When the next scheduled rotation is due.
    pub next_rotation: Option<Timestamp>,
    /// When to reconcile again without a notification: for a rotation, for an expiry, or because others can make
    /// changes that no notification reports.
    pub next_reconcile: Option<Timestamp>,
    /// The names of accounts that were renamed, deleted or retained. Other resources can use these names now.
    pub released_names: Vec<String>,
    /// The account that has the declared name, if the name is why the resource is not Ready. The state is that at the
    /// time of the decision.
    pub name_holder: Option<NameHolder>,
    /// Why the resource is not Ready; `None` if it is Ready.
    pub not_ready: Option<NotReady>,
}

/// The account as a reconcile found it, before its own changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Found {
    /// The account was not read.
    #[default]
    Unread,
    /// There was no account.
    Absent,
    /// The account had this version.
    At(Version),
}

impl Outcome {
    /// Returns an outcome without changes, for a resource that is not Ready for this reason.
    pub fn blocked(not_ready: NotReady) -> Self {
        Self { not_ready: Some(not_ready), ..Self::default() }
    }

    /// Records the account as an attempt reads it.
    pub(super) fn read(&mut self, account: Option<&Account>) {
        let version = |account: Option<&Account>| account.map(|account| account.version);
        if self.found == Found::Unread || version(self.account.as_ref()) != version(account) {
            self.found = version(account).map_or(Found::Absent, Found::At);
        }
        self.account = account.cloned();
    }

    /// Marks the changes that correct drift, and leaves those that follow from a change of the spec or of the keys.
    ///
    /// If `previous` says that this generation was reconciled, an update of the account can only undo another writer's
    /// change: [`Done::Updated`] becomes [`Done::DriftCorrected`]. If `previous` says that the Secret was verified with
    /// the same active key pair, an update of the Secret can only undo another writer's change: [`Done::SecretUpdated`]
    /// becomes [`Done::SecretPutBack`].
    #[must_use]
    pub fn attribute_drift(mut self, previous: Option<&ApiAccountStatus>, generation: Option<i64>) -> Self {
        if previous.is_some_and(|status| was_reconciled(status, generation)) {
            for done in &mut self.done {
                if let Done::Updated { changes } = done {
                    *done = Done::DriftCorrected { changes: std::mem::take(changes) };
                }
            }
        }
        let active = self.account.as_ref().and_then(Account::active_key).map(|key| key.id.to_string());
        let secret_was_verified = previous.is_some_and(|status| {
            status.observed_generation == generation
                && status.secret_resource_version.is_some()
                && status.active_key().map(|key| &key.id) == active.as_ref()
        });
        if secret_was_verified {
            for done in &mut self.done {
                // A missing account label is not always drift: an earlier version of this program wrote Secrets without
                // it.
                if let Done::SecretUpdated { at, parts } = done
                    && !parts.contains(&format!("label {ACCOUNT_LABEL}"))
                    && !parts.iter().all(|part| is_bookkeeping(part))
                {
                    *done = Done::SecretPutBack { at: at.clone(), parts: std::mem::take(parts) };
                }
            }
        }
        self
    }
}

/// A difference between what is declared and what was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The field of the spec; `account` for the whole account, `owner` for its owner, `keys`, or `secret`.
    pub field: String,
    /// What is declared, in words.
    pub declared: String,
    /// What was observed, in words.
    pub actual: String,
}

impl From<FieldChange> for Drift {
    fn from(change: FieldChange) -> Self {
        Self { field: change.field.to_string(), declared: change.new, actual: change.old }
    }
}
