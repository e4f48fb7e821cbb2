//! The check, before each change, that the resource still declares what was read.
//!
//! A controller that has lost its connection to the API server works with an old declaration, while another controller
//! executes the present one. Without this check, each would undo the other's changes, such as a revocation, a rotation
//! or a new account.

use super::Desired;
use crate::account::Owner;
use crate::secrets::ResourceIdentity;
use async_trait::async_trait;
use thiserror::Error;

/// The source of declarations, such as the API server.
#[async_trait]
pub trait Declarations: Send + Sync {
    /// Confirms that the resource still declares `desired`.
    ///
    /// # Errors
    /// [`Unconfirmed`] if the resource declares something else, or if this cannot be checked.
    async fn confirm(&self, desired: &Desired) -> Result<(), Unconfirmed>;

    /// Confirms that the resource is still being deleted; for an identity without a UID, that the resource still does
    /// not exist.
    ///
    /// # Errors
    /// [`Unconfirmed`] if this is not the case, or if it cannot be checked.
    async fn confirm_deletion(&self, resource: &ResourceIdentity) -> Result<(), Unconfirmed>;

    /// Records that another writer changed this owner's account or Secret during the reconcile. The other writer may
    /// have seen a newer declaration, so the next check must not rely on an earlier read.
    fn overtaken(&self, _owner: &Owner) {}
}

/// The declaration may have changed since it was read, so nothing may be changed for it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Unconfirmed(pub String);

/// The source of declarations for a run that reads and applies manifests: the declarations do not change during the
/// run.
#[derive(Debug, Clone, Copy)]
pub struct AlwaysCurrent;

#[async_trait]
impl Declarations for AlwaysCurrent {
    async fn confirm(&self, _: &Desired) -> Result<(), Unconfirmed> {
        Ok(())
    }

    async fn confirm_deletion(&self, _: &ResourceIdentity) -> Result<(), Unconfirmed> {
        Ok(())
    }
}
