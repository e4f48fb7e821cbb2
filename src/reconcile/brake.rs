//! How many accounts may lose their access at once before somebody has to confirm it, and what says that one is held or
//! confirmed. Pure.

use super::{DeletionPolicy, deletion_policy};
use crate::api::{ApiAccount, ApiAccountStatus, CONFIRM_DELETION_ANNOTATION, Reason};
use crate::database::Deletions;
use jiff::Timestamp;
use std::time::Duration;

/// The time within which deletions count together.
pub const DELETION_WINDOW: Duration = Duration::from_mins(10);

/// How many may always, however few accounts there are.
pub(super) const FLOOR: usize = 5;

/// How many of this many accounts may lose their access at once, if this percentage may; `None`: all of them.
pub fn deletion_limit(accounts: usize, percent: u8) -> Option<usize> {
    (percent < 100).then(|| FLOOR.max(accounts * usize::from(percent) / 100))
}

/// Since when deletions count now.
pub fn deletions_count_since(now: Timestamp) -> Timestamp {
    now.checked_sub(DELETION_WINDOW).unwrap_or(Timestamp::MIN)
}

/// Whether so many more deletions exceed the limit, together with those of late.
pub fn exceeds_limit(Deletions { live, deleted }: Deletions, more: usize, percent: u8) -> bool {
    deletion_limit(live + deleted, percent).is_some_and(|limit| deleted + more > limit)
}

/// Whether the brake may hold the deletion of this resource: its account would lose its access, and nobody has confirmed that.
pub fn may_be_held(resource: &ApiAccount) -> bool {
    deletion_policy(&resource.spec) == Ok(DeletionPolicy::Delete) && !is_confirmed(resource)
}

/// Whether this status says that the deletion is held.
pub fn is_held(status: Option<&ApiAccountStatus>) -> bool {
    status.is_some_and(|status| status.has_reason(Reason::DeletionHeld))
}

/// Whether somebody has confirmed that the account may go.
pub fn is_confirmed(resource: &ApiAccount) -> bool {
    let mut annotations = resource.metadata.annotations.iter().flatten();
    annotations.any(|(name, value)| name == CONFIRM_DELETION_ANNOTATION && value == "true")
}

/// Whether the deletion of this resource is held until somebody confirms it, and with it every further one.
pub fn awaits_confirmation(resource: &ApiAccount) -> bool {
    resource.metadata.deletion_timestamp.is_some() && is_held(resource.status.as_ref()) && may_be_held(resource)
}
