//! The brake: how many accounts may lose access at once without a confirmation, and whether a deletion is held or
//! confirmed. Pure.

use super::{DeletionPolicy, deletion_policy};
use crate::api::{ApiAccount, ApiAccountStatus, CONFIRM_DELETION_ANNOTATION, Reason, condition};
use jiff::Timestamp;
use std::time::Duration;

/// The period within which deletions are counted together.
pub const DELETION_WINDOW: Duration = Duration::from_mins(10);

/// How many accounts may always lose access at once, however few accounts there are.
pub(super) const FLOOR: usize = 5;

/// Returns how many of the accounts may lose access at once: this percentage, but at least `FLOOR`. Returns `None` if
/// there is no limit, at 100 percent.
pub fn deletion_limit(accounts: usize, percent: u8) -> Option<usize> {
    (percent < 100).then(|| FLOOR.max(accounts * usize::from(percent) / 100))
}

/// Returns the start of the period within which deletions are counted together now.
pub fn deletions_count_since(now: Timestamp) -> Timestamp {
    now.checked_sub(DELETION_WINDOW).unwrap_or(Timestamp::MIN)
}

/// Returns whether this status says that the deletion is held.
pub fn is_held(status: Option<&ApiAccountStatus>) -> bool {
    let mut conditions = status.into_iter().flat_map(|status| &status.conditions);
    conditions.any(|found| found.type_ == condition::READY && found.reason == Reason::DeletionHeld.as_str())
}

/// Returns whether a user has confirmed the deletion with the annotation.
pub fn is_confirmed(resource: &ApiAccount) -> bool {
    let mut annotations = resource.metadata.annotations.iter().flatten();
    annotations.any(|(name, value)| name == CONFIRM_DELETION_ANNOTATION && value == "true")
}

/// Returns whether the deletion of this resource is held until a user confirms it. While one deletion is held, every
/// further deletion is held too.
pub fn awaits_confirmation(resource: &ApiAccount) -> bool {
    resource.metadata.deletion_timestamp.is_some()
        && deletion_policy(&resource.spec) == Ok(DeletionPolicy::Delete)
        && is_held(resource.status.as_ref())
        && !is_confirmed(resource)
}
