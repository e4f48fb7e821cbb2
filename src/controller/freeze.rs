//! The freeze: the controller observes and reports, and changes nothing. It writes only statuses and events, and the
//! Lease of its leader election.
//!
//! Every external write passes this file, through the fence of the leader election (`leader/client.rs` and
//! `leader/database.rs`). So a write that does not know of the freeze is refused. The other files ask [`Freeze::is_on`]
//! to report what is left to do, instead of trying it.

use crate::api::GROUP;
use crate::database::DatabaseError;
use thiserror::Error;

/// The resource's name in paths of the API server.
const PLURAL: &str = "apiaccounts";

/// Whether the controller is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freeze {
    /// The controller only observes and reports.
    On,
    /// The controller changes what is not as declared.
    Off,
}

/// The controller is frozen, so it did not write.
#[derive(Debug, Error)]
#[error("this controller is frozen (--freeze), so it changes nothing")]
pub(super) struct Frozen;

impl Freeze {
    /// Returns whether the controller is frozen.
    pub fn is_on(self) -> bool {
        self == Self::On
    }

    /// Decides about a request to the API server that writes, by its path. A frozen controller writes the status of an
    /// `ApiAccount`, and events.
    ///
    /// # Errors
    /// [`Frozen`] for any other path.
    pub(super) fn permits_request(self, path: &str) -> Result<(), Frozen> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let is_report = matches!(
            parts[..],
            ["apis", GROUP, _, "namespaces", _, PLURAL, _, "status"]
                | ["apis", "events.k8s.io", _, "namespaces", _, "events"]
        );
        if is_report { Ok(()) } else { self.permits_change() }
    }

    /// Decides about any other write, such as a change of the account database.
    ///
    /// # Errors
    /// [`Frozen`] if the controller is frozen.
    pub(super) fn permits_change(self) -> Result<(), Frozen> {
        if self.is_on() { Err(Frozen) } else { Ok(()) }
    }

    /// Decides whether a database with these pending migrations can be used. A frozen controller does not migrate.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] if the controller is frozen and the tables are older than it needs.
    pub(super) fn permits_schema(self, pending: &[String]) -> Result<(), DatabaseError> {
        if pending.is_empty() || !self.is_on() {
            return Ok(());
        }
        Err(DatabaseError::Unavailable {
            reason: format!(
                "its tables need {}, and a frozen controller does not migrate them; end the freeze, or run `opsadmin migrate`",
                pending.join(", ")
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_controller_writes_statuses_and_events_only() {
        let account = "/apis/ops-admin.com/v1/namespaces/partners/apiaccounts/acme";
        let events = "/apis/events.k8s.io/v1/namespaces/partners/events";
        for path in [format!("{account}/status"), events.to_owned()] {
            assert!(Freeze::On.permits_request(&path).is_ok(), "{path}");
        }
        let others = [
            account.to_owned(),
            format!("{account}/scale"),
            "/apis/ops-admin.com/v1/namespaces/partners/others/acme/status".to_owned(),
            "/apis/apps/v1/namespaces/partners/apiaccounts/acme/status".to_owned(),
            "/api/v1/namespaces/partners/secrets".to_owned(),
            "/api/v1/namespaces/partners/secrets/status".to_owned(),
            format!("{events}/acme"),
            String::new(),
        ];
        for path in others {
            assert!(Freeze::On.permits_request(&path).is_err(), "{path}");
            assert!(Freeze::Off.permits_request(&path).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_frozen_controller_does_not_use_older_tables() {
        let pending = ["10 something".to_owned()];
        assert!(Freeze::On.permits_schema(&[]).is_ok() && Freeze::Off.permits_schema(&pending).is_ok());
        let refused = Freeze::On.permits_schema(&pending).unwrap_err();
        assert!(refused.is_retryable() && refused.to_string().contains("10 something"), "{refused}");
    }
}
