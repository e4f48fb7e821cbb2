//! The brake: how many accounts may lose access at once without a confirmation, and whether a deletion is held or
//! confirmed. Pure.

use super::{DeletionPolicy, deletion_policy};
use crate::api::{ApiAccount, ApiAccountStatus, CONFIRM_DELETION_ANNOTATION, Reason};
use crate::database::Deletions;
use jiff::Timestamp;
use std::time::Duration;

/// The period within which deletions are counted together.
pub const DELETION_WINDOW: Duration = Duration::from_mins(10);

/// How many accounts may always lose access at once, however few accounts there are.
pub(super) const MIN_DELETION_LIMIT: usize = 5;

/// Returns how many of the accounts may lose access at once: this percentage, but at least `MIN_DELETION_LIMIT`. Returns
/// `None` if there is no limit, at 100 percent.
pub fn deletion_limit(accounts: usize, percent: u8) -> Option<usize> {
    (percent < 100).then(|| MIN_DELETION_LIMIT.max(accounts * usize::from(percent) / 100))
}

/// Returns the start of the period within which deletions are counted together now.
pub fn deletions_count_since(now: Timestamp) -> Timestamp {
    now.checked_sub(DELETION_WINDOW).unwrap_or(Timestamp::MIN)
}

/// Returns whether so many more deletions exceed the limit, together with those of late.
pub fn exceeds_limit(Deletions { live, deleted }: Deletions, more: usize, percent: u8) -> bool {
    deletion_limit(live + deleted, percent).is_some_and(|limit| deleted + more > limit)
}

/// Returns whether the brake may hold the deletion of this resource: its account would lose its access, and nobody has confirmed that.
pub fn may_be_held(resource: &ApiAccount) -> bool {
    deletion_policy(&resource.spec) == Ok(DeletionPolicy::Delete) && !is_confirmed(resource)
}

/// Returns whether this status says that the deletion is held.
pub fn is_held(status: Option<&ApiAccountStatus>) -> bool {
    status.is_some_and(|status| status.has_reason(Reason::DeletionHeld))
}

/// Returns whether a user has confirmed the deletion with the annotation.
pub fn is_confirmed(resource: &ApiAccount) -> bool {
    let mut annotations = resource.metadata.annotations.iter().flatten();
    annotations.any(|(name, value)| name == CONFIRM_DELETION_ANNOTATION && value == "true")
}

/// Returns whether the deletion of this resource is held until a user confirms it. While one deletion is held, every
/// further deletion is held too.
pub fn awaits_confirmation(resource: &ApiAccount) -> bool {
    resource.metadata.deletion_timestamp.is_some() && is_held(resource.status.as_ref()) && may_be_held(resource)
}
