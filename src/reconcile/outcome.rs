//! What came of a reconcile: what is known now, what was done, what is next, and why the resource is not Ready.

use super::repeated_drift::was_reconciled;
use super::{Done, NotReady};
use crate::account::{Account, FieldChange};
use crate::api::{ACCOUNT_LABEL, ApiAccountStatus};
use crate::database::NameHolder;
use crate::secrets::is_bookkeeping;
use jiff::Timestamp;

/// What came of a reconcile.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The account as it is now, if it is known.
    pub account: Option<Account>,
    /// The version of the Secret that is now verified to be right.
    pub secret_version: Option<String>,
    /// Whether something else sets the Secret's common label each time that the Secret is written; `None` if that was not
    /// looked at.
    pub relabelled: Option<bool>,
    /// What was done, in order.
    pub done: Vec<Done>,
    /// What differs and was only to be told.
    pub drift: Vec<Drift>,
    /// When the keys will be rotated by themselves.
    pub next_rotation: Option<Timestamp>,
    /// When to look again though nothing is told: at a rotation or an expiry, or for what others may do unseen.
    pub next_look: Option<Timestamp>,
    /// Account names that are free for others now: of accounts that were renamed, deleted or retained.
    pub released_names: Vec<String>,
    /// The account that has the declared name, as it was when this outcome was decided, if the name is why the resource is not
    /// Ready.
    pub name_holder: Option<NameHolder>,
    /// Why not everything is as declared; `None` if it is.
    pub not_ready: Option<NotReady>,
}

impl Outcome {
    /// Nothing done, for this reason.
    pub fn blocked(not_ready: NotReady) -> Self {
        Self { not_ready: Some(not_ready), ..Self::default() }
    }

    /// Tells what somebody else has changed from what follows from a change of the spec or of the keys: of a resource that
    /// `previous` says was reconciled as it is now, nothing but somebody else's change can have been updated; and of a Secret
    /// that it says was right for these keys, nothing but somebody else's change can have been put right.
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
        let was_right = previous.is_some_and(|status| {
            status.observed_generation == generation
                && status.secret_resource_version.is_some()
                && status.active_key().map(|key| &key.id) == active.as_ref()
        });
        if was_right {
            for done in &mut self.done {
                // Of a Secret without our label, an upgrade from a version that had none cannot be told from others' hands.
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

/// Something that is not as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The field of the spec; or `account`, for all of it, or `secret`.
    pub field: String,
    /// What is declared, in words.
    pub declared: String,
    /// What is there, in words.
    pub actual: String,
}

impl From<FieldChange> for Drift {
    fn from(change: FieldChange) -> Self {
        Self { field: change.field.to_string(), declared: change.new, actual: change.old }
    }
}
