//! Writes the suspension of an account and the end of a suspension.

use super::{Session, Writer, exactly_one};
use crate::account::{Field, FieldChange, SuspensionReason, Version};
use crate::database::sql::Value;
use crate::database::sql::fault::Fault;

const SUSPEND: &str = "UPDATE accounts SET version = version + 1, updated_at = $3, \
     suspended_at = coalesce(suspended_at, $3), suspended_reason = $4 WHERE id = $1 AND version = $2 RETURNING version";

const RESUME: &str = "UPDATE accounts SET version = version + 1, updated_at = $3, suspended_at = NULL, \
     suspended_reason = NULL WHERE id = $1 AND version = $2 RETURNING version";

impl<S: Session> Writer<'_, S> {
    pub(super) async fn suspend(&mut self, expected: Version, reason: &SuspensionReason) -> Result<(), Fault> {
        let before = self.before(expected).await?;
        let values = [self.id.as_str().into(), expected.0.into(), self.at.into(), Value::from(reason.as_str())];
        let suspended = self.session.rows(SUSPEND, &values).await?;
        exactly_one(&suspended)?;
        self.record("suspended", &[suspension_change(before.suspended_reason.as_deref(), Some(reason.as_str()))]).await
    }

    pub(super) async fn resume(&mut self, expected: Version) -> Result<(), Fault> {
        let before = self.before(expected).await?;
        let resumed = self.session.rows(RESUME, &[self.id.as_str().into(), expected.0.into(), self.at.into()]).await?;
        exactly_one(&resumed)?;
        self.record("resumed", &[suspension_change(before.suspended_reason.as_deref(), None)]).await
    }
}

/// Returns the journal's change from one suspension reason to another. Reasons are quoted; `none` means not suspended.
fn suspension_change(old: Option<&str>, new: Option<&str>) -> FieldChange {
    let shown = |reason: Option<&str>| reason.map_or_else(|| "none".to_owned(), |reason| format!("{reason:?}"));
    FieldChange { field: Field::Suspension, old: shown(old), new: shown(new) }
}
